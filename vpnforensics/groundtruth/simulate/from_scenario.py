"""A scenario file as something to simulate."""

from __future__ import annotations

import random as stdlib_random
from dataclasses import replace
from pathlib import Path

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth import scenario as given
from vpnforensics.groundtruth.places import Way, draw_places
from vpnforensics.groundtruth.simulate import presets, spec
from vpnforensics.groundtruth.simulate.outer import PROTOCOLS
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.groundtruth.simulate.truth import Truth

_SCOPES: dict[given.TimestampScope, spec.ClockKind] = {
    "none": "none",
    "per_connection": "per_connection",
    "per_destination": "per_pair",
    "global": "global",
}
_PERSONALITIES: dict[given.Personality, spec.Stack] = {
    "linux": presets.LINUX,
    "linux-legacy": presets.LINUX_LEGACY,
    "windows": presets.WINDOWS,
    "windows-legacy": presets.WINDOWS_7,
    "macos": presets.MACOS,
    "random-id": presets.OPENBSD,
}
_NOT_SNAPPED = 65535
_GAP_S = 0.0000055
"""Between packets that the server lets go one behind the other (a lab recording of wireguard-go)."""


def simulate_scenario(
    scenario: given.Scenario,
    out_dir: str | Path,
    seed: int | None = None,
    *,
    force: bool = False,
    jobs: int = 1,
) -> Truth:
    """Simulate a scenario.

    Parameters
    ----------
    scenario : Scenario
        As :func:`vpnforensics.groundtruth.scenario.load` returns it.
    out_dir : str or Path
    force : bool
    jobs : int
        As for :func:`simulate`.
    seed : int, optional
        In place of the scenario's own.

    Raises
    ------
    ScenarioError
        It asks for something that only the lab can do, or files in the folder would be lost.
    """
    chosen = scenario.seed if seed is None else seed
    return simulate(specification(replace(scenario, seed=chosen)), out_dir, chosen, force=force, jobs=jobs)


def specification(scenario: given.Scenario) -> spec.SimulationSpec:
    """What the simulator makes of a scenario; numbers given as ranges are drawn from its seed."""
    if scenario.vpn.kind not in PROTOCOLS:
        known = ", ".join(sorted(PROTOCOLS))
        raise ScenarioError(f"{scenario.name}: the simulator has no {scenario.vpn.kind!r}; it has {known}")
    draw = stdlib_random.Random(scenario.seed)  # noqa: S311 - reproducible, not secret
    places = draw_places(scenario)
    return spec.SimulationSpec(
        clients=tuple(
            _client(client, way, scenario.duration_s, draw)
            for client, way in zip(scenario.clients, places.access, strict=True)
        ),
        duration_s=scenario.duration_s,
        protocol=scenario.vpn.kind,
        server=_server(scenario),
        ingress=_side(scenario.capture.ingress),
        egress=_side(scenario.capture.egress),
        countermeasures=_countermeasures(scenario.vpn.countermeasures),
        places=places,
        port=scenario.vpn.port or 0,
        mtu=scenario.vpn.mtu or 0,
        single_file=scenario.capture.single,
        ip=spec.IpVersions(scenario.vpn.outer_ip, scenario.vpn.inner_ip),
        inner=scenario.capture.inner,
    )


def _stack(stack: given.Stack) -> spec.Stack:
    like = _PERSONALITIES[stack.personality]
    clock = spec.ClockModel(
        _SCOPES[stack.timestamps], stack.timestamp_hz, stack.clock_ppm, stack.clock_wander_ppm
    )
    same = stack.ip_id == like.ip_id.tcp
    ids = like.ip_id if same else replace(like.ip_id, tcp=stack.ip_id, udp=stack.ip_id)
    return replace(like, name=stack.personality, clock=clock, ip_id=ids, ttl=stack.ttl)


def _client(client: given.ClientSpec, way: Way, duration_s: float, draw: stdlib_random.Random) -> spec.Client:
    access = client.access
    path = spec.AccessPath(
        delay_s=way.delay_ms / 1e3,
        jitter_s=way.jitter_ms / 1e3,
        jitter=access.jitter,
        loss=access.loss,
        up_mbit=way.up_mbit,
        down_mbit=way.down_mbit,
        queue_s=access.queue_ms / 1e3,
        reorder=access.reorder,
    )
    start_s = client.start_s.draw(draw) + 0.1
    lan_s = 0.0005 if client.routed else 0.0
    devices = tuple(spec.Device(device.name, _stack(device.stack), lan_s) for device in client.devices)
    kinds = [(i, kind) for i, device in enumerate(client.devices) for kind in device.traffic]
    flows: list[int | None] = [None] * len(kinds)
    if client.flows is not None:
        share, rest = divmod(client.flows, len(kinds))
        flows = [share + (i < rest) for i in range(len(kinds))]
    end_s = max(duration_s - 1.0, start_s + 2.0)
    traffic = tuple(
        spec.Activity(kind, count, device, start_s=start_s + 1.5, end_s=end_s)
        for (device, kind), count in zip(kinds, flows, strict=True)
        if count != 0
    )
    outer = _stack(client.stack) if client.routed else None
    return spec.Client(client.name, devices, traffic, path, outer=outer, start_s=start_s)


def _server(scenario: given.Scenario) -> spec.Server:
    """The delay law through the scenario's three points.

    Stalls are Poisson, their lengths Pareto between ``least`` and the maximum; a packet waits longer
    than x in a share ``rate * E[(length - x)+]`` of the time, which gives the rate at the 99 % point.
    """
    law = scenario.server
    exponent = 1.25
    median_s, p99_s, most_s = law.delay_median_ms / 1e3, law.delay_p99_ms / 1e3, law.delay_max_ms / 1e3
    least_s = min(0.0012, p99_s / 4)
    excess_s = least_s**exponent / (exponent - 1) * (p99_s ** (1 - exponent) - most_s ** (1 - exponent))
    return spec.Server(
        delay_s=0.85 * median_s,
        gap_s=_GAP_S,
        stall_hz=0.01 / max(excess_s, 1e-9),
        stall_s=least_s,
        stall_max_s=most_s,
        internet_loss=scenario.internet.loss,
        random_ports=scenario.nat.ports == "random",
    )


def _countermeasures(asked: given.Countermeasures) -> spec.Countermeasures:
    return spec.Countermeasures(
        pad_block=asked.padding_bytes if asked.padding == "block" else 0,
        pad_mtu=asked.padding == "mtu",
        pad_buckets=asked.padding_buckets if asked.padding == "buckets" else (),
        cover_hz=asked.cover_pps,
        batch_s=asked.batch_ms / 1e3,
        scrub_tsval=asked.scrub_timestamps,
        scrub_ip_id=asked.scrub_ip_id,
        normalise_ttl=asked.normalise_ttl,
    )


def _side(side: given.Side) -> spec.Capture:
    return spec.Capture(
        offset_s=side.clock_offset_s,
        drift_ppm=side.clock_drift_ppm,
        loss=side.loss,
        snaplen=side.snaplen or _NOT_SNAPPED,
        linktype=side.linktype,
        resolution_ns=1 if side.precision == "ns" else 1000,
        jitter_s=side.jitter_ms / 1e3,
        start_s=side.start_s,
        without=side.without,
        cut_bytes=side.cut_bytes,
        pcapng=side.format == "pcapng",
    )
