"""One measured figure a line, beside its aim."""

from __future__ import annotations


def heading(text: str) -> None:
    print(f"\n{text}", flush=True)


def figure(what: str, value: str, aim: str = "", met: bool | None = None) -> None:
    """Print a figure; ``met`` is None where there is no aim to meet."""
    line = f"  {what:58} {value}"
    line += f"   (aim {aim})" if aim else ""
    print(line + ("  MISSED" if met is False else ""), flush=True)


def share(right: int, total: int) -> str:
    return f"{right}/{total} = {right / total:.4f}" if total else "none"
