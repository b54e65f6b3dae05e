// A page for each flow: what speaks for its link, and which packets to look at.

// The listed packets of a flow, from columns of differences.
function packetsOf(f) {
  const p = D.packets[f];
  if (!p) return null;
  let time = BigInt(p.at), egress = 0, ingress = 0, counter = 0;
  const first = BigInt(F.first[f]);
  const rows = p.t.map((step, n) => {
    time += BigInt(step);
    egress += p.e[n];
    const row = {
      time, since: Number(time - first), egress, egressFile: p.ef?.[n] ?? 0, up: p.l[n] > 0, inner: Math.abs(p.l[n]),
      ingress: null, ingressFile: p.if?.[n] ?? 0, outer: p.o[n], counter: null, delay: p.d[n], outerAt: null,
    };
    if (p.i[n] === null) return row;
    ingress += p.i[n];
    row.ingress = ingress;
    if (p.n) row.counter = counter += p.n[n];
    row.outerAt = row.since - (row.up ? row.delay : -row.delay);
    return row;
  });
  // Header fields stand for the packets going up alone.
  const up = rows.filter((row) => row.up);
  for (const [name, values] of Object.entries(p.fields ?? {})) up.forEach((row, n) => { row[name] = values[n] < 0 ? null : values[n]; });
  return { rows, all: p.all, found: p.found, runs: p.runs ? { e: p.runs.e.flatMap(undone), i: p.runs.i.flatMap(undone) } : runsOf(rows), cut: p.cut ?? false };
}

// Runs [file, first, last] of a list that holds a file's number, then each run's step and length.
function undone([file, ...steps]) {
  const made = [];
  let at = 0;
  for (let n = 0; n < steps.length; n += 2) {
    const first = at + steps[n];
    at = first + steps[n + 1];
    made.push([file, first, at]);
  }
  return made;
}

// Runs of frames of each side, [file, first, last], as long lists of packets carry them.
function runsOf(rows) {
  const made = {};
  for (const [role, file, frame] of [["e", "egressFile", "egress"], ["i", "ingressFile", "ingress"]]) {
    const mine = rows.filter((row) => row[frame] !== null).map((row) => [row[file], row[frame]]);
    mine.sort(([a, b], [c, d]) => a - c || b - d);
    made[role] = [];
    for (const [of, at] of mine) {
      const last = made[role].at(-1);
      if (last && last[0] === of && at <= last[2] + 1) last[2] = at;
      else made[role].push([of, at, at]);
    }
  }
  return made;
}

const fileName = (role, n) => D.files[role][Math.max(n, 0)] ?? W.in_no_file;

function filters(f, packets) {
  const made = [];
  for (const [role, key] of [["egress", "e"], ["ingress", "i"]]) {
    const byFile = new Map();
    for (const [file, first, last] of packets ? packets.runs[key] : []) {
      if (!byFile.has(file)) byFile.set(file, []);
      byFile.get(file).push(first === last ? `${first}` : `${first}..${last}`);
    }
    for (const [file, runs] of byFile)
      made.push([fill(W.filter_frames, { role, file: fileName(role, file) }), `frame.number in {${runs.join(", ")}}`]);
  }
  made.push([fill(W.filter_stream, { role: "egress" }), F.filter[f]]);
  const tunnel = tunnelOf(f);
  if (tunnel) made.push([fill(W.filter_stream, { role: "ingress" }), tunnel.filter]);
  return made;
}

function enginesTable(f) {
  const rows = D.scores[f];
  if (!rows) return el("p", {}, W.no_candidates);
  const best = [...rows].sort((a, b) => (b[1] ?? -Infinity) - (a[1] ?? -Infinity));
  const lines = best.flatMap(([t, llr, bounded, said]) => [
    ...said.map(([name, score, mine, n, note]) => [T[t].id, text(name), ratio(mine, false), score === null ? "–" : ratio(score, false), n === null ? "–" : count(n), text(note)]),
    ...(llr === null ? [] : [[T[t].id, el("strong", {}, W.together), el("strong", {}, ratio(llr, bounded)), "", "", W.together_note]]),
  ]);
  return plainTable(fill(W.engines_caption, { flow: F.id[f] }), [W.tunnel, W.engine, W.llr, W.score, W.compared, W.note], lines, [2, 3, 4]);
}

// TCP clocks and IP IDs of the flow's client, of its tunnel's and its device's flows together, and of the
// tunnel's outer side, where there are any.
function stacks(f, packets) {
  const tunnel = tunnelOf(f), device = F.device[f] < 0 ? null : text(F.device[f]);
  const pools = (tunnel?.inner ?? []).filter((pool) => pool.device === null || pool.device === device);
  const named = ({ device: of, flows }) => fill(W.pooled_flows, { flows: count(flows), of: of ?? tunnel.id });
  const whose = [[W.this_flow, D.stacks[f]], ...pools.map((pool) => [named(pool), pool]), [tunnel && fill(W.outer_side, { tunnel: tunnel.id }), tunnel]];
  const rows = whose.filter(([, stack]) => stack?.clock || stack?.ip_id).map(([name, { clock, ip_id: ids }]) => {
    const skew = clock && clock.skew_ppm !== null
      ? `${digits(clock.skew_ppm, 4)} (${(clock.skew_interval_ppm ?? []).map((v) => digits(v, 4)).join(" … ")})` : "–";
    return [name, clock?.hz ?? "–", skew, clock?.offset_s ?? "–", ids ? (ids.with_outer ? fill(W.ip_id_with_outer, { kind: ids.class }) : ids.class) : "–", ids?.increments ?? "–", ids?.missing ?? "–", ids?.gaps ?? "–", ids?.wraps ?? "–"].map((cell) =>
      typeof cell === "number" ? digits(cell, 6) : String(cell));
  });
  if (!rows.length) return [];
  const head = [W.whose, W.clock_hz, W.clock_skew, W.clock_offset, W.ip_id_class, W.ip_id_steps, W.ip_id_missing, W.ip_id_gaps, W.ip_id_wraps];
  const pictures = packets ? [clockPicture(f, packets), idsPicture(packets)] : [];
  return [el("h3", {}, W.stacks), plainTable(W.stacks_caption, head, rows, [1, 2, 3, 5, 6, 7, 8]), ...pictures];
}

function packetTable(f, packets) {
  const several = (role) => D.files[role].length > 1;
  const frame = (role, file, n) => (several(role) ? `${fileName(role, file)}: ${n}` : String(n));
  const rows = packets.rows.map((row) => [
    utc(row.time), row.up ? `↑ ${W.up}` : `↓ ${W.down}`, frame("egress", row.egressFile, row.egress), String(row.inner),
    ...(row.ingress === null ? [W.none, "–", "–", "–"]
      : [frame("ingress", row.ingressFile, row.ingress), String(row.outer), row.counter === null ? "–" : String(row.counter), span(row.delay)]),
  ]);
  const head = [W.time, "", W.egress_frame, W.inner, W.ingress_frame, W.outer, W.counter, W.delay];
  const some = { shown: count(rows.length), all: count(packets.all) };
  return [
    rows.length < packets.all ? el("p", {}, fill(W.packets_some, some)) : null,
    plainTable(fill(W.packets_caption, { flow: F.id[f] }), head, rows, [2, 3, 4, 5, 6, 7]),
  ];
}

function verdictLine(f) {
  const tunnel = tunnelOf(f);
  if (!tunnel)
    return `${fill(W.not_linked, { verdict: W[F.verdict[f]] })} ${text(F.why[f])}`;
  const bound = F.bounded[f] ? fill(W.at_bound, { nulls: count(D.null_comparisons) }) : "";
  return fill(W.is_linked, {
    tunnel: tunnel.id, protocol: tunnel.protocol, client: tunnel.client, user: tunnel.user && fill(W.of_user, { user: tunnel.user }),
    llr: ratio(F.llr[f], F.bounded[f]), verbal: text(F.verbal[f]), bound, error: F.error[f] === null ? "–" : digits(F.error[f], 2),
  });
}

function factsOf(f) {
  const rows = [
    [W.names, namesOf(f)], [W.packets, count(F.packets[f])], [W.bytes, count(F.bytes[f])], [W.first, `${utc(BigInt(F.first[f]))} UTC`],
    [W.last, `${utc(BigInt(F.last[f]))} UTC`], [W.community, F.community_id[f]], [W.device, text(F.device[f])],
    [W.unlisted, ratio(F.unlisted_llr[f], false)],
  ];
  return el("dl", {}, rows.filter(([, told]) => told !== "" && told !== "–").map(([term, told]) => [el("dt", {}, term), el("dd", {}, told)]));
}

function evidence(f) {
  const packets = packetsOf(f), tunnel = tunnelOf(f), nulls = nullsPicture(f);
  const ends = { flow: F.id[f], proto: text(F.proto[f]), src: text(F.src[f]), dst: text(F.dst[f]) };
  const parts = [
    el("h2", { tabindex: "-1" }, fill(W.of_flow, ends)), el("p", { class: "found" }, verdictLine(f)), factsOf(f),
    el("h3", {}, W.engines), enginesTable(f), nulls && el("h3", {}, W.nulls), nulls,
  ];
  if (packets) {
    const delays = delaysPicture(packets);
    parts.push(el("h3", {}, W.pairs), pairsPicture(f, packets), delays && el("h3", {}, W.delays), delays);
  }
  parts.push(...stacks(f, packets), el("h3", {}, W.retrace));
  if (tunnel) parts.push(el("p", {}, fill(W.retrace_text, { length: tunnel.length || "…" })));
  if (tunnel && D.no_packets) parts.push(el("p", {}, fill(W.no_packets, { why: D.no_packets })));
  parts.push(el("dl", { class: "filters" }, filters(f, packets).map(([what, how]) => [el("dt", {}, what), el("dd", {}, el("code", {}, how))])));
  if (packets?.cut) parts.push(el("p", {}, fill(W.frames_cut, { flow: F.id[f] })));
  else if (packets && packets.rows.length < packets.all) parts.push(el("p", {}, W.frames_all));
  if (packets) parts.push(...packetTable(f, packets));
  return el("article", {}, parts.filter(Boolean));
}
