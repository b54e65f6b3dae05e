"""The lists of the result contract as DataFrames to work with: flat columns, dates, one dtype each.

What is an object in the contract becomes a column for each of its keys (``clock.hz`` is ``clock_hz``), a pair
its ``_low`` and ``_high``; beside every ``..._ns`` stands the same time as a datetime of pandas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from vpnforensics.engines.registry import ENGINES

Kind = Literal["text", "names", "words", "float", "int", "maybe_int", "bool", "ns"]
Columns = tuple[tuple[str, Kind], ...]
"""Path of each column in the contract, and what it holds."""

_CLOCK: Columns = (
    ("clock.hz", "float"),
    ("clock.skew_ppm", "float"),
    ("clock.skew_interval_ppm.0", "float"),
    ("clock.skew_interval_ppm.1", "float"),
    ("clock.offset_s", "float"),
    ("clock.phase_ticks", "float"),
    ("clock.scope", "text"),
)
_IP_ID: Columns = (
    ("ip_id.class", "text"),
    ("ip_id.scope", "text"),
    ("ip_id.increments", "float"),
    ("ip_id.missing", "maybe_int"),
)
TUNNELS: Columns = (
    ("id", "text"),
    ("client", "text"),
    ("server", "text"),
    ("transport", "text"),
    ("protocol", "text"),
    ("variant", "text"),
    ("first_ns", "ns"),
    ("last_ns", "ns"),
    ("packets_up", "int"),
    ("packets_down", "int"),
    ("length_map.kind", "text"),
    ("length_map.formula", "text"),
    ("length_map.overhead", "maybe_int"),
    ("length_map.block", "maybe_int"),
    ("length_map.extra", "maybe_int"),
    ("length_map.cap", "maybe_int"),
    ("length_map.origin", "text"),
    ("write_law.kind", "text"),
    ("write_law.formula", "text"),
    ("write_law.origin", "text"),
    ("connections", "maybe_int"),
    *_CLOCK,
    *_IP_ID,
    ("user", "text"),
    ("explained_share", "float"),
)
ENDPOINTS: Columns = (
    ("id", "text"),
    ("proto", "text"),
    ("src", "text"),
    ("dst", "text"),
    ("names", "names"),
    ("community_id", "text"),
    ("uids", "words"),
    ("packets", "int"),
    ("bytes", "int"),
    ("first_ns", "ns"),
    ("last_ns", "ns"),
)
STACKS: Columns = (("device", "text"), *_CLOCK, *_IP_ID)
LINKS: Columns = (
    ("flow", "text"),
    ("tunnel", "text"),
    ("connection", "text"),
    ("verdict", "text"),
    ("llr", "float"),
    ("llr_bounded", "bool"),
    ("error", "float"),
    ("verbal", "text"),
    ("unlisted_llr", "float"),
    ("why", "text"),
)
_SCORES: Columns = (
    ("flow", "text"),
    ("tunnel", "text"),
    ("llr", "float"),
    ("llr_bounded", "bool"),
    ("null_comparisons", "int"),
)
_OF_ENGINE: Columns = (("score", "float"), ("llr", "float"), ("n", "maybe_int"), ("note", "text"))


def flat(rows: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """A list of the contract with these columns; the names and uids of a flow as one text, parted by spaces.

    Parameters
    ----------
    rows : DataFrame
        Of plain values, with dictionaries and lists in cells.
    columns : Columns
    """
    made: dict[str, Any] = {}
    for path, kind in columns:
        key, *inner = path.split(".")
        values = plain(rows[key]) if key in rows else [None] * len(rows)  # saved before there was such a key
        for step in inner:
            values = [None if value is None else _part(value, step) for value in values]
        name = path.replace(".0", "_low").replace(".1", "_high").replace(".", "_")
        made[name] = _column(values, kind)
        if kind == "ns":
            made[name.removesuffix("_ns")] = pd.to_datetime(np.array(values, np.int64), unit="ns", utc=True)
    return pd.DataFrame(made, index=range(len(rows)))


def wide_scores(rows: pd.DataFrame) -> pd.DataFrame:
    """``scores``, with four columns for each engine that said something of some pair."""
    table = flat(rows, _SCORES)
    parts = plain(rows["engines"])
    spoke = {name for part in parts for name in part}
    for engine in _in_order(spoke):
        for key, kind in _OF_ENGINE:
            values = [part[engine][key] if engine in part else None for part in parts]
            table[f"{engine}_{key}"] = _column(values, kind)
    return table


def long_scores(rows: pd.DataFrame) -> pd.DataFrame:
    """``scores``, one row a pair and engine."""
    found = [
        {"flow": flow, "tunnel": tunnel, "engine": engine, **said}
        for flow, tunnel, engines in zip(rows["flow"], rows["tunnel"], rows["engines"], strict=True)
        for engine, said in engines.items()
    ]
    columns: Columns = (("flow", "text"), ("tunnel", "text"), ("engine", "text"), *_OF_ENGINE)
    return flat(pd.DataFrame(found, columns=[path for path, _ in columns], dtype=object), columns)


def plain(values: pd.Series[Any]) -> list[Any]:
    """Plain Python values; missing ones are None."""
    return [None if value is pd.NA or value != value else value for value in values.tolist()]


def plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries of plain Python values; missing ones are None."""
    names = [str(name) for name in table.columns]
    return [dict(zip(names, row, strict=True)) for row in plain_values(table)]


def plain_values(table: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """Rows as tuples of plain Python values; missing ones are None."""
    return zip(*(plain(table[name]) for name in table.columns), strict=True)


def _part(value: Any, step: str) -> Any:
    return value[int(step)] if step.isdecimal() else value.get(step)


def _column(values: Sequence[Any], kind: Kind) -> pd.Series[Any]:
    if kind == "float":
        return pd.Series([np.nan if value is None else value for value in values], dtype=np.float64)
    if kind == "maybe_int":
        return pd.Series(values, dtype="Int64")
    if kind in ("int", "ns"):
        return pd.Series(values, dtype=np.int64)
    if kind == "bool":
        return pd.Series(values, dtype=np.bool_)
    if kind == "names":  # there are no spaces in a name
        values = [" ".join(each["name"] for each in value) for value in values]
    if kind == "words":
        values = [" ".join(value) for value in values]
    return pd.Series(values, dtype=None if any(text is not None for text in values) else object)


def _in_order(engines: set[str]) -> list[str]:
    """Engines as they are listed; those of another version behind them."""
    known = [name for name in ENGINES if name in engines]
    return known + sorted(engines - set(known))
