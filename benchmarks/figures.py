"""One measured figure a line, beside its aim."""

from __future__ import annotations

import argparse
from collections.abc import Iterable


def heading(text: str) -> None:
    print(f"\n{text}", flush=True)


def figure(what: str, value: str, aim: str = "", met: bool | None = None) -> None:
    """Print a figure; ``met`` is None where there is no aim to meet."""
    line = f"  {what:58} {value}"
    line += f"   (aim {aim})" if aim else ""
    print(line + ("  MISSED" if met is False else ""), flush=True)


def share(right: int, total: int) -> str:
    return f"{right}/{total} = {right / total:.4f}" if total else "none"


def chosen_sections(description: str | None, sections: Iterable[str]) -> list[str]:
    """The sections named on the command line; all of them where none is."""
    names = list(sections)
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("section", nargs="*", help=", ".join(names))
    chosen: list[str] = parser.parse_args().section
    for name in chosen:
        if name not in names:
            parser.error(f"there is no section {name!r}")
    return chosen or names
