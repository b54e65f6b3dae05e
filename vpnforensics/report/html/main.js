// The case, or the evidence of a flow, as the address says: #flows, #f61, #print.
const PRINTED_FLOWS = 200;
const page = document.getElementById("evidence");
const title = document.title;
const go = (f) => { location.hash = F.id[f]; };
const link = (f) => el("a", { href: `#${F.id[f]}` }, F.id[f]);
const at = (id) => document.getElementById(id);

at("clocks").append(alignmentPicture());
at("timeline").append(timelinePicture(go));

const perTunnel = T.map(() => 0);
F.tunnel.forEach((t) => { if (t >= 0) perTunnel[t]++; });
const numeric = (label, value, cell) => ({ label, value, cell: cell ?? ((row) => count(value(row))), numeric: true });
new RowTable(at("tunnels"), at("tunnels-title").textContent, T.map((_, t) => t), [
  { label: W.tunnel, value: (t) => t, cell: (t) => T[t].id, words: (t) => T[t].id },
  { label: W.client, value: (t) => T[t].client },
  ...(T.some((tunnel) => tunnel.user) ? [{ label: W.user, value: (t) => T[t].user, cell: (t) => orNone(T[t].user) }] : []),
  { label: W.protocol, value: (t) => T[t].protocol },
  { label: W.outer_length, value: (t) => T[t].length, cell: (t) => orNone(T[t].length) },
  numeric(W.up, (t) => T[t].up), numeric(W.down, (t) => T[t].down), numeric(W.flows, (t) => perTunnel[t]),
  numeric(W.explained, (t) => T[t].share, (t) => (T[t].share === null ? "–" : `${(100 * T[t].share).toFixed(1)} %`)),
  { label: W.first, value: (t) => T[t].first, cell: (t) => utc(BigInt(T[t].first)).slice(0, 23) },
]);

const flows = new RowTable(at("flows"), at("flows-title").textContent, F.id.map((_, f) => f), [
  { label: W.flow, value: (f) => f, cell: link, words: (f) => F.id[f] },
  { label: W.verdict, value: (f) => W[F.verdict[f]] },
  { label: W.tunnel, value: (f) => (F.tunnel[f] < 0 ? null : F.tunnel[f]), cell: (f) => tunnelOf(f)?.id ?? "–", words: (f) => tunnelOf(f)?.id },
  { label: W.client, value: (f) => tunnelOf(f)?.user || (tunnelOf(f)?.client ?? ""), words: (f) => `${tunnelOf(f)?.client ?? ""} ${tunnelOf(f)?.user ?? ""}`, cell: (f) => orNone(tunnelOf(f)?.user || (tunnelOf(f)?.client ?? "")) },
  { label: W.proto, value: (f) => text(F.proto[f]) },
  { label: W.from, value: (f) => text(F.src[f]) },
  { label: W.to, value: (f) => text(F.dst[f]) },
  { label: W.name, value: namesOf, cell: (f) => orNone(text(F.names[f][0] ?? -1)) },
  numeric(W.packets, (f) => F.packets[f]), numeric(W.bytes, (f) => F.bytes[f]),
  numeric(W.llr, (f) => F.llr[f], (f) => ratio(F.llr[f], F.bounded[f])),
  { label: W.support, value: (f) => text(F.verbal[f]), cell: (f) => orNone(text(F.verbal[f]).replace(" support for", " for")) },
  numeric(W.error, (f) => F.error[f], (f) => (F.error[f] === null ? "–" : digits(F.error[f], 2))),
  { label: W.first, value: (f) => F.first[f].padStart(20, "0"), cell: (f) => utc(BigInt(F.first[f])).slice(11, 26), words: (f) => utc(BigInt(F.first[f])) },
]);
flows.tools.append(el("a", { href: "#print", class: "button" }, W.print_found));

function steps(f) {
  const here = flows.found.indexOf(f);
  const neighbour = (by, words) => {
    const other = here < 0 ? undefined : flows.found[here + by];
    return other === undefined ? null : el("a", { href: `#${F.id[other]}` }, `${words}: ${F.id[other]}`);
  };
  return el("nav", { class: "steps", "aria-label": F.id[f] }, el("a", { href: "#flows" }, W.back),
    neighbour(-1, W.previous), neighbour(1, W.next), el("button", { type: "button", click: () => print() }, W.print_now));
}

function forPrint() {
  const chosen = flows.found.filter((f) => F.tunnel[f] >= 0).slice(0, PRINTED_FLOWS);
  return [
    el("nav", { class: "steps" }, el("a", { href: "#flows" }, W.back), el("button", { type: "button", click: () => print() }, W.print_now)),
    el("p", { tabindex: "-1" }, fill(W.print_most, { n: count(chosen.length) })), ...chosen.map(evidence),
  ];
}

function show() {
  const name = location.hash.slice(1);
  const flow = number.get(name), isFlow = /^f\d+$/.test(name), alone = isFlow || name === "print";
  for (const section of document.querySelectorAll("main > section")) section.hidden = alone;
  page.hidden = !alone;
  document.title = isFlow ? `${name} – ${title}` : title;
  if (name === "print") page.replaceChildren(...forPrint());
  else if (isFlow && flow === undefined) page.replaceChildren(el("p", {}, fill(W.unknown_flow, { flow: name })));
  else if (isFlow) page.replaceChildren(steps(flow), evidence(flow));
  else {
    page.replaceChildren();
    if (name) at(name)?.scrollIntoView();
    return;
  }
  scrollTo(0, 0);
  page.querySelector("[tabindex='-1']")?.focus();
}
addEventListener("hashchange", show);
show();
