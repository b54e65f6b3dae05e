"""Questions to a case: which of its flows are meant, in what order, and what they sum up to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from vpnforensics.arrays import Bools
from vpnforensics.packets.moments import time_ns
from vpnforensics.report.endpoints import Pattern, parted, pattern
from vpnforensics.report.result import VERDICTS, CaseResult, Lists

SORTS = ("evidence", "packets", "bytes", "time", "error", "client", "dst")
GROUPS = ("client", "site", "time")
_SECOND_NS = 1_000_000_000
_STEPS_S = (1, 10, 60, 600, 3_600, 21_600, 86_400)
_MOST_STEPS = 60


@dataclass(frozen=True, slots=True)
class Question:
    """Which flows are meant; what is empty does not matter, and of several values one has to hold."""

    client: tuple[str, ...] = ()
    """Addresses, networks, endpoints or users of the tunnel that carried the flow."""
    tunnel: tuple[str, ...] = ()
    dst: tuple[str, ...] = ()
    """Addresses, networks, ports, endpoints or names of the Internet side."""
    since: str = ""
    until: str = ""
    verdict: tuple[str, ...] = ()
    min_packets: int = 0

    def __str__(self) -> str:
        asked = [
            *(f"client {text}" for text in self.client),
            *(f"tunnel {text}" for text in self.tunnel),
            *(f"dst {text}" for text in self.dst),
            *([f"from {self.since}"] if self.since else []),
            *([f"to {self.until}"] if self.until else []),
            *(f"verdict {text}" for text in self.verdict),
            *([f"at least {self.min_packets} packets"] if self.min_packets else []),
        ]
        return ", ".join(asked)


def asked(case: CaseResult, question: Question) -> CaseResult:
    """The case with only the flows that are meant; that it is an excerpt stands in its warnings.

    Raises
    ------
    ValueError
        The question cannot be understood: no such tunnel or verdict, no time, no endpoint.
    """
    kept = _meant(case, question)
    if kept.all():
        return case
    links = case.lists.links[kept]
    told = f"an excerpt: {int(kept.sum()):,} of {len(kept):,} flows ({question})"
    excerpt = _with_flows(case, np.flatnonzero(kept))
    parameters = {**case.tool["parameters"], "excerpt": str(question)}
    return replace(
        excerpt,
        tool={**case.tool, "parameters": parameters},
        expected_false_links=float(sum(links.loc[links["verdict"] == "linked", "error"])),
        warnings=[told, *case.warnings],
    )


def sorted_by(case: CaseResult, key: str) -> CaseResult:
    """The case with its flows in another order.

    Parameters
    ----------
    case : CaseResult
    key : str
        One of :data:`SORTS`: by the strongest evidence, the most packets or bytes, the earliest beginning,
        the smallest error, or by client or destination.
    """
    flows, links = case.endpoints, case.links
    if key == "evidence":
        place = {flow: n for n, flow in enumerate(flows["id"])}
        return _with_flows(case, np.array([place[flow] for flow in case.summary["flow"]], np.intp))
    none_last = links["error"].fillna(2.0).to_numpy()
    client = links["tunnel"].map(case.tunnels.set_index("id")["client"])
    keys: dict[str, Callable[[], Any]] = {
        "packets": lambda: (-flows["packets"].to_numpy(),),
        "bytes": lambda: (-flows["bytes"].to_numpy(),),
        "time": lambda: (flows["first_ns"].to_numpy(),),
        "error": lambda: (none_last,),
        "client": lambda: (flows["first_ns"].to_numpy(), _ranks(client)),
        "dst": lambda: (flows["first_ns"].to_numpy(), _ranks(flows["dst"])),
    }
    return _with_flows(case, np.lexsort(keys[key]()))


def grouped_by(case: CaseResult, key: str) -> pd.DataFrame:
    """Sums of the flows by client, by site, or by time.

    Parameters
    ----------
    case : CaseResult
    key : str
        One of :data:`GROUPS`. A site is the surest name of the far side, or its address. Flows that are not
        linked have no client, and stand last.

    Returns
    -------
    DataFrame
        One row a group: its name, flows, of these linked, clients or sites, packets, bytes, first and last
        packet.
    """
    flows = case.endpoints.merge(case.links[["flow", "tunnel", "verdict"]], left_on="id", right_on="flow")
    tunnels = case.tunnels.set_index("id")
    flows["client"] = (
        flows["tunnel"].map(tunnels["client"]).map(lambda end: parted(end)[0], na_action="ignore")
    )
    flows["user"] = flows["tunnel"].map(tunnels["user"])
    address = flows["dst"].map(lambda end: parted(end)[0])
    flows["site"] = flows["names"].str.partition(" ")[0].where(flows["names"] != "", address)
    by = key
    if key == "time":
        by = "from"
        flows[by] = flows["first"].dt.floor(f"{_step_s(flows)}s").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    sums = {
        "flows": ("flow", "size"),
        "linked": ("verdict", lambda verdicts: int((verdicts == "linked").sum())),
        "clients": ("client", "nunique"),
        "sites": ("site", "nunique"),
        "packets": ("packets", "sum"),
        "bytes": ("bytes", "sum"),
        "first_ns": ("first_ns", "min"),
        "last_ns": ("last_ns", "max"),
    }
    if key == "client":
        sums = {"user": ("user", "first"), **sums}
    sums.pop({"client": "clients", "site": "sites"}.get(key, ""), None)
    table = flows.groupby(by, dropna=False, sort=True).agg(**sums).reset_index()
    if key != "time":
        order = np.lexsort((-table["flows"], table[by].isna()))
        table = table.iloc[order].reset_index(drop=True)
    return table


def _meant(case: CaseResult, question: Question) -> Bools:
    flows, links, tunnels = case.endpoints, case.links, case.tunnels
    kept = np.ones(len(flows), np.bool_)
    if question.tunnel:
        unknown = sorted(set(question.tunnel) - set(tunnels["id"]))
        if unknown:
            raise ValueError(f"no tunnel {unknown[0]!r}; there are {', '.join(tunnels['id'][:20])}")
        kept &= links["tunnel"].isin(question.tunnel).to_numpy()
    if question.client:
        ends = zip(tunnels["client"], tunnels["user"].fillna(""), strict=True)
        wanted = [pattern(text) for text in question.client]
        mine = [any(p.has_endpoint(end) or p.has_name([user.lower()]) for p in wanted) for end, user in ends]
        kept &= links["tunnel"].isin(tunnels["id"][mine]).to_numpy()
    if question.dst:
        kept &= far_sides(case, [pattern(text) for text in question.dst])
    if question.verdict:
        unknown = sorted(set(question.verdict) - set(VERDICTS))
        if unknown:
            raise ValueError(f"no verdict {unknown[0]!r}; there are {', '.join(VERDICTS)}")
        kept &= links["verdict"].isin(question.verdict).to_numpy()
    day_ns = int(flows["first_ns"].min()) if len(flows) else 0
    if question.since:
        kept &= (flows["last_ns"] >= time_ns(question.since, day_ns)).to_numpy()
    if question.until:
        kept &= (flows["first_ns"] <= time_ns(question.until, day_ns)).to_numpy()
    return kept & (flows["packets"] >= question.min_packets).to_numpy()


def far_sides(case: CaseResult, patterns: Sequence[Pattern]) -> Bools:
    """Flows whose Internet side is meant by one of the patterns."""
    flows = case.endpoints
    ends = {end: any(p.has_endpoint(end) for p in patterns) for end in flows["dst"].unique()}
    names = {text: any(p.has_name(text.split()) for p in patterns) for text in flows["names"].unique()}
    return np.array(
        [ends[end] or names[text] for end, text in zip(flows["dst"], flows["names"], strict=True)], np.bool_
    )


def _with_flows(case: CaseResult, order: npt.NDArray[np.intp]) -> CaseResult:
    """The case with these of its flows, in this order."""
    lists = case.lists
    ids = set(lists.endpoints["id"].iloc[order])

    def stacks() -> dict[str, list[Any]]:
        return {key: [values[f] for f in order] for key, values in lists.make_stacks().items()}

    def scores() -> pd.DataFrame:
        table = lists.make_scores()
        return table[table["flow"].isin(ids)].reset_index(drop=True)

    def pairings() -> pd.DataFrame:
        table = lists.make_pairings()
        return table[table["flow"].isin(ids)].reset_index(drop=True)

    return replace(
        case,
        lists=Lists(
            tunnels=lists.tunnels,
            endpoints=lists.endpoints.iloc[order].reset_index(drop=True),
            links=lists.links.iloc[order].reset_index(drop=True),
            make_stacks=stacks,
            make_pools=lists.make_pools,
            make_scores=scores,
            make_pairings=pairings,
        ),
    )


def _ranks(texts: pd.Series[Any]) -> Any:
    """Numbers that sort as the texts do, missing ones last."""
    return texts.rank(method="dense", na_option="bottom").to_numpy(np.float64)


def _step_s(flows: pd.DataFrame) -> int:
    length_s = int(flows["first_ns"].max() - flows["first_ns"].min()) / _SECOND_NS
    return next((step for step in _STEPS_S if length_s / step <= _MOST_STEPS), _STEPS_S[-1])
