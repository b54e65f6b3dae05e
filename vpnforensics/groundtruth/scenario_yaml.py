"""YAML with line numbers: a checked document whose every error names the file, the line and the key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from vpnforensics.errors import ScenarioError

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Located:
    """A document and the line of each of its keys.

    Parameters
    ----------
    name : str
        The file, for messages.
    value : dict
        The document, valid by its schema.
    lines : mapping of tuple to int
        Line (from 1) of each key or list item, by the path that leads to it.
    """

    name: str
    value: dict[str, Any]
    lines: Mapping[Place, int]

    def error(self, place: Iterable[str | int], message: str) -> ScenarioError:
        """An error at a place of the document, or at the nearest place above it that exists."""
        where = tuple(place)
        known = where
        while known and known not in self.lines:
            known = known[:-1]
        return ScenarioError(f"{self.name}:{self.lines.get(known, 1)}: {_spell(where)}: {message}")


def parse(text: str, name: str, schema: dict[str, Any]) -> Located:
    """Parse and check a document.

    Raises
    ------
    ScenarioError
        Not YAML, a key twice, or against the schema.
    """
    import jsonschema  # seconds, where all its optional formats are installed

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ScenarioError(f"{name}:{line}: not YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ScenarioError(f"{name}:1: not YAML: {error}") from error
    if node is None or not isinstance(value, dict):
        raise ScenarioError(f"{name}:1: a scenario is a mapping of keys such as `vpn:` and `clients:`")
    lines: dict[Place, int] = {}
    _walk(node, (), lines, name)
    located = Located(name, value, lines)
    validator = jsonschema.Draft202012Validator(schema)
    errors = sorted(validator.iter_errors(value), key=lambda e: [str(p) for p in e.absolute_path])
    if errors:
        raise _translate(located, errors[0])
    for place, found in _ranges(value, ()):
        if found[0] > found[1]:
            raise located.error(place, f"the range [{found[0]:g}, {found[1]:g}] runs backwards")
    return located


def _walk(node: yaml.Node, place: Place, lines: dict[Place, int], name: str) -> None:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            below = (*place, key.value)
            if below in lines:
                raise ScenarioError(
                    f"{name}:{key.start_mark.line + 1}: {_spell(below)}: the key stands twice"
                )
            lines[below] = key.start_mark.line + 1
            _walk(child, below, lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _walk(child, (*place, index), lines, name)


def _translate(located: Located, error: Any) -> ScenarioError:
    """A `jsonschema.ValidationError` in words: what stands there, and what may."""
    place: Place = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        allowed = sorted(error.schema["properties"])
        unknown = next(key for key in error.instance if key not in allowed)
        return located.error((*place, str(unknown)), f"unknown key; known here: {', '.join(allowed)}")
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return located.error(place, f"the key `{missing[0]}` is missing")
    if error.validator == "enum":
        choices = ", ".join(map(str, error.validator_value))
        return located.error(place, f"{error.instance!r} is not one of {choices}")
    if error.validator == "oneOf":
        return located.error(place, f"{error.instance!r} is neither a number >= 0 nor a pair [low, high]")
    return located.error(place, error.message)


def _ranges(value: Any, place: Place) -> Iterable[tuple[Place, list[float]]]:
    """Every list of two numbers: in this format those are ranges."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _ranges(child, (*place, key))
    elif isinstance(value, list):
        if len(value) == 2 and all(isinstance(v, (int, float)) for v in value):
            yield place, value
        else:
            for index, child in enumerate(value):
                yield from _ranges(child, (*place, index))


def _spell(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "the document"
