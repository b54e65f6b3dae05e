"""The outcome of a case: plain tables, one contract, every form of report made from it.

``to_dict`` is the result contract (``schema_version`` 1, ``result.schema.json`` beside this file); every
renderer starts from it or from the four tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from vpnforensics.align.alignment import Alignment
from vpnforensics.report.escaping import json_text

SCHEMA_VERSION = 1
VERDICTS = ("linked", "undecided", "no_tunnel")


@dataclass(frozen=True, eq=False)
class CaseResult:
    """Which tunnel carried which flow.

    ``links``, ``flows``, ``tunnels`` and ``scores`` are DataFrames with the columns of the result contract;
    ``pairings`` says, for each packet of a linked flow, which outer packet carried it.
    """

    tool: dict[str, Any]
    inputs: list[dict[str, Any]]
    alignment: Alignment
    tunnels: pd.DataFrame
    endpoints: pd.DataFrame = field(repr=False)
    """``flows`` without device, clock and IP IDs."""
    describe_stacks: Callable[[], dict[str, list[Any]]] = field(repr=False)
    """Makes those columns, which take long in a large case."""
    tell_pairs: Callable[[], pd.DataFrame] = field(repr=False)
    """Makes ``scores``: in words and numbers, what each engine said of each pair."""
    links: pd.DataFrame
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
    warnings: list[str]
    pair_packets: Callable[[], pd.DataFrame] = field(repr=False)
    """Makes ``pairings``, which is as large as the captures and seldom asked for."""
    delay_law: dict[str, Any] = field(default_factory=dict, repr=False)
    """Medians and 95 % points of the server's delay, ns, by direction; empty without an alignment."""

    @cached_property
    def flows(self) -> pd.DataFrame:
        """``flows`` of the result contract: endpoints, counts, times, names, and the client's stack."""
        return self.endpoints.assign(**self.describe_stacks())

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Pairs of a flow and a tunnel with evidence for them: flow, tunnel, llr, and each engine's part."""
        return self.tell_pairs()

    @cached_property
    def pairings(self) -> pd.DataFrame:
        """Which outer packet carried each packet of a linked flow.

        One row a packet: flow, egress_frame, egress_ns, up, inner_bytes, ingress_frame, ingress_ns,
        outer_bytes, counter, delay_ns (positive towards the far side, on the ingress clock).
        """
        return self.pair_packets()

    def to_dict(self) -> dict[str, Any]:
        """The result contract, of plain Python values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "tool": self.tool,
            "inputs": self.inputs,
            "alignment": self.alignment.to_dict(),
            "tunnels": plain_rows(self.tunnels),
            "flows": plain_rows(self.flows),
            "scores": plain_rows(self.scores),
            "links": plain_rows(self.links),
            "comparisons": self.comparisons,
            "null_comparisons": self.null_comparisons,
            "expected_false_links": self.expected_false_links,
            "allowed_false_links": self.allowed_false_links,
            "decoys": self.decoys,
            "warnings": self.warnings,
        }

    def to_json(self, *, indent: int | None = 1) -> str:
        """The result contract as JSON; the same case gives the same bytes."""
        return json_text(self.to_dict(), indent=indent)

    def explain(self, flow: str) -> pd.DataFrame:
        """Packet by packet, the outer packet that carried a flow; ``ingress_frame`` is empty where none did.

        Raises
        ------
        KeyError
            No such flow.
        """
        if flow not in set(self.endpoints["id"]):
            raise KeyError(flow)
        return self.pairings[self.pairings["flow"] == flow].drop(columns="flow").reset_index(drop=True)

    @property
    def summary(self) -> pd.DataFrame:
        """One row a flow: its link beside its endpoints and its tunnel's client, strongest evidence first."""
        flows = self.endpoints.set_index("id")
        clients = self.tunnels.set_index("id")["client"]
        table = self.links.join(flows[["proto", "src", "dst", "packets", "bytes"]], on="flow")
        table.insert(2, "client", table["tunnel"].map(clients))
        rank = table["verdict"].map({verdict: n for n, verdict in enumerate(VERDICTS)})
        order = np.lexsort((-table["packets"], -table["llr"].fillna(-np.inf).astype(float), rank))
        return table.iloc[order].reset_index(drop=True)

    @property
    def plot(self) -> Any:
        """Pictures of the case (needs the ``plot`` extra): :class:`vpnforensics.report.plots.CasePlots`."""
        from vpnforensics.report.plots import CasePlots

        return CasePlots(self)

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


def plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries of plain Python values; missing ones are None."""
    names = [str(name) for name in table.columns]
    return [dict(zip(names, row, strict=True)) for row in plain_values(table)]


def plain_values(table: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """Rows as tuples of plain Python values; missing ones are None."""
    columns = []
    for name in table.columns:
        values = table[name].tolist()
        columns.append([None if value is pd.NA or value != value else value for value in values])
    return zip(*columns, strict=True)
