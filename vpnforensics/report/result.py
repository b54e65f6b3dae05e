"""The outcome of a case: one contract, the tables to work with, and every form of report made from it.

``to_dict`` is the result contract (``schema_version`` 2, ``result.schema.json`` beside this file); every
renderer starts from it or from the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vpnforensics.align.alignment import Alignment
from vpnforensics.report import dataframes
from vpnforensics.report.dataframes import flat, plain_rows
from vpnforensics.report.escaping import json_text
from vpnforensics.report.inputs import by_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vpnforensics.report.frames import Frame

SCHEMA_VERSION = 2
VERDICTS = ("linked", "undecided", "no_tunnel")
STACK_COLUMNS = ("device", "clock", "ip_id")
_ROWS_OF_A_PIECE = 2_000
"""A few megabytes of text."""


@dataclass(frozen=True, eq=False)
class Lists:
    """The lists of the contract as tables of plain values, and what is made only when it is asked for.

    Where the contract has an object or a list, so has a cell here.
    """

    tunnels: pd.DataFrame
    endpoints: pd.DataFrame
    """``flows`` without device, clock and IP IDs."""
    links: pd.DataFrame
    make_stacks: Callable[[], dict[str, list[Any]]]
    """Makes those columns, which take long in a large case."""
    make_pools: Callable[[], list[Any]]
    """Makes ``inner`` of the tunnels, of the same."""
    make_scores: Callable[[], pd.DataFrame]
    """Makes ``scores``: in words and numbers, what each engine said of each pair."""
    make_pairings: Callable[[], pd.DataFrame]
    """Makes ``pairings``, which is as large as the captures and seldom asked for."""


@dataclass(frozen=True, eq=False, repr=False)
class CaseResult:
    """Which tunnel carried which flow.

    ``links``, ``flows``, ``tunnels`` and ``scores`` are DataFrames (:mod:`vpnforensics.report.dataframes`);
    ``pairings`` says, for each packet of a linked flow, which outer packet carried it. Two results are equal
    if they say the same. It pickles, and :func:`vpnforensics.open_case` makes it from its JSON again.
    """

    tool: dict[str, Any]
    inputs: list[dict[str, Any]]
    alignment: Alignment
    lists: Lists
    comparisons: int
    null_comparisons: int
    """Comparisons known to be false behind the likelihood ratios."""
    expected_false_links: float
    """Sum of the stated errors of the links."""
    allowed_false_links: float
    """What that sum may reach: the user's."""
    decoys: dict[str, int]
    """Copies of flows, turned in time, that were tried in the same model, and how many would have been
    linked."""
    limit: dict[str, Any]
    """What no method can decide: ``twins``, flows that have one (:mod:`vpnforensics.report.limit`)."""
    warnings: list[str]
    delay_law: dict[str, Any] | None = None
    """Medians and 95 % points of the server's delay, ns, by direction; None without an alignment."""
    usage: dict[str, Any] | None = None
    """What usage logs were read, and what they agree with; None without."""
    zeek: dict[str, Any] | None = None
    """What logs of Zeek were read, and how much of them is of flows; None without."""

    @cached_property
    def tunnels(self) -> pd.DataFrame:
        """One row a tunnel."""
        return flat(self.lists.tunnels, dataframes.TUNNELS)

    @cached_property
    def endpoints(self) -> pd.DataFrame:
        """One row a flow: endpoints, names, counts and times."""
        return flat(self.lists.endpoints, dataframes.ENDPOINTS)

    @cached_property
    def flows(self) -> pd.DataFrame:
        """``endpoints`` with each client's device, clock and IP IDs."""
        stacks = flat(pd.DataFrame(self._stacks, dtype=object), dataframes.STACKS)
        return pd.concat([self.endpoints, stacks], axis=1)

    @cached_property
    def links(self) -> pd.DataFrame:
        """One row a flow: its tunnel, verdict, likelihood ratio and error."""
        return flat(self.lists.links, dataframes.LINKS)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Pairs of a flow and a tunnel with evidence for them: llr, and each engine's part in columns."""
        return dataframes.wide_scores(self._scores)

    def scores_long(self) -> pd.DataFrame:
        """``scores`` with one row a pair and engine: flow, tunnel, engine, score, llr, n, note."""
        return dataframes.long_scores(self._scores)

    def scores_of(self, flows: Collection[str]) -> list[dict[str, Any]]:
        """The contract's ``scores`` of these flows."""
        return plain_rows(self._scores[self._scores["flow"].isin(flows)])

    @cached_property
    def pairings(self) -> pd.DataFrame:
        """Which outer packet carried each packet of a linked flow.

        One row a packet: flow, egress_file, egress_frame, egress_ns, up, inner_bytes, ingress_file,
        ingress_frame, ingress_ns, outer_bytes, counter, delay_ns (positive towards the far side, on the
        ingress clock), and both packets' inner_ip_id, inner_tsval, outer_ip_id, outer_tsval. A frame is
        numbered within its file.
        """
        return by_file(self.lists.make_pairings(), self.inputs)

    @cached_property
    def _stacks(self) -> dict[str, list[Any]]:
        return self.lists.make_stacks()

    @cached_property
    def _pools(self) -> list[Any]:
        return self.lists.make_pools()

    @cached_property
    def _scores(self) -> pd.DataFrame:
        return self.lists.make_scores()

    def to_dict(self) -> dict[str, Any]:
        """The result contract, of plain Python values."""
        contract = self._contract()
        return {key: plain_rows(v) if isinstance(v, pd.DataFrame) else v for key, v in contract.items()}

    def _contract(self) -> dict[str, Any]:
        """The result contract, its lists as tables."""
        about = self.about()
        lists = {
            "tunnels": self.lists.tunnels.assign(inner=pd.Series(self._pools, dtype=object)),
            "flows": self.lists.endpoints.assign(**self._stacks),
            "scores": self._scores,
            "links": self.lists.links,
        }
        before = ("schema_version", "tool", "inputs", "alignment", "delay_law")
        return {key: about[key] for key in before} | lists | about

    def about(self) -> dict[str, Any]:
        """The result contract but for its lists: what tables of a case carry with them."""
        return {
            "schema_version": SCHEMA_VERSION,
            "tool": self.tool,
            "inputs": self.inputs,
            "alignment": self.alignment.to_dict(),
            "delay_law": _of_law(self.delay_law),
            "comparisons": self.comparisons,
            "null_comparisons": self.null_comparisons,
            "expected_false_links": self.expected_false_links,
            "allowed_false_links": self.allowed_false_links,
            "decoys": self.decoys,
            "limit": self.limit,
            "usage": self.usage,
            "zeek": self.zeek,
            "warnings": self.warnings,
        }

    def to_json(self, *, indent: int | None = 1) -> str:
        """The result contract as JSON; the same case gives the same bytes."""
        return json_text(self.to_dict(), indent=indent)

    def json_pieces(self) -> Iterator[str]:
        """:meth:`to_json` in pieces: of a large case, all at once takes as much memory as its packets."""
        apart = "{\n"
        for key, value in self._contract().items():
            yield apart
            if isinstance(value, pd.DataFrame):
                yield from _list_pieces(key, value)
            else:
                yield json_text({key: value}, indent=1)[2:-2]
            apart = ",\n"
        yield "\n}"

    def explain(self, flow: str) -> pd.DataFrame:
        """Packet by packet, the outer packet that carried a flow; ``ingress_frame`` is empty where none did.

        Raises
        ------
        KeyError
            No such flow.
        """
        if flow not in set(self.lists.endpoints["id"]):
            count = len(self.lists.endpoints)
            raise KeyError(f"no flow {flow!r}; there are {count:,}, named f1 and on" if count else "no flows")
        return self.pairings[self.pairings["flow"] == flow].drop(columns="flow").reset_index(drop=True)

    def frames(self, flow: str) -> Iterator[Frame]:
        """The stored frames of a linked flow and of the outer packets that carried it (``frames`` extra).

        Yields
        ------
        Frame
            ``ts_ns``, ``packet`` (of dpkt), ``role``, ``file``, ``frame``; first the egress side.

        Raises
        ------
        KeyError
            No such flow.
        ValueError
            It is not linked, so that no frames are named.
        CaptureError
            A file is gone, or is no longer the one that was read.
        """
        from vpnforensics.report.frames import frames_of

        packets = self.explain(flow)
        if not len(packets):
            raise ValueError(f"{flow} is not linked, so no outer packets are matched to it")
        return frames_of(packets, self.inputs)

    @property
    def beside(self) -> pd.DataFrame:
        """One row a flow: its link beside its endpoints and its tunnel's client."""
        flows = self.endpoints.set_index("id")
        tunnels = self.tunnels.set_index("id")
        columns = ["proto", "src", "dst", "names", "packets", "bytes", "first"]
        table = self.links.join(flows[columns], on="flow")
        table.insert(2, "client", table["tunnel"].map(tunnels["client"]))
        table.insert(3, "user", table["tunnel"].map(tunnels["user"]))
        return table

    @property
    def summary(self) -> pd.DataFrame:
        """``beside``, the strongest evidence first."""
        table = self.beside
        rank = table["verdict"].map({verdict: n for n, verdict in enumerate(VERDICTS)})
        order = np.lexsort((-table["packets"], -table["llr"].fillna(-np.inf), rank))
        return table.iloc[order].reset_index(drop=True)

    @property
    def plot(self) -> Any:
        """Pictures of the case (needs the ``plot`` extra): :class:`vpnforensics.report.plots.CasePlots`."""
        from vpnforensics.report.plots import CasePlots

        return CasePlots(self)

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if isinstance(other, CaseResult) else NotImplemented

    def __reduce__(self) -> tuple[Any, ...]:
        return result_of, (self.to_dict(), self.lists.make_pairings(), self.delay_law)

    def __repr__(self) -> str:
        verdicts = self.links["verdict"].value_counts()
        counts = ", ".join(f"{verdicts.get(v, 0)} {v}" for v in VERDICTS)
        return (
            f"CaseResult({len(self.tunnels)} tunnels, {len(self.endpoints)} flows: {counts};"
            f" alignment {self.alignment.status})"
        )

    def _repr_html_(self) -> str:
        import html

        return f"<p>{html.escape(repr(self))}</p>{self.summary.head(30).to_html(index=False)}"


def _list_pieces(key: str, table: pd.DataFrame) -> Iterator[str]:
    """A table as one of the contract's lists, some rows at a time."""
    before, after = json_text({key: [0]}, indent=1)[2:-2].split("\n  0")
    if not len(table):
        yield json_text({key: []}, indent=1)[2:-2]
        return
    for first in range(0, len(table), _ROWS_OF_A_PIECE):
        rows = plain_rows(table.iloc[first : first + _ROWS_OF_A_PIECE])
        piece = json_text({key: rows}, indent=1)[2:-2]
        yield ("," if first else before) + piece.removeprefix(before).removesuffix(after)
    yield after


def result_of(
    contract: dict[str, Any],
    pairings: pd.DataFrame | Callable[[], pd.DataFrame],
    delay_law: dict[str, Any] | None = None,
) -> CaseResult:
    """The result that a contract of this version tells of.

    Parameters
    ----------
    contract : dict
        As :meth:`CaseResult.to_dict` gives it.
    pairings : DataFrame or callable
        What the contract does not hold, or what makes it.
    delay_law : dict, optional
        With the densities that the contract does not hold.
    """
    flows = _rows(contract["flows"], [path for path, _ in dataframes.ENDPOINTS])
    scores = ["flow", "tunnel", "llr", "llr_bounded", "null_comparisons", "engines"]
    lists = Lists(
        tunnels=_rows(contract["tunnels"], _keys(dataframes.TUNNELS)),
        endpoints=flows,
        links=_rows(contract["links"], _keys(dataframes.LINKS)),
        make_stacks=lambda: {key: [flow[key] for flow in contract["flows"]] for key in STACK_COLUMNS},
        make_pools=lambda: [tunnel.get("inner", []) for tunnel in contract["tunnels"]],
        make_scores=lambda: _rows(contract["scores"], scores),
        make_pairings=pairings if callable(pairings) else lambda: pairings,
    )
    return CaseResult(
        tool=contract["tool"],
        inputs=contract["inputs"],
        alignment=Alignment.from_dict(contract["alignment"]),
        lists=lists,
        comparisons=contract["comparisons"],
        null_comparisons=contract["null_comparisons"],
        expected_false_links=contract["expected_false_links"],
        allowed_false_links=contract["allowed_false_links"],
        decoys=contract["decoys"],
        limit=contract["limit"],
        warnings=contract["warnings"],
        delay_law=delay_law or contract["delay_law"],
        usage=contract["usage"],
        zeek=contract["zeek"],
    )


def _rows(rows: list[dict[str, Any]], keys: list[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=keys, dtype=object)


def _keys(columns: dataframes.Columns) -> list[str]:
    return list(dict.fromkeys(path.partition(".")[0] for path, _ in columns))


def _of_law(law: dict[str, Any] | None) -> dict[str, Any] | None:
    return {key: law[key] for key in ("median_ns", "p95_ns")} if law else None
