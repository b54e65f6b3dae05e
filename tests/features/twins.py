"""Slow, obvious versions of the kernels in vpnforensics.features."""

import itertools


def upper_hull(x, y):
    """Points that no chord between two others passes above; of equal x the highest."""
    best = {}
    for i in range(len(x)):
        if x[i] not in best or y[i] > y[best[x[i]]]:
            best[x[i]] = i
    points = sorted(best.values(), key=lambda i: x[i])
    kept = []
    for i in points:
        below = any(
            (x[i] - x[a]) * (y[b] - y[a]) >= (y[i] - y[a]) * (x[b] - x[a])
            for a in points
            for b in points
            if x[a] < x[i] < x[b]
        )
        if not below:
            kept.append(i)
    return kept


def clock_breaks(t, offset, step, tolerance, persist, packets):
    breaks = []
    level = 0  # packet that set the level
    low = []
    for i in range(1, len(t)):
        slack = step + tolerance * (t[i] - t[level])
        if offset[i] > offset[level] + slack:
            breaks.append(i)
            level, low = i, []
        elif offset[i] >= offset[level] - slack:
            level, low = i, []
        else:
            low.append(i)
            if t[i] - t[low[0]] >= persist and len(low) >= packets:
                breaks.append(low[0])
                level, low = i, []
    return breaks


def sender_offsets(start, t_ns, tsval, rates, tolerance, least):
    hz, best = [], []
    for a, b in itertools.pairwise(start):
        packets = range(a, b)
        hz.append(0.0)
        best.append(-1)
        if len(packets) < 2 or t_ns[b - 1] <= t_ns[a]:
            continue

        def ticks(i, a=a):
            return (int(tsval[i]) - int(tsval[a]) + 2**31) % 2**32 - 2**31

        if ticks(b - 1) < least:
            continue
        raw = ticks(b - 1) / ((t_ns[b - 1] - t_ns[a]) * 1e-9)
        near = [r for r in rates if abs(raw / r - 1) <= tolerance]
        if near:
            hz[-1] = min(near, key=lambda r: abs(raw / r - 1))
            best[-1] = max(packets, key=lambda i: ticks(i) / hz[-1] - (t_ns[i] - t_ns[a]) * 1e-9)
    return hz, best


def id_strings(pool, t_ns, ip_id, flow, gap, limit, life):
    """Strings as lists of packets, searched one by one."""
    string_of = []
    strings = []  # per string: pool, packets, head
    own = {}
    for i in range(len(ip_id)):

        def ahead(s, i=i):
            return (ip_id[i] - ip_id[strings[s]["head"]]) % 65_536

        def open_(s, i=i):
            # A later string at the same value hides the earlier one.
            return strings[s]["pool"] == pool[i] and not strings[s]["hidden"]

        found = None
        s = own.get(flow[i])
        if (
            s is not None
            and open_(s)
            and 1 <= ahead(s) <= gap
            and t_ns[i] - t_ns[strings[s]["head"]] <= limit
        ):
            found = s
        if found is None:
            alive = [
                s
                for s in range(len(strings))
                if open_(s)
                and 1 <= ahead(s) <= gap
                and t_ns[i] - t_ns[strings[s]["head"]] <= min(limit, life * strings[s]["length"])
            ]
            found = min(alive, key=ahead, default=None)
        if found is not None:
            strings[found]["length"] += 1
        else:
            passed = [
                s
                for s in range(len(strings))
                if open_(s) and 1 <= -ahead(s) % 65_536 <= 8 and t_ns[i] - t_ns[strings[s]["head"]] <= 10**9
            ]
            if passed:
                late = min(passed, key=lambda s: -ahead(s) % 65_536)
                string_of.append(late)
                own[flow[i]] = late
                continue
            found = len(strings)
            strings.append({"pool": pool[i], "length": 1, "hidden": False})
        for s, other in enumerate(strings):
            if s != found and other["pool"] == pool[i] and ip_id[other["head"]] == ip_id[i]:
                other["hidden"] = True
        strings[found]["head"] = i
        strings[found]["hidden"] = False
        string_of.append(found)
        own[flow[i]] = found
    return string_of
