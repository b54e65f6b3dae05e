"""Make the calibration that is lent to small cases: ``vpnforensics/evidence/shipped.json``.

It is measured on what it is lent to: small cases, a second and a half cut out of simulated sessions with
seeds of their own and of the shipped recordings, as they are and with jitter. `make validate` judges none of
the simulated ones.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.validation import mix
from tests.truth import RECORDINGS
from vpnforensics._version import __version__
from vpnforensics.evidence import shipped
from vpnforensics.evidence.calibration import chance_slope
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.options import Options
from vpnforensics.report.provenance import commit, today
from vpnforensics.validation.comparisons import Comparisons, by_pair, compare, joined
from vpnforensics.validation.damage import Damage
from vpnforensics.validation.sessions import Session, open_sessions
from vpnforensics.validation.splits import design_effect
from vpnforensics.validation.trials import Trial, every, trials

PROTOCOLS = {"wireguard": 201, "openvpn-udp": 202, "strongswan": 203, "nebula": 204, "ocserv-dtls": 205}
CLIENTS = 8
WINDOWS_S = (4.0, 11.0, 18.0, 25.0, 32.0, 39.0, 46.0, 53.0)
LONG_S = 1.5
JITTERS = ((0.0, 0.0), (2.0, 0.01), (10.0, 0.01))
"""Standard deviation, ms, and share lost."""
SPREAD_MS = 6.0
"""Delays of small cases with up to 2 ms of jitter spread by less, where they show at all; beyond, those with
10 ms appear, some of whose claims are wrong by many decades."""
TARGET = Path(shipped.__file__).with_name("shipped.json")


def main() -> None:
    shipped.SMALL = 0  # nothing is lent to what is measured
    with tempfile.TemporaryDirectory() as folder:
        for name, seed in PROTOCOLS.items():
            simulate(mix(CLIENTS, name, seed), Path(folder) / f"{name}-{seed}", seed)
        document = measured(open_sessions([Path(folder), RECORDINGS]))
    text = json.dumps(document, indent=1, sort_keys=True)
    TARGET.write_text(text + "\n", encoding="utf-8")
    print(text)


def measured(sessions: list[Session]) -> dict[str, Any]:
    damages = [
        Damage(jitter, loss, window_s=(at, at + LONG_S)) for jitter, loss in JITTERS for at in WINDOWS_S
    ]
    tables, protocols = [], set()
    for number, trial in enumerate(trials(every(sessions, damages), Options(), lambda step, share: None)):
        if not isinstance(trial, Trial) or not trial.decision.delay_law:
            continue  # too small to make a case of
        table = compare(trial, number)
        spread_ms = np.full(len(table), shipped.spread_ms(trial.decision))
        tables.append(table.with_values("claim", claims(trial, table)).with_values("spread_ms", spread_ms))
        protocols |= {t.protocol for t in trial.case.tunnels.tunnels}
    table = joined(tables)
    inside = table.take(table.values["spread_ms"] <= SPREAD_MS)
    # A copy with jitter is no further comparison, and a flow's tunnels are not independent.
    claim, false = inside.values["claim"], ~inside.h1
    effect = max(len(JITTERS), design_effect(claim[false] > 0, inside.identity[false]))
    captures = [
        {"name": s.name, "session": s.session, "truth_sha256": s.truth_sha256,
         **{f"{side}_sha256": hashlib.sha256(path.read_bytes()).hexdigest()
            for side, path in (("ingress", s.ingress), ("egress", s.egress))}}
        for s in sessions
    ]  # fmt: skip
    figures = {
        **slopes(inside),
        "false_comparisons": int(false.sum() / effect),
        "true_comparisons": int(inside.h1.sum() / len(JITTERS)),
        "range": {"protocols": sorted(protocols), "spread_ms": SPREAD_MS},
        "outside": slopes(table.take(table.values["spread_ms"] > SPREAD_MS)),
    }
    digest = hashlib.sha256(json.dumps([captures, figures], sort_keys=True).encode()).hexdigest()
    return {
        "id": digest[:12],
        "made_by": "python benchmarks/shipped_calibration.py",
        "version": __version__,
        "commit": commit(),
        "date": today(),
        **figures,
        "captures": captures,
    }


def slopes(table: Comparisons) -> dict[str, float]:
    """What share of the model's ratios held."""
    claim, h1 = table.values["claim"], table.h1
    return {
        "slope_for": round(chance_slope(claim[~h1], int((~h1).sum())), 4),
        "slope_against": round(chance_slope(-claim[h1], int(h1.sum())), 4),
    }


def claims(trial: Trial, table: Comparisons) -> np.ndarray:
    """What the model claims of each comparison, before the case's own bounds.

    What is not listed had no evidence for it: it speaks for nothing, and counts as compared.
    """
    scores, claim = trial.decision.scores, trial.decision.voices[0].claim
    return by_pair(trial.case, scores.flow, scores.tunnel, claim, unlisted=-1.0)[table.flow, table.tunnel]


if __name__ == "__main__":
    main()
