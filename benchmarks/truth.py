"""Links right, wrong and undecided on recordings with known truth, damaged step by step."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import vpnforensics as vf
from tests.truth import OFFSET_S, RECORDINGS, degrade, load, tally


def main() -> None:
    folders = [Path(argument) for argument in sys.argv[1:]] or sorted(
        p for p in RECORDINGS.iterdir() if p.is_dir()
    )
    print(f"{'recording':16}{'damage':44}{'10+ packets':>20}{'shorter':>20}{'wrong':>8}")
    for folder in folders:
        recording = load(folder)
        found = tally(recording, vf.correlate(recording.ingress, recording.egress))
        row(folder.name, "none", found)
        for jitter_ms in (0.2, 2.0, 10.0):
            damaged = degrade(recording, jitter_s=jitter_ms / 1e3, offset_s=OFFSET_S)
            found = tally(damaged, vf.correlate(damaged.ingress, damaged.egress), offset_s=OFFSET_S)
            row(folder.name, f"other clock, 1 % loss, jitter sd {jitter_ms:g} ms", found)


def row(name: str, damage: str, found: object) -> None:
    long = f"{found.long_linked}/{found.long} {found.long_share:7.2%}"  # type: ignore[attr-defined]
    short = f"{found.short_linked}/{found.short} {found.short_share:7.2%}"  # type: ignore[attr-defined]
    print(f"{name:16}{damage:44}{long:>20}{short:>20}{found.wrong:>8}")  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
