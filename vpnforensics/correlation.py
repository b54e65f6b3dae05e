"""The main job, end to end: two captures in, a case result out.

Not named ``correlate``: as a module of the package it would hide the function of that name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import pandas as pd

from vpnforensics.case import grouped, known_clock, make_case, why_no_tunnels
from vpnforensics.engines import counters, ip_id, timestamps
from vpnforensics.errors import CaseError
from vpnforensics.features.names.find import find_names
from vpnforensics.features.names.lookups import name_rows, unread_names
from vpnforensics.joined.usage_logs import join
from vpnforensics.joined.zeek_logs import join_zeek
from vpnforensics.logs.read import read_logs
from vpnforensics.logs.session import LogBook
from vpnforensics.options import EXPECTED_FALSE_LINKS, Options
from vpnforensics.report import rows, warnings
from vpnforensics.report.inputs import input_row
from vpnforensics.report.limit import twins
from vpnforensics.report.pairings import pairing_rows
from vpnforensics.report.provenance import tool_row
from vpnforensics.report.result import CaseResult, Lists
from vpnforensics.report.stacks import Stacks
from vpnforensics.scratch import Scratch
from vpnforensics.sides import Capture, Progress, Sides, comparable, read_sides
from vpnforensics.weighing import weigh


def correlate(
    ingress: Capture,
    egress: Capture | None = None,
    *,
    expected_false_links: float = EXPECTED_FALSE_LINKS,
    seed: int = 0,
    same_clock: bool = False,
    engines: str | Sequence[str] | None = None,
    select_ingress: str = "",
    select_egress: str = "",
    logs: Sequence[str | Path] = (),
    log_zone: str = "",
    log_year: int = 0,
    zeek: Sequence[str | Path] = (),
    scratch: str | Path | None = None,
    client: Any | None = None,
    use_up: bool = False,
    progress: Progress | None = None,
    argv: Sequence[str] | None = None,
) -> CaseResult:
    """Which tunnel of the ingress capture carried which flow of the egress capture.

    Parameters
    ----------
    ingress : str, Path, binary file, a list of them, or PacketTable
        Client-facing side of a VPN server: encrypted tunnels. Several files are one capture. Where there are
        no tunnels but packets that can be read (a NAT, a tap on the tunnel's inner interface), its clients
        take the place of tunnels.
    egress : str, Path, binary file, a list of them, or PacketTable, optional
        Internet-facing side. Without it, or with the same bytes, the ingress capture serves as both.
    expected_false_links : float
        False links to expect in the whole case, the level at which flows are called linked.
    seed : int
        Seeds all sampling; the same inputs, options and seed give the same result.
    same_clock : bool
        Both captures were stamped by one clock, known from elsewhere: do not estimate an offset.
    engines : str or sequence of str, optional
        The engines that may speak; all there are by default, those of other packages included.
    select_ingress, select_egress : str
        Which packets of a side to read, as :func:`vpnforensics.read_capture` takes it. Where tunnels may have
        been left out so, no flow is denied.
    logs : sequence of str or Path
        Usage logs of the server, as :func:`vpnforensics.read_logs` takes them: tunnels get users, and what
        does not agree is a warning.
    log_zone : str
        Zone of times in them that state none: a name, or ``+02:00``.
    log_year : int
        Year of a log's last line, where lines leave it out; 0 to take it from the captures.
    zeek : sequence of str or Path
        Logs that Zeek made of the egress side (conn, ssl, dns, http, quic): flows get their uids and names.
    scratch : str or Path, optional
        A folder in whose files the packets, and what is derived from them, are put instead of into memory, on
        a disk with room for about 160 bytes a packet. Nothing is left there.
    client : distributed.Client, optional
        Of a Dask cluster whose workers compute what can be computed part by part. They see the folder
        ``scratch``, that of temporary files unless given, under the same name. The result is the same.
    use_up : bool
        Packet tables that are given need not be kept as they are: their memory is given back when it can be.
    progress : callable, optional
        Called with the name of a step and the share of it done.
    argv : sequence of str, optional
        The command line, for the record.

    Returns
    -------
    CaseResult

    Raises
    ------
    CaptureError
        A capture cannot be read.
    CaseError
        The captures hold no tunnels or no flows, or are swapped.
    LogError
        A log cannot be opened, or there is no such zone.
    WorkersError
        The workers cannot be asked, or were lost.
    ValueError, TypeError
        An option is out of its range, or of another type.
    """
    options = Options(expected_false_links, seed, same_clock, **_chosen(engines))
    say = progress or (lambda step, share: None)
    rng = np.random.default_rng(options.seed)
    select = (select_ingress, select_egress)
    with _place(scratch, client, say) as (place, say), _aside() as aside:
        sides = read_sides(ingress, egress, say, select=select, scratch=place, use_up=use_up)
        del ingress, egress
        captures = (sides.ingress, sides.egress)
        book = _logs(logs, log_zone, log_year, sides)
        sides, said = comparable(sides)
        said = warnings.read_in_part(sides.ingress, sides.egress) + said

        def tell(step: str, share: float) -> None:
            sides.release()
            say(step, share)

        flows = aside.submit(grouped, sides.egress)
        inputs = aside.map(input_row, ("ingress", "egress"), captures)  # their digests take long
        del captures
        clock = known_clock(sides, options.same_clock)
        case, more = make_case(sides, flows, clock, rng, tell)
        endpoints = aside.submit(rows.flow_rows, case.flows)
        named = aside.submit(find_names, case.captured or case.flows)
        weighed = weigh(case, options, rng, tell, clock=clock, one=sides.are_one, names=named.result)
        case, decision = weighed.case, weighed.decision
        if not len(case.tunnels):
            raise CaseError(why_no_tunnels(sides))
        said += more + warnings.of_decision(case, decision)
        said += warnings.of_accounts(case, by_counters=counters.NAME in options.engines)
        tell("reading names", 0.0)
        names = named.result()
        said += unread_names(names)
        logged = join_zeek(case.flows, names, zeek)
        said += logged.findings
        joined = join(case, decision.tunnel, book)
        said += joined.findings
        tell("reporting", 0.0)
        stacks = Stacks(
            case,
            decision,
            with_clocks=timestamps.NAME in options.engines and not case.by_writes,
            with_ip_ids=ip_id.NAME in options.engines and not case.by_writes,
        )
        return CaseResult(
            tool=tool_row(options.parameters(), options.policy.to_dict(), options.seed, argv or ()),
            inputs=list(inputs),
            alignment=case.alignment,
            lists=Lists(
                tunnels=rows.tunnel_rows(case, decision, stacks).assign(
                    user=pd.Series(joined.users, dtype=object)
                ),
                endpoints=endpoints.result().assign(
                    names=pd.Series(name_rows(case.flows, names, decision.tunnel), dtype=object),
                    uids=pd.Series(logged.uids, dtype=object),
                ),
                links=rows.link_rows(case, decision),
                make_stacks=stacks.flow_columns,
                make_pools=stacks.tunnel_pools,
                make_scores=lambda: rows.score_rows(case, decision),
                make_pairings=lambda: pairing_rows(case, decision),
            ),
            comparisons=decision.comparisons,
            null_comparisons=decision.null_comparisons,
            expected_false_links=decision.expected_false_links,
            allowed_false_links=options.expected_false_links,
            decoys={"tried": decision.decoys.tried, "linked": decision.decoys.linked},
            limit={"twins": twins(case, decision)},
            warnings=said,
            delay_law=decision.delay_law or None,
            usage=joined.usage,
            zeek=logged.told,
        )


def _chosen(engines: str | Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    if engines is None:
        return {}
    return {"engines": (engines,) if isinstance(engines, str) else tuple(engines)}


def _logs(paths: Sequence[str | Path], zone: str, year: int, sides: Sides) -> LogBook:
    """The usage logs, of the captures' year where they leave it out."""
    if not paths:
        return LogBook((), (), ())
    return read_logs(paths, zone=zone, year=year, near_ns=int(sides.ingress.ts_ns.max()))


@contextmanager
def _place(
    scratch: str | Path | None, client: Any | None, say: Progress
) -> Iterator[tuple[Scratch | None, Progress]]:
    """Where packets are put, and what is derived from them; and how progress is told there."""
    if client is None:
        yield None if scratch is None else Scratch(scratch), say
        return
    from vpnforensics.workers import Workers

    with Workers(client, scratch or gettempdir(), say) as workers:
        yield workers, workers.tell


@contextmanager
def _aside() -> Iterator[ThreadPoolExecutor]:
    """A second thread; where the case fails, nothing more is begun there."""
    pool = ThreadPoolExecutor(1)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
