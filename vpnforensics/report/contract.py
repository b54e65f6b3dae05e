"""A saved result, checked before it is believed: the contract's schema, and what its parts say of each other.

A case of ten thousand flows has tens of thousands of rows of few shapes: rows are checked against the schema
once for each shape (their keys, the types of their values, and words from a list), the rest is compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from vpnforensics.errors import SavedCaseError
from vpnforensics.report.result import SCHEMA_VERSION

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

_LISTS = ("tunnels", "flows", "scores", "links")
_LONGEST_WORD = 12
"""Strings up to this length may be words from a list, as ``linked`` or ``udp`` are."""
_ROUNDED = 0.01
"""Errors in the file are rounded to three digits; their sum is not."""


def contract_of(text: str, path: str) -> dict[str, Any]:
    """The contract in a file's text.

    Parameters
    ----------
    text : str
    path : str
        Its name, for messages.

    Raises
    ------
    SavedCaseError
        It is cut, something else, of another version, or does not keep the contract.
    """
    if not text.strip():
        raise SavedCaseError(path, "there is nothing in it")
    try:
        contract: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError as error:
        cut = text.lstrip().startswith("{") and not text.rstrip().endswith("}")
        why = "it ends in the middle (an unfinished copy?)" if cut else f"no JSON: {error.msg}"
        raise SavedCaseError(path, f"line {error.lineno}: {why}") from error
    except RecursionError as error:
        raise SavedCaseError(path, "no result of vpnforensics: JSON nested too deep") from error
    version = contract.get("schema_version") if isinstance(contract, dict) else None
    tool = contract.get("tool") if isinstance(contract, dict) else None
    if not isinstance(version, int) or not isinstance(tool, dict) or tool.get("name") != "vpnforensics":
        raise SavedCaseError(path, "no result of vpnforensics (`vpnf correlate IN OUT -f json` makes one)")
    if version != SCHEMA_VERSION:
        raise SavedCaseError(
            path,
            f"of schema_version {version}, where this program reads {SCHEMA_VERSION}: correlate the captures"
            " anew, or use the program that made it"
            f" ({tool.get('version')})",
        )
    _check_shapes(contract, path)
    for fault in _contradictions(contract):
        raise SavedCaseError(path, f"it contradicts itself: {fault} (was it edited?)")
    return contract


def _check_shapes(contract: dict[str, Any], path: str) -> None:
    """Raise where the contract's schema refuses it."""
    few = dict(contract)
    for key in _LISTS:
        if isinstance(rows := contract.get(key), list):
            few[key] = list({_shape(row): row for row in rows}.values())
    fault = next(_validator().iter_errors(few), None)
    if fault is not None:
        where = ".".join(str(step) for step in fault.absolute_path if isinstance(step, str)) or "the whole"
        raise SavedCaseError(path, f"{where}: {fault.message[:200]} (was it edited?)")


@cache
def _validator() -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    text = resources.files("vpnforensics.report").joinpath("result.schema.json").read_text()
    return Draft202012Validator(json.loads(text))


def _shape(value: Any) -> Any:
    """What the schema can tell of a value, but for the digits of numbers and the letters of long texts."""
    if isinstance(value, dict):
        return tuple((key, _shape(each)) for key, each in value.items())
    if isinstance(value, list):
        return (len(value) if len(value) < 3 else 3, *{_shape(each) for each in value})
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_WORD and value.replace("_", "").isalpha() else "text"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return type(value), value < 0, value > 1
    return value


def _contradictions(contract: dict[str, Any]) -> Iterator[str]:
    flows = [row["id"] for row in contract["flows"]]
    tunnels = {row["id"] for row in contract["tunnels"]}
    if len(set(flows)) < len(flows) or len(tunnels) < len(contract["tunnels"]):
        yield "an id stands twice"
    if [row["flow"] for row in contract["links"]] != flows:
        yield "its links are not those of its flows"
    named = {row["tunnel"] for row in contract["links"]} - {None} | {
        row["tunnel"] for row in contract["scores"]
    }
    if not named <= tunnels:
        yield f"there is no tunnel {min(named - tunnels)}"
    if not {row["flow"] for row in contract["scores"]} <= set(flows):
        yield "it has scores of flows that it has not"
    errors = sum(row["error"] for row in contract["links"] if row["verdict"] == "linked")
    stated = contract["expected_false_links"]
    if abs(errors - stated) > _ROUNDED * max(errors, stated):
        yield f"the errors of its links sum up to {errors:.3g}, where it states {stated:.3g}"
