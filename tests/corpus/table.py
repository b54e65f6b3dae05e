"""The whole corpus, and what vpnforensics says of it beside what is right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tests.corpus import (
    cases,
    clocks,
    files,
    games,
    ipsec,
    media,
    mesh,
    openvpn,
    peers,
    plain_tcp,
    quic,
    relays,
    services,
    ssh,
    tapped,
    things,
    tls_vpn,
    wireguard,
    wrapped,
)
from tests.corpus.specimen import DONE, UNREADABLE, Specimen, Vpn
from vpnforensics.cli.errors import INTERNAL
from vpnforensics.correlation import correlate
from vpnforensics.errors import CaptureError, CaseError
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.packets.read import read_capture
from vpnforensics.report.result import CaseResult
from vpnforensics.tunnels.carriers import list_tunnels
from vpnforensics.tunnels.find import SURE

VPNS = (wireguard, openvpn, ipsec, mesh, tls_vpn, ssh, relays, cases)
ORDINARY = (quic, media, services, games, peers, things, wrapped, plain_tcp)
DAMAGED = (clocks, files, tapped)


@cache
def corpus() -> tuple[Specimen, ...]:
    """Every specimen, in a fixed order."""
    return tuple(s for module in (*VPNS, *ORDINARY, *DAMAGED) for s in module.specimens())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was said of a specimen."""

    tunnels: tuple[Vpn, ...]
    exit_code: int
    links: dict[tuple[str, str], str]
    """Client of each flow's tunnel, by the flow's two ends."""
    denied: frozenset[tuple[str, str]]
    reason: str


def outcome(specimen: Specimen, folder: Path) -> Outcome:
    """Write the specimen's files, and ask ``tunnels`` and ``correlate``."""
    ingress, egress = write(specimen, folder)
    try:
        tunnels = _tunnels(ingress)
    except CaptureError:
        tunnels = ()
    try:
        case = correlate(ingress, egress)
    except (CaptureError, CaseError) as refusal:
        return Outcome(tunnels, UNREADABLE, {}, frozenset(), str(refusal))
    except Exception as fault:
        return Outcome(tunnels, INTERNAL, {}, frozenset(), f"{type(fault).__name__}: {fault}")
    return Outcome(tunnels, DONE, *_verdicts(case), "; ".join(case.warnings))


def write(specimen: Specimen, folder: Path) -> tuple[Path, Path | None]:
    """The specimen's file, or its two."""
    ingress = folder / f"{specimen.name}.pcap"
    ingress.write_bytes(specimen.ingress)
    if specimen.egress is None:
        return ingress, None
    egress = folder / f"{specimen.name}.egress.pcap"
    egress.write_bytes(specimen.egress)
    return ingress, egress


def faults(specimen: Specimen, found: Outcome) -> Iterator[str]:
    """Every way in which the outcome is not what it should be."""
    yield from _faults_of_tunnels(specimen.tunnels, found.tunnels)
    if found.exit_code != specimen.exit_code:
        yield f"exit {found.exit_code}, not {specimen.exit_code} ({found.reason})"
    for (src, dst), client in found.links.items():
        right = specimen.carried.get(src) or specimen.carried.get(dst)
        if right != client:
            yield f"{src}>{dst} linked to {client}, not {right or 'to any'}"
    for src, dst in sorted(found.denied):
        right = specimen.carried.get(src) or specimen.carried.get(dst)
        if right is not None:
            yield f"{src}>{dst} denied, though it came from {right}"
    if specimen.says not in found.reason:
        yield f"says nothing of {specimen.says!r} ({found.reason})"
    if len(found.links) < specimen.least_links:
        all_of = f"{len(found.links)} linked of {len(specimen.carried)}"
        yield f"{all_of}, not {specimen.least_links} or more ({found.reason})"


def _faults_of_tunnels(expected: tuple[Vpn, ...], found: tuple[Vpn, ...]) -> Iterator[str]:
    listed = {(t.protocol, t.client, t.server): t for t in found}
    for vpn in expected:
        named = listed.get((vpn.protocol, vpn.client, vpn.server))
        if named is None:
            yield f"no {words(vpn)}"
        elif named.sure != vpn.sure:
            yield f"{words(vpn)} is {'sure' if named.sure else 'a candidate only'}"
        elif vpn.variant is not None and named.variant != vpn.variant:
            yield f"variant {named.variant!r}, not {vpn.variant!r}"
    right = {(t.protocol, t.client, t.server) for t in expected}
    for key, named in listed.items():
        if named.sure and key not in right:
            yield f"{words(named)}, which is not there"


def words(vpn: Vpn) -> str:
    """A tunnel in a few words."""
    variant = f" {vpn.variant}" if vpn.variant else ""
    return f"{vpn.protocol}{variant}{'' if vpn.sure else '?'} {vpn.client}>{vpn.server}"


def _tunnels(path: Path) -> tuple[Vpn, ...]:
    conversations = assemble_flows(read_capture(path), idle_tcp_s=np.inf, idle_other_s=np.inf)
    return tuple(
        Vpn(t.protocol, t.client, t.server, t.variant, t.confidence >= SURE)
        for t in list_tunnels(conversations).tunnels
    )


def _verdicts(case: CaseResult) -> tuple[dict[tuple[str, str], str], frozenset[tuple[str, str]]]:
    clients = dict(zip(case.tunnels["id"], case.tunnels["client"], strict=True))
    ends = dict(zip(case.flows["id"], zip(case.flows["src"], case.flows["dst"], strict=True), strict=True))
    links = {}
    denied = set()
    for flow, tunnel, verdict in case.links[["flow", "tunnel", "verdict"]].itertuples(index=False):
        if verdict == "linked":
            links[ends[flow]] = clients[tunnel]
        elif verdict == "no_tunnel":
            denied.add(ends[flow])
    return links, frozenset(denied)
