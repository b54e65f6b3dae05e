"""How much a simulated case looks like a recorded one: distributions side by side.

Compares what correlation methods feed on at the egress tap: lengths, inter-arrival times within a flow
and direction, sizes and spans of flows, runs of one direction, acknowledgements a data segment.

``python -m vpnforensics.groundtruth.simulate.compare SCENARIO RECORDED`` simulates the scenario that the lab
recorded into that folder and prints the comparison as a Markdown table; in a notebook :func:`compare` shows
itself.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from vpnforensics.groundtruth.scenario import load
from vpnforensics.groundtruth.simulate.from_scenario import simulate_scenario
from vpnforensics.packets.read import read_capture
from vpnforensics.packets.table import PROTO_TCP, PROTO_UDP, TCP_SYN, PacketTable

Floats = npt.NDArray[np.float64]

TRAFFIC: dict[str, tuple[int, tuple[int, ...]]] = {
    "web": (PROTO_TCP, (80, 443)),
    "ssh": (PROTO_TCP, (22,)),
    "dns": (PROTO_UDP, (53,)),
}
_QUANTILES = (0.1, 0.5, 0.9)


def compare(simulated: PacketTable, recorded: PacketTable) -> pd.DataFrame:
    """Compare two egress captures, kind of traffic by kind of traffic.

    Parameters
    ----------
    simulated, recorded : PacketTable
        Egress captures of like scenarios.

    Returns
    -------
    DataFrame
        Indexed by traffic and measure; columns ``simulated_n``, ``recorded_n``, the 10, 50 and 90 % points
        of both (``simulated_10`` ...), and ``ks``: the largest distance between the two distribution
        functions (Kolmogorov and Smirnov), 0 for alike and 1 for apart.
    """
    rows = []
    for traffic in TRAFFIC:
        ours, theirs = (_measures(_flows(table, traffic)) for table in (simulated, recorded))
        for measure in ours:
            a, b = ours[measure], theirs[measure]
            row: dict[str, object] = {"traffic": traffic, "measure": measure}
            row |= {"simulated_n": len(a), "recorded_n": len(b)}
            for name, values in (("simulated", a), ("recorded", b)):
                for q in _QUANTILES:
                    row[f"{name}_{round(100 * q)}"] = float(np.quantile(values, q)) if len(values) else np.nan
            rows.append(row | {"ks": distance(a, b)})
    return pd.DataFrame(rows).set_index(["traffic", "measure"])


def compare_recording(scenario: Path, recorded: Path, seed: int | None = None) -> pd.DataFrame:
    """Simulate a scenario and compare it with its recording.

    Parameters
    ----------
    scenario : Path
        YAML file.
    recorded : Path
        Folder that the lab wrote.
    seed : int, optional
        Of the simulation, in place of the scenario's own.
    """
    egress = next(path for path in sorted(recorded.glob("egress.pcap*")))
    with tempfile.TemporaryDirectory() as folder:
        simulate_scenario(load(scenario, seed=seed), folder)
        simulated = read_capture(next(Path(folder).glob("egress.pcap*")))
    return compare(simulated, read_capture(egress))


def markdown(table: pd.DataFrame) -> str:
    """The comparison as a Markdown table: one row a measure, three points of each distribution."""
    rows = [
        [
            "traffic",
            "measure",
            "simulated: n",
            "10 %",
            "50 %",
            "90 %",
            "recorded: n",
            "10 %",
            "50 %",
            "90 %",
            "KS",
        ],
        ["---", "---", *["---:"] * 9],
    ]
    for row in table.reset_index().to_dict("records"):
        cells = [row["traffic"], row["measure"]]
        for name in ("simulated", "recorded"):
            points = [row[f"{name}_{round(100 * q)}"] for q in _QUANTILES]
            cells += [f"{int(row[f'{name}_n'])}", *(_figure(p) for p in points)]
        rows.append([*cells, "" if np.isnan(row["ks"]) else f"{row['ks']:.2f}"])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def _figure(value: float) -> str:
    if np.isnan(value):
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def distance(a: Floats, b: Floats) -> float:
    """Kolmogorov and Smirnov's distance between two samples; NaN where one is empty."""
    if not len(a) or not len(b):
        return float("nan")
    both = np.concatenate([a, b])
    share_a = np.searchsorted(np.sort(a), both, side="right") / len(a)
    share_b = np.searchsorted(np.sort(b), both, side="right") / len(b)
    return float(np.abs(share_a - share_b).max())


def _flows(table: PacketTable, traffic: str) -> pd.DataFrame:
    """Packets of one kind of traffic, flow by flow in order of time; ``up`` is away from the server."""
    proto, ports = TRAFFIC[traffic]
    up = np.isin(table.dport, ports)
    down = np.isin(table.sport, ports)
    keep = np.flatnonzero((table.proto == proto) & (up ^ down))
    up = up[keep]
    chosen = table.take(keep)
    frame = pd.DataFrame(
        {
            "near_port": np.where(up, chosen.sport, chosen.dport),
            "far": np.where(up, chosen.dst, chosen.src),
            "far_port": np.where(up, chosen.dport, chosen.sport),
            "ts_ns": chosen.ts_ns,
            "up": up,
            "length": chosen.ip_len_bytes,
            "payload": chosen.payload_bytes,
            "syn": (chosen.tcp_flags & TCP_SYN) > 0,
        }
    )
    key = ["near_port", "far", "far_port"]
    frame["flow"] = frame.groupby(key, sort=False).ngroup()
    return frame.sort_values(["flow", "ts_ns"], kind="stable", ignore_index=True)


def _measures(packets: pd.DataFrame) -> dict[str, Floats]:
    flow, up = packets["flow"].to_numpy(), packets["up"].to_numpy()
    grouped = packets.groupby("flow", sort=False)
    spans = (grouped["ts_ns"].max() - grouped["ts_ns"].min()).to_numpy() / 1e9
    values = {
        "length up, bytes": packets["length"].to_numpy()[up],
        "length down, bytes": packets["length"].to_numpy()[~up],
        "gap up, ms": _gaps_ms(packets, up),
        "gap down, ms": _gaps_ms(packets, ~up),
        "flow packets": grouped.size().to_numpy(),
        "flow bytes": grouped["length"].sum().to_numpy(),
        "flow span, s": spans,
        "run of one direction": _runs(flow, up),
        "acknowledgements a data segment": _acknowledgements(packets),
        "answer to SYN, ms": _handshakes_ms(packets),
    }
    return {name: np.asarray(array, np.float64) for name, array in values.items()}


def _gaps_ms(packets: pd.DataFrame, mask: npt.NDArray[np.bool_]) -> Floats:
    part = packets[mask]
    same = part["flow"].to_numpy()[1:] == part["flow"].to_numpy()[:-1]
    gaps: Floats = np.diff(part["ts_ns"].to_numpy())[same] / 1e6
    return gaps


def _runs(flow: npt.NDArray[np.int64], up: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Packets in a row of one flow that go the same way."""
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(flow) != 0) | (up[1:] != up[:-1])]))
    return np.diff(starts, append=len(flow)) if len(flow) else np.empty(0, np.int64)


def _acknowledgements(packets: pd.DataFrame) -> Floats:
    """Empty packets up a data packet down, of flows with at least ten of these."""
    empty = packets["up"] & (packets["payload"] == 0) & ~packets["syn"]
    data = ~packets["up"] & (packets["payload"] > 0)
    counts = pd.DataFrame({"flow": packets["flow"], "empty": empty, "data": data}).groupby("flow").sum()
    counts = counts[counts["data"] >= 10]
    return (counts["empty"] / counts["data"]).to_numpy(np.float64)


def _handshakes_ms(packets: pd.DataFrame) -> Floats:
    syn = packets[packets["syn"]]
    asked, answered = (syn[way].groupby("flow")["ts_ns"].min() for way in (syn["up"], ~syn["up"]))
    both = pd.concat([asked, answered], axis=1, keys=["asked", "answered"]).dropna()
    return ((both["answered"] - both["asked"]) / 1e6).to_numpy(np.float64)


def main() -> None:
    """Parse the command line, simulate, compare, print."""
    parser = argparse.ArgumentParser(prog="python -m vpnforensics.groundtruth.simulate.compare")
    parser.add_argument("scenario", type=Path, help="YAML file that the lab recorded")
    parser.add_argument("recorded", type=Path, help="folder with the recording")
    parser.add_argument("--seed", type=int, help="of the simulation, in place of the scenario's own")
    options = parser.parse_args()
    table = compare_recording(options.scenario, options.recorded, options.seed)
    sys.stdout.write(markdown(table) + "\n")


if __name__ == "__main__":
    main()
