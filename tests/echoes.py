"""A TCP conversation whose segments the client echoes after chosen times."""

from __future__ import annotations

from tests.tables import tcp

CLIENT, SERVER = ("10.0.0.1", 5000), ("10.9.9.9", 443)
START_S = 1000.0


def talk(round_trips_s, *, client=CLIENT, server=SERVER, start_s=START_S, step_s=0.4, tick_hz=1000):
    """Segments from the server, each echoed by the client after the given time."""
    rows, seq = [], 1
    for i, wait_s in enumerate(round_trips_s):
        sent_s = start_s + i * step_s
        stamp = {"has_ts": 1, "tsval": int(sent_s * tick_hz), "tsecr": 7}
        rows.append(tcp(sent_s, *server, *client, seq=seq, payload_bytes=100, **stamp))
        seq += 100
        echo = {"has_ts": 1, "tsval": 9 + i, "tsecr": stamp["tsval"]}
        rows.append(tcp(sent_s + wait_s, *client, *server, ack=seq, **echo))
    return rows
