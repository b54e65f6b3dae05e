// Data, words, elements and numbers. Text enters the page as text alone: nothing here takes it for HTML.
const D = JSON.parse(document.getElementById("data").textContent);
const W = D.words, F = D.flows, T = D.tunnels;
const LOCALE = document.documentElement.lang;

const text = (n) => (n < 0 ? "" : D.texts[n]);
const fill = (sentence, values) => sentence.replace(/\{(\w+)\}/g, (_, key) => String(values[key]));

function made(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value !== null) node.setAttribute(key, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null));
  return node;
}
const el = (name, attributes = {}, ...children) => made(document.createElement(name), attributes, children);
const svg = (name, attributes = {}, ...children) =>
  made(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

const count = (n) => n.toLocaleString(LOCALE);
const digits = (x, most) => x.toLocaleString(LOCALE, { maximumSignificantDigits: most });
const ratio = (llr, bounded) =>
  llr === null ? "–" : `${bounded ? "≥" : ""}${llr < 0 ? "" : "+"}${llr.toFixed(1)}`;
const orNone = (value) => (value === null || value === "" ? "–" : value);

function span(ns) {
  const size = Math.abs(ns);
  if (size === 0) return "0 s";
  for (const [limit, unit, name] of [[1e3, 1, "ns"], [1e6, 1e3, "µs"], [1e9, 1e6, "ms"]])
    if (size < limit) return `${digits(ns / unit, 3)} ${name}`;
  return `${digits(ns / 1e9, 4)} s`;
}

// Nanoseconds since the epoch are too long for a number, so they come as text.
function utc(ns) {
  const second = ns / 1000000000n, rest = ns % 1000000000n;
  const date = new Date(Number(second) * 1000);
  if (Number.isNaN(date.getTime()) || ns < 0n) return `${ns} ns`;
  return `${date.toISOString().slice(0, 19).replace("T", " ")}.${String(rest).padStart(9, "0")}`;
}

function median(values) {
  if (!values.length) return null;
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

const namesOf = (f) => F.names[f].map(text).join(" ");
const tunnelOf = (f) => (F.tunnel[f] < 0 ? null : T[F.tunnel[f]]);
const number = new Map(F.id.map((id, f) => [id, f]));

// A table without search, for pages that hold few rows.
function plainTable(caption, headings, rows, numeric = []) {
  const side = (k) => ({ class: numeric.includes(k) ? "number" : null });
  const head = el("tr", {}, headings.map((label, k) => el("th", { scope: "col", ...side(k) }, label)));
  const body = rows.map((row) => el("tr", {}, row.map((cell, k) => el("td", side(k), cell))));
  const table = el("table", {}, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, body));
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption }, table);
}
