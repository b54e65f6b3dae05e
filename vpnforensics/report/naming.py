"""Names of flows in tables: the surest one, marked where the flow did not say it itself."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from rich.text import Text

from vpnforensics.report.escaping import visible

_WIDEST = 28
"""Columns that a name takes at most."""
_OWN_WORDS = ("sni", "http", "quic", "query", "zeek")
_MARK = "≈"


def surest_names(flows: pd.DataFrame) -> dict[str, str]:
    """The first name of each flow that has one, by its id; of a long name the end, which says whose it is.

    Parameters
    ----------
    flows : DataFrame
        With the contract's ``id`` and ``names``.
    """
    known = zip(flows["id"], flows["names"], strict=True)
    return {flow: _short(names[0]) for flow, names in known if names}


def looked_up_line(names: Mapping[str, str]) -> list[Text]:
    """What stands under a table in which a name is marked."""
    if not any(name.startswith(_MARK) for name in names.values()):
        return []
    told = f"{_MARK} a name that an earlier lookup gave the address; the flow's own is not in the capture"
    return [Text(told, style="dim")]


def marked(row: Mapping[str, str]) -> str:
    """A name of the contract in full, marked where the flow did not say it itself."""
    return _mark(row) + visible(row["name"])


def _short(row: Mapping[str, str]) -> str:
    name = visible(row["name"])
    return _mark(row) + (name if len(name) <= _WIDEST else f"…{name[1 - _WIDEST :]}")


def _mark(row: Mapping[str, str]) -> str:
    return "" if row["source"] in _OWN_WORDS else _MARK
