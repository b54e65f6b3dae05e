"""A tunnel whose server is flooded by a third party: what its traffic feels."""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ..netlab import CLIENT_INNER, PORT, SERVER_INNER, Key, NetLab, config, without_address

STREAM_MBIT_S = 50
SERVER_OUTER, FLOODED = "192.0.2.1", "203.0.113.1"


@dataclass(frozen=True)
class Felt:
    """Pings and a stream of UDP through the tunnel while the flood lasted."""

    flood_hz: float
    lost: float
    median_ms: float
    p99_ms: float
    stream_lost: float

    def __str__(self) -> str:
        return (
            f"{self.flood_hz:9.0f}{100 * self.lost:9.1f} %{100 * self.stream_lost:7.1f} %"
            f"{self.median_ms:11.2f}{self.p99_ms:10.2f}"
        )


def flooded_server(
    lab: NetLab,
    *,
    is_ours: bool,
    extra: dict[str, str] | None = None,
    others: Sequence[tuple[Key, str]] = (),
) -> Key:
    """A client of ours, a server of ours or wireguard-go, and a third party `x` beside them.

    `others` are more peers that the server knows: their keys and addresses.
    """
    lab.add("c", "x", "s")
    lab.link("c", "s", ["192.0.2.2/24"], ["192.0.2.1/24"])
    lab.link("x", "s", ["203.0.113.2/24"], ["203.0.113.1/24"])
    server, client = Key(), Key()
    peers = [
        {"PublicKey": str(key.public), "AllowedIPs": address}
        for key, address in ((client, "10.77.0.2/32"), *others)
    ]
    to_server = {
        "PublicKey": str(server.public),
        "AllowedIPs": "10.77.0.0/24",
        "Endpoint": f"{SERVER_OUTER}:{PORT}",
    }
    text = config(server, peers, SERVER_INNER, PORT, extra if is_ours else None)
    if is_ours:
        lab.ours("s", text)
    else:
        lab.theirs("s", without_address(text), SERVER_INNER)
    lab.ours("c", config(client, [to_server], CLIENT_INNER))
    assert lab.ping("c", "10.77.0.1") == 3
    return server


def under_flood(lab: NetLab, server: Key, kind: str, rate_hz: int, seconds: int = 4) -> Felt:
    """Flood, and meanwhile ping 100 times a second and carry `STREAM_MBIT_S` to the server."""
    flood = lab.start(
        "x",
        *(sys.executable, "-m", "tests.reftunnel.flood", kind, str(server.public), FLOODED, str(PORT)),
        *(str(rate_hz * 60), str(rate_hz)),
        stdout=-1,
    )
    lab.run("x", "sleep", "0.7")
    count = seconds * 100
    with lab.iperf_server("s"):
        pings = lab.start(
            "c", "ping", "-n", "-c", str(count), "-i", "0.01", "-W", "1", "10.77.0.1", stdout=-1
        )
        stream = _stream_lost(lab, seconds)
        out = pings.communicate(timeout=30)[0].decode()
    assert flood.poll() is None
    lab.end(flood)
    assert flood.stdout is not None
    with flood.stdout as out_of_flood:
        sent = float(out_of_flood.read())
    times = sorted(float(text) for text in re.findall(r"time=([\d.]+) ms", out))
    if not times:
        return Felt(sent, 1.0, float("inf"), float("inf"), stream)
    at_99 = times[min(len(times) - 1, int(len(times) * 0.99))]
    return Felt(sent, 1 - len(times) / count, statistics.median(times), at_99, stream)


def _stream_lost(lab: NetLab, seconds: int) -> float:
    """Share of a steady UDP stream that does not arrive; all of it, if not even iperf3's own words do."""
    out = lab.run(
        "c",
        *(
            "iperf3",
            "-c",
            "10.77.0.1",
            "-u",
            "-b",
            f"{STREAM_MBIT_S}M",
            "-l",
            "1300",
            "-t",
            str(seconds),
            "-J",
        ),
        timeout_s=seconds + 30,
        check=False,
    )
    end = json.loads(out or "{}").get("end", {}).get("sum", {})
    return float(end.get("lost_percent", 100.0)) / 100
