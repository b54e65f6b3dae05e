"""A result for other programs: JSON Lines, CSV and Parquet. The same case gives the same bytes."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd

from vpnforensics.report.dataframes import plain_rows, plain_values
from vpnforensics.report.escaping import csv_text, json_text, visible
from vpnforensics.report.provenance import made_by
from vpnforensics.report.result import CaseResult

_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "flow": "string",
        "verdict": "string",
        "tunnel": "string",
        "client": "string",
        "user": "string",
        "server": "string",
        "protocol": "string",
        "llr": "Float64",
        "llr_bounded": "bool",
        "null_comparisons": "int64",
        "error": "Float64",
        "verbal": "string",
        "unlisted_llr": "Float64",
        "why": "string",
        "proto": "string",
        "src": "string",
        "dst": "string",
        "community_id": "string",
        "packets": "int64",
        "bytes": "int64",
        "first_ns": "int64",
        "last_ns": "int64",
        "names": "string",
        "device": "string",
    }
)


def link_table(case: CaseResult) -> pd.DataFrame:
    """One row a flow, in the order of the flows: its link, its endpoints, and the tunnel's.

    ``llr`` is the decimal logarithm of the likelihood ratio, bounded by ``null_comparisons``; times are
    nanoseconds since the epoch on the egress clock; names, in which there are no spaces, are parted by them.
    """
    flows = case.flows.set_index("id")
    tunnels = case.tunnels.set_index("id")
    table = case.links.join(
        flows[[name for name in _COLUMNS if name in flows.columns]],
        on="flow",
    )
    table["null_comparisons"] = case.null_comparisons
    for column in ("client", "user", "server", "protocol"):
        table[column] = table["tunnel"].map(tunnels[column]) if len(tunnels) else None
    return table[list(_COLUMNS)].astype(dict(_COLUMNS))


def table_of(case: CaseResult, name: str) -> pd.DataFrame:
    """One of a case's tables, with times as nanoseconds: for CSV and Parquet.

    Parameters
    ----------
    case : CaseResult
    name : str
        ``links`` with their endpoints, ``tunnels``, ``flows``, ``scores``, or ``packets``: which outer packet
        carried each packet of a linked flow.
    """
    if name == "links":
        return link_table(case)
    table: pd.DataFrame = case.pairings if name == "packets" else getattr(case, name)
    return table.drop(columns=[key for key in table.columns if f"{key}_ns" in table.columns])


def jsonl(case: CaseResult) -> Iterator[str]:
    """One JSON object a line; ``type`` says which part of the result contract it is.

    ``case`` stands last, with what the contract holds beside its lists.
    """
    contract = case.to_dict()
    yield _line("tool", contract["tool"])
    parts = ("inputs", "alignment", "tunnels", "flows", "scores", "links")
    for part in parts:
        rows = [contract[part]] if part == "alignment" else contract[part]
        for row in rows:
            yield _line(part.removesuffix("s") if part != "alignment" else part, row)
    rest = [key for key in contract if key not in parts and key != "tool"]
    yield _line("case", {key: contract[key] for key in rest})


def _line(kind: str, row: dict[str, Any]) -> str:
    return json_text({"type": kind, **row}) + "\n"


def jsonl_rows(table: pd.DataFrame) -> Iterator[str]:
    """The rows of a table, one JSON object a line."""
    for row in plain_rows(table):
        yield json_text(row) + "\n"


def csv_form(table: pd.DataFrame) -> Iterator[str]:
    """A table as CSV (RFC 4180): header, CRLF, quotes where needed, formulas disarmed."""
    yield from _csv_lines([[str(name) for name in table.columns]], plain_values(table))


def _csv_lines(header: Iterable[list[Any]], rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerows(header)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
        if buffer.tell() > 1 << 16:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, int | float) else csv_text(str(value))


def csv_comments(case: CaseResult) -> Iterator[str]:
    """What a table was made of, by what and when, as comment lines to stand before CSV."""
    tool = case.tool
    yield f"# {visible(made_by(tool))}\r\n"
    yield f"# command: {visible(shlex.join(tool['argv']))}\r\n"
    for side in case.inputs:
        for file in side["files"]:
            facts = f"{file['bytes']} bytes, {file['packets']} packets, from frame {file['first_frame']}"
            yield f"# {side['role']}: {visible(file['path'])}, sha256 {file['sha256']}, {facts}\r\n"
    for key in ("parameters", "policy"):
        yield f"# {key}: {visible(json_text(tool[key]))}\r\n"


def parquet_form(table: pd.DataFrame, case: CaseResult | None = None) -> bytes:
    """A table as Parquet.

    Parameters
    ----------
    table : DataFrame
    case : CaseResult, optional
        Whose table it is: under the key ``vpnforensics``, the file's metadata hold all of the result contract
        but its lists.

    Raises
    ------
    ModuleNotFoundError
        The ``parquet`` extra is not installed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    # The metadata that pandas adds names its own version.
    about = {"vpnforensics": json_text(case.about())} if case is not None else None
    arrow = arrow.replace_schema_metadata(about)
    sink = pa.BufferOutputStream()
    pq.write_table(arrow, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())
