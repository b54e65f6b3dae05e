"""The pages of the documentation site, gathered into a folder: ``python docs/generate/site.py FOLDER``.

Beside the documents these are pages that other things in the repository are: ``result-fields.md`` is the
result's JSON schema in words, ``decisions.md`` the list of decisions; changes and contributing are the
repository's own files. A link to a file outside ``docs`` is led to the repository.
"""

from __future__ import annotations

import json
import posixpath
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/vpnforensics/vpnforensics"
SCHEMA = ROOT / "vpnforensics/report/result.schema.json"
_LINK = re.compile(r"(\]\()([^)#\s]+)")


def gather(folder: Path) -> int:
    """Put all pages into ``folder``, which is made anew, and say how many there are."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder, ignore=shutil.ignore_patterns("generate", "*.py", "__pycache__"))
    for name, text in (
        ("result-fields.md", "\n".join(fields(json.loads(SCHEMA.read_text())))),
        ("decisions.md", decisions(ROOT / "docs/adr")),
        ("contributing.md", at_root("CONTRIBUTING.md")),
        ("changes.md", at_root("CHANGELOG.md")),
    ):
        (folder / name).write_text(text)
    pages = sorted(folder.rglob("*.md"))
    for page in pages:
        page.write_text(leaving(page.read_text(), page.relative_to(folder).as_posix()))
    return len(pages)


def leaving(markdown: str, page: str) -> str:
    """A page whose links to files outside ``docs`` lead to the repository, where there are such files."""
    folder = posixpath.join("docs", posixpath.dirname(page))

    def there(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        if "://" in match[2] or target.startswith(("docs/", "../")) or not (ROOT / target).exists():
            return match[0]
        return f"{match[1]}{REPOSITORY}/blob/main/{target}"

    return _LINK.sub(there, markdown)


def at_root(name: str) -> str:
    """A document of the repository's root, its links made those of ``docs``."""

    def there(match: re.Match[str]) -> str:
        return match[0] if "://" in match[2] else match[1] + posixpath.relpath(match[2], "docs")

    return _LINK.sub(there, (ROOT / name).read_text())


def decisions(folder: Path) -> str:
    """The decisions by number and title."""
    lines = ["# Decisions", "", "What was hard to decide, what was tried, and what it costs.", ""]
    for path in sorted(folder.glob("[0-9]*.md")):
        number, _, title = path.read_text().split("\n", 1)[0].removeprefix("# ").partition(". ")
        lines.append(f"{int(number)}. [{title}](adr/{path.name})")
    return "\n".join([*lines, ""])


def fields(schema: dict[str, Any]) -> Iterator[str]:
    """The result contract in words, a table an object."""
    definitions = schema["$defs"]
    yield "# The result, field by field"
    yield ""
    yield "Made from the JSON schema that is part of the package; [the result](result.md) says what its parts"
    yield "mean."
    yield "A value that may be `null` is so where there is no evidence for it."
    yield ""
    yield from _table("The document", schema, definitions)
    for name, each in definitions.items():
        if "properties" in each:
            yield from _table(name, each, definitions)


def _table(title: str, each: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    if "description" in each:
        yield each["description"]
        yield ""
    yield from ("| key | value | meaning |", "|---|---|---|")
    yield from _rows(each, definitions, "")
    yield ""


def _rows(each: dict[str, Any], definitions: dict[str, Any], above: str) -> Iterator[str]:
    for key, what in each["properties"].items():
        optional = "" if key in each.get("required", ()) else " (may be missing)"
        meaning = what.get("description", "")
        if not meaning and "$ref" in what and "properties" not in _named(what, definitions):
            meaning = _named(what, definitions).get("description", "")
        yield f"| `{above}{key}`{optional} | {_kind(what, definitions)} | {_cell(meaning)} |"
        inner = what.get("items", what) if what.get("type") == "array" else what
        if "properties" in inner:
            yield from _rows(inner, definitions, f"{above}{key}.")


def _kind(what: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What kind of value it is, in words; an object that has a table of its own is a link to it."""
    if "$ref" in what:
        name = what["$ref"].rpartition("/")[2]
        target = definitions[name]
        return f"[{name}](#{name})" if "properties" in target else _kind(target, definitions)
    if "const" in what:
        return f"`{json.dumps(what['const'])}`"
    if "enum" in what:
        return ", ".join(f"`{json.dumps(value)}`" for value in what["enum"])
    if "oneOf" in what:
        return " or ".join(_kind(each, definitions) for each in what["oneOf"])
    kinds = what.get("type", "any")
    names = [kinds] if isinstance(kinds, str) else kinds
    text = " or ".join("`null`" if name == "null" else name for name in names)
    if "array" in names and "items" in what:
        text = text.replace("array", f"list of {_kind(what['items'], definitions)}", 1)
    least, most = what.get("minimum"), what.get("maximum")
    if least is not None and most is not None:
        text += f", {least} to {most}"
    elif least is not None:
        text += f", {least} or more"
    return text


def _named(what: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    named: dict[str, Any] = definitions[what["$ref"].rpartition("/")[2]]
    return named


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(f"{gather(Path(sys.argv[1]))} pages in {sys.argv[1]}")
