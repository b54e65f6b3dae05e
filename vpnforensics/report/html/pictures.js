// Pictures drawn from the numbers. Marks, heights and hatching say what colours say.
const WIDTH = 760;

function ticks(low, high, most) {
  const raw = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * power).find((each) => each >= raw);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9; k++) found.push(k * step || 0); // no -0
  return found;
}

const unitOf = (largest) => [[1e3, "µs"], [1e6, "ms"]].find(([unit]) => largest < 3e3 * unit) ?? [1e9, "s"];

// Axes with room for labels; x and y turn values into places.
class Axes {
  constructor(alt, height, [xLow, xHigh], [yLow, yHigh], labels) {
    this.left = labels.left ?? 62;
    this.box = [this.left, 12, WIDTH - 12, height - 40];
    const [left, top, right, bottom] = this.box;
    this.x = (v) => left + ((v - xLow) / (xHigh - xLow || 1)) * (right - left);
    this.y = (v) => bottom - ((v - yLow) / (yHigh - yLow || 1)) * (bottom - top);
    this.root = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": alt });
    this.add("line", { x1: left, y1: bottom, x2: right, y2: bottom, class: "axis" });
    for (const v of labels.xTicks ?? ticks(xLow, xHigh, 8)) {
      this.add("line", { x1: this.x(v), y1: bottom, x2: this.x(v), y2: bottom + 4, class: "axis" });
      this.write(this.x(v), bottom + 16, digits(v, 6), "middle");
    }
    this.write((left + right) / 2, bottom + 34, labels.x, "middle", "label");
    if (labels.y === undefined) return;
    this.add("line", { x1: left, y1: top, x2: left, y2: bottom, class: "axis" });
    for (const v of ticks(yLow, yHigh, 5)) {
      this.add("line", { x1: left - 4, y1: this.y(v), x2: left, y2: this.y(v), class: "axis" });
      this.write(left - 7, this.y(v) + 4, digits(v, 6), "end");
    }
    const label = this.write(0, 0, labels.y, "middle", "label");
    label.setAttribute("transform", `translate(14 ${(top + bottom) / 2}) rotate(-90)`);
  }

  add(name, attributes, ...children) {
    return this.root.appendChild(svg(name, attributes, ...children));
  }

  write(x, y, words, anchor = "start", kind = "tick") {
    return this.add("text", { x, y, "text-anchor": anchor, class: kind }, words);
  }

  // Triangles that point where packets go, as one path.
  marks(points, up) {
    const [left, top, right, bottom] = this.box, way = up ? -1 : 1;
    const d = points
      .map(([x, y]) => [this.x(x), this.y(y)])
      .filter(([x, y]) => x >= left && x <= right && y >= top && y <= bottom)
      .map(([x, y]) => `M${(x - 2.2).toFixed(1)} ${(y - way * 2).toFixed(1)}h4.4l-2.2 ${4 * way}z`);
    this.add("path", { d: d.join(""), class: up ? "up" : "down" });
  }

  line(x1, y1, x2, y2, kind) {
    return this.add("line", { x1: this.x(x1), y1: this.y(y1), x2: this.x(x2), y2: this.y(y2), class: kind });
  }
}

// A legend as a list below the picture: [class of the mark, shape, words].
const SHAPES = { up: "M1 11h12l-6-10z", down: "M1 1h12l-6 10z", line: "M0 6h14", bar: "M1 1h12v10h-12z" };
const legend = (entries) =>
  el("ul", { class: "legend" }, entries.map(([kind, shape, words, fill = null]) =>
    el("li", {}, svg("svg", { viewBox: "0 0 14 12", "aria-hidden": "true" }, svg("path", { d: SHAPES[shape], class: kind, fill })), words)));

const figure = (picture, entries, ...captions) =>
  el("figure", {}, picture.root, legend(entries), captions.filter(Boolean).map((each) => el("figcaption", {}, each)));

function alignmentPicture() {
  const a = D.alignment;
  if (!a) return el("p", {}, W.no_alignment);
  const [unit, name] = unitOf(Math.max(...a.limits_ns.map(Math.abs)));
  const limits = a.limits_ns.map((v) => v / unit), seconds = Math.max(...a.line_s, 1e-6);
  const axes = new Axes(fill(W.alignment_alt, { n: count(a.up.length) }), 330, [0, seconds], limits,
    { x: W.alignment_time, y: `${fill(W.alignment_axis, { offset: a.offset_s })}, ${name}` });
  const line = a.line_ns.map((v) => v / unit), [low, high] = a.interval_ns.map((v) => v / unit);
  const corner = (k, v) => `${axes.x(a.line_s[k])},${axes.y(Math.min(Math.max(line[k] + v, limits[0]), limits[1]))}`;
  axes.add("polygon", { points: [corner(0, low), corner(1, low), corner(1, high), corner(0, high)].join(" "), class: "interval" });
  for (const up of [1, 0]) {
    const points = [];
    a.up.forEach((way, n) => way === up && points.push([a.at_ms[n] / 1e3, a.difference_ns[n] / unit]));
    axes.marks(points, up === 1);
  }
  axes.line(a.line_s[0], line[0], a.line_s[1], line[1], "ink");
  return figure(axes,
    [["up", "up", fill(W.count_up, { n: count(a.count_up) })], ["down", "down", fill(W.count_down, { n: count(a.count_down) })],
      ["ink", "line", fill(W.alignment_line, { drift: a.drift_ppm })], ["interval", "bar", W.alignment_interval]],
    a.beyond ? fill(W.alignment_beyond, { n: count(a.beyond) }) : "");
}

const LANE = 34, LEAST_LANE_ROWS = 4;

function timelinePicture(open) {
  const { lanes, bars, hidden } = D.timeline;
  if (!lanes.length) return el("p", {}, W.none);
  const seconds = Math.max(...bars.map((bar) => bar[4]), 1e-3);
  const start = F.first.reduce((least, ns) => (BigInt(ns) < least ? BigInt(ns) : least), BigInt(F.first[0]));
  const alt = fill(W.timeline_alt, { n: count(bars.length), lanes: lanes.length, seconds: digits(seconds, 4) });
  const axes = new Axes(alt, 60 + LANE * lanes.length, [0, seconds], [0, lanes.length],
    { left: 205, x: fill(W.timeline_axis, { start: `${utc(start).slice(0, 19)} UTC` }) });
  const [, top] = axes.box;
  lanes.forEach(([t, , flows], n) => {
    const whose = t < 0 ? W.not_in_tunnel : `${T[t].id}  ${T[t].user || T[t].client}`;
    axes.write(axes.left - 8, top + LANE * (n + 0.5) + 4, `${whose.length > 27 ? `${whose.slice(0, 26)}…` : whose} (${count(flows)})`, "end", "label");
    if (n) axes.add("line", { x1: axes.left, x2: WIDTH - 12, y1: top + LANE * n, y2: top + LANE * n, class: "grid" });
  });
  for (const [f, lane, row, first, last] of bars) {
    const rows = Math.max(lanes[lane][1], LEAST_LANE_ROWS), height = (0.84 * LANE) / rows;
    const left = axes.x(first), width = Math.max(axes.x(last) - left, 1.2);
    axes.add("rect", {
      x: left.toFixed(1), y: (top + LANE * lane + 0.08 * LANE + row * height).toFixed(2), width: width.toFixed(1),
      height: (height * 0.85).toFixed(2), class: lanes[lane][0] < 0 ? "loose" : "up", "data-flow": f,
    }, svg("title", {}, `${F.id[f]} ${text(F.dst[f])} ${namesOf(f)}`));
  }
  axes.root.addEventListener("click", (event) => {
    const flow = event.target.getAttribute("data-flow");
    if (flow !== null) open(Number(flow));
  });
  axes.root.classList.add("opens");
  return figure(axes, [], hidden ? fill(W.timeline_hidden, { n: count(hidden) }) : "");
}

// LLRs of linked flows with other tunnels; of which flow each is, so that a flow can be left out.
let falsePairs = null;
function knownFalse() {
  falsePairs ??= Object.entries(D.scores).flatMap(([f, rows]) =>
    F.tunnel[f] < 0 ? [] : rows.filter(([t, llr]) => t !== F.tunnel[f] && llr !== null).map(([, llr]) => [Number(f), llr]));
  return falsePairs;
}

function nullsPicture(f) {
  const mine = (D.scores[f] ?? []).filter(([, llr]) => llr !== null);
  if (!mine.length) return null;
  const nulls = knownFalse().filter(([flow]) => flow !== f).map(([, llr]) => llr);
  let low = Math.min(...mine.map(([, llr]) => llr)), high = Math.max(...mine.map(([, llr]) => llr));
  for (const llr of nulls) [low, high] = [Math.min(low, llr), Math.max(high, llr)];
  [low, high] = [low - 0.25, high + 0.25];
  const bins = new Array(60).fill(0);
  for (const llr of nulls) bins[Math.min(Math.floor((60 * (llr - low)) / (high - low)), 59)]++;
  const top = Math.max(...bins, 1);
  const told = mine.map(([t, llr, bounded]) => `${T[t].id}: ${ratio(llr, bounded)}`);
  const alt = fill(W.nulls_alt, { n: count(nulls.length), low: low.toFixed(1), high: high.toFixed(1), mine: told.join(", ") });
  const axes = new Axes(alt, 230, [low, high], [0, top], { x: W.llr_axis, y: W.pairs_axis });
  const wide = (high - low) / 60;
  bins.forEach((n, k) => n && axes.add("rect", {
    x: axes.x(low + k * wide), y: axes.y(n), width: axes.x(low + wide) - axes.x(low), height: axes.y(0) - axes.y(n), class: "loose",
  }));
  axes.line(0, 0, 0, top, "zero");
  const entries = [["loose", "bar", `${W.known_false}: ${count(nulls.length)}`]];
  mine.forEach(([t, llr], n) => {
    const own = t === F.tunnel[f];
    axes.line(llr, 0, llr, top, own ? "own" : "other");
    entries.push([own ? "own" : "other", "line", `${told[n]}, ${own ? W.its_link : W.other_candidate}`]);
  });
  return figure(axes, entries, fill(W.nulls_text, { n: count(nulls.length) }));
}

const DRAWN_PAIRS = 40;

function pairsPicture(f, packets) {
  const drawn = packets.rows.slice(0, DRAWN_PAIRS);
  const tallest = Math.max(...drawn.map((row) => Math.max(row.inner, row.outer ?? 0)));
  const gap = 0.16 * tallest, reach = tallest + gap;
  const axes = new Axes(fill(W.pairs_alt, { shown: drawn.length }), 300, [-0.7, Math.max(drawn.length, 4) - 0.3], [-reach, reach],
    { x: W.pairs_in_order, xTicks: [] });
  axes.add("defs", {}, svg("pattern", { id: `hatch-${f}`, width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    svg("rect", { width: 5, height: 5, class: "down" }), svg("line", { x1: 0, y1: 0, x2: 0, y2: 5, class: "hatch" })));
  const wide = Math.min(axes.x(0.62) - axes.x(0), 26);
  const bar = (n, up, from, to, faint) => {
    const [top, bottom] = [axes.y(Math.max(from, to)), axes.y(Math.min(from, to))];
    axes.add("rect", { x: axes.x(n) - wide / 2, y: top, width: wide, height: bottom - top, class: (up ? "up" : "hatched") + (faint ? " faint" : ""), fill: up ? null : `url(#hatch-${f})` });
  };
  // Where the tunnel carried packets of one direction in another order, the lines cross.
  const place = new Map();
  for (const up of [true, false]) {
    const mine = drawn.map((row, n) => [row, n]).filter(([row]) => row.up === up && row.outer !== null);
    const order = mine.map(([row, n]) => [row.outerAt, n]).sort(([a], [b]) => a - b);
    order.forEach(([, n], k) => place.set(n, mine[k][1]));
  }
  drawn.forEach((row, n) => {
    bar(n, row.up, gap, gap + row.inner, false);
    if (row.outer === null) axes.write(axes.x(n), axes.y(-gap) + 4, "×", "middle", "label");
    else {
      bar(place.get(n), row.up, -gap, -gap - row.outer, true);
      axes.line(n, gap, place.get(n), -gap, row.up ? "upline" : "downline");
    }
  });
  const marks = ticks(0, tallest, 2).filter((v) => v > 0);
  for (const v of marks) for (const sign of [1, -1]) axes.write(axes.left - 7, axes.y(sign * (gap + v)) + 4, digits(v, 5), "end");
  for (const [sign, label] of [[1, W.inner_axis], [-1, W.outer_axis]])
    axes.write(0, 0, label, "middle", "label").setAttribute("transform", `translate(14 ${axes.y((sign * reach) / 2)}) rotate(-90)`);
  for (const sign of [1, -1]) axes.line(-0.7, sign * gap, Math.max(drawn.length, 4) - 0.3, sign * gap, "axis");
  const entries = [["up", "bar", W.up], ["hatched", "bar", W.down, `url(#hatch-${f})`]];
  if (drawn.some((row) => row.outer === null)) entries.push(["none", "bar", `× ${W.no_outer}`]);
  return figure(axes, entries,
    fill(W.pairs_text, { shown: count(drawn.length), all: count(packets.all), found: count(packets.found) }));
}

function delaysPicture(packets) {
  const rows = packets.rows.filter((row) => row.delay !== null);
  if (!rows.length || !D.law) return null;
  const delays = rows.map((row) => row.delay), law = D.law.median_ns;
  const low = Math.min(0, ...delays), high = Math.max(...delays, ...law) * 1.05;
  const [unit, name] = unitOf(Math.max(high, -low));
  const seconds = Math.max(...rows.map((row) => row.since / 1e9), 1e-6);
  const alt = fill(W.delays_alt, { low: span(Math.min(...delays)), high: span(Math.max(...delays)) });
  const axes = new Axes(alt, 240, [0, seconds], [low / unit, high / unit], { x: W.time_axis, y: `${W.delay_axis}, ${name}` });
  for (const up of [true, false])
    axes.marks(rows.filter((row) => row.up === up).map((row) => [row.since / 1e9, row.delay / unit]), up);
  axes.line(0, law[0] / unit, seconds, law[0] / unit, "upline");
  axes.line(0, law[1] / unit, seconds, law[1] / unit, "downline");
  const middle = (up) => median(rows.filter((row) => row.up === up).map((row) => row.delay));
  const told = (ns) => (ns === null ? "–" : span(ns));
  return figure(axes, [["up", "up", W.up], ["down", "down", W.down]],
    fill(W.delays_text, { up: told(middle(true)), down: told(middle(false)), law_up: span(law[0]), law_down: span(law[1]) }));
}

const SIDES = [["inner", "up"], ["outer", "down"]];
const sidesLegend = (drawn) =>
  SIDES.filter(([side]) => drawn[side].length).map(([side, mark]) => [mark, mark, side === "inner" ? W.inner_packets : W.outer_packets]);

// Points of both sides in one picture: the flow's packets as one mark, the outer ones as the other.
function sidesPicture(drawn, alt, labels, words, limits) {
  const every = [...drawn.inner, ...drawn.outer];
  const seconds = Math.max(...every.map(([x]) => x), 1e-6);
  const axes = new Axes(alt, 240, [Math.min(0, ...every.map(([x]) => x)), seconds], limits, labels);
  for (const [side, mark] of SIDES) axes.marks(drawn[side], mark === "up");
  return figure(axes, sidesLegend(drawn), words);
}

function idsPicture(packets) {
  const drawn = {};
  for (const [side] of SIDES) {
    const known = packets.rows.filter((row) => (row[`${side}_ip_id`] ?? null) !== null);
    drawn[side] = known.map((row) => [(side === "inner" ? row.since : row.outerAt) / 1e9, row[`${side}_ip_id`]]);
  }
  const n = drawn.inner.length + drawn.outer.length;
  if (!n) return null;
  return sidesPicture(drawn, fill(W.ip_ids_alt, { n: count(n) }), { x: W.time_axis, y: W.ip_id_axis }, W.ip_ids_text, [0, 65535]);
}

// Seconds that a sender's 32-bit counter has gone since its first packet here, less those of the capture.
function clockPoints(rows, field, hz, at) {
  const known = rows.filter((row) => (row[field] ?? null) !== null);
  if (!known.length || !hz) return [];
  const [first] = known;
  return known.map((row) => {
    const gone = (row[field] - first[field]) | 0;
    return [row[at] / 1e9, (gone / hz) * 1e9 - (row[at] - first[at])];
  });
}

function clockPicture(f, packets) {
  const drawn = {
    inner: clockPoints(packets.rows, "inner_tsval", D.stacks[f]?.clock?.hz, "since"),
    outer: clockPoints(packets.rows, "outer_tsval", tunnelOf(f)?.clock?.hz, "outerAt"),
  };
  const values = [...drawn.inner, ...drawn.outer].map(([, y]) => y);
  if (!values.length) return null;
  const low = Math.min(...values), high = Math.max(...values), room = 0.1 * (high - low) + 1e3;
  const [unit, name] = unitOf(Math.max(Math.abs(low), Math.abs(high)));
  for (const side of Object.values(drawn)) for (const point of side) point[1] /= unit;
  const alt = fill(W.clock_alt, { n: count(values.length), low: span(low), high: span(high) });
  return sidesPicture(drawn, alt, { x: W.time_axis, y: `${W.clock_axis}, ${name}` }, W.clock_text, [(low - room) / unit, (high + room) / unit]);
}
