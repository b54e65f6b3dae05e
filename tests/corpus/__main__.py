"""``python -m tests.corpus [WORD...]``: the corpus, or what of it has a word in its name, as a table."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.corpus.specimen import Specimen, Vpn
from tests.corpus.table import Outcome, corpus, faults, outcome


def main(*asked: str) -> int:
    """Print a line a specimen; 1 if any is wrong."""
    chosen = [s for s in corpus() if not asked or any(word in s.name for word in asked)]
    marks: Counter[tuple[str, bool]] = Counter()
    print(f"{'':5}  {'file':40} {'expected':52} got")
    with tempfile.TemporaryDirectory() as folder:
        for specimen in chosen:
            got = outcome(specimen, Path(folder))
            wrong = list(faults(specimen, got))
            marks[specimen.family, not wrong] += 1
            print(
                f"{'WRONG' if wrong else 'right'}  {specimen.name:40} {_expected(specimen):52} {_got(got)}",
                flush=True,
            )
            for fault in wrong:
                print(f"       - {fault}")
    print()
    for family in dict.fromkeys(s.family for s in chosen):
        print(f"{family:12} {marks[family, True]:4} right {marks[family, False]:4} wrong")
    right = sum(n for (_, fine), n in marks.items() if fine)
    print(f"{'all':12} {right:4} right {marks.total() - right:4} wrong")
    return 0 if right == marks.total() else 1


def _expected(specimen: Specimen) -> str:
    links = f", {specimen.least_links}+ of {len(specimen.carried)} linked" if specimen.carried else ""
    return f"{_in_short(specimen.tunnels)}; exit {specimen.exit_code}{links}"


def _got(got: Outcome) -> str:
    links = f", {len(got.links)} linked" if got.exit_code == 0 else ""
    return f"{_in_short(got.tunnels)}; exit {got.exit_code}{links}"


def _in_short(tunnels: tuple[Vpn, ...]) -> str:
    """Protocols and how many of each; a candidate has a question mark."""
    counts = Counter(
        f"{t.protocol}{f'/{t.variant}' if t.variant else ''}{'' if t.sure else '?'}" for t in tunnels
    )
    return ", ".join(f"{name} ×{n}" if n > 1 else name for name, n in counts.items()) or "none"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
