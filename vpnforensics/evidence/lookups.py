"""What it is worth that a tunnel's client goes to what a lookup asked for: counted in the case itself.

Of the lookups that packets link, their own tunnels show how soon a flow to what was asked for follows, if one
does, and the other tunnels how soon one does that did not ask. The ratio of both shares is the likelihood
ratio (:mod:`vpnforensics.engines.lookups`). A share is never less than one comparison, so that a ratio is
bounded by their number. Of its logarithm a part is believed: a tunnel that has the like of a lookup is one
whose client loads the same page more often than other tunnels are.

Assumes that lookups which packets leave open are followed by flows as others are.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.arrays import Floats, Int32s, Ints
from vpnforensics.engines.case import ScoreTable
from vpnforensics.engines.lookups import NAME, Asked
from vpnforensics.evidence.calibration import LEAST_KNOWN, Calibration
from vpnforensics.evidence.joint.hints import Hints
from vpnforensics.evidence.voices import Voice
from vpnforensics.flows.grouping import changes

_DELAYS_NS = np.array([10, 20, 30, 50, 100, 200, 500]) * 1_000_000
"""Where delays are parted; the last part ends with :data:`vpnforensics.engines.lookups.WITHIN_NS`."""
NEVER = len(_DELAYS_NS) + 1
"""The part of those after which no such flow came."""


_SAME = "its client goes to the host that is asked for"
_OTHER = "its client does not go to the host that is asked for"
_SILENT = "no lookup, or no address of its name is known"
_UNKNOWN = f"fewer than {LEAST_KNOWN} lookups with known answers are linked by packets"


def hints_of(asked: Asked, tunnel: Int32s, alive: Ints, believed: float) -> Hints | None:
    """Likelihood ratios of lookups; None where too few are linked to learn from.

    Parameters
    ----------
    asked : Asked
    tunnel : ndarray of int32, shape (flows,)
        Which each flow is linked to by its packets, or -1.
    alive : ndarray of int64, shape (flows,)
        Tunnels that each flow is compared with.
    believed : float
        Share of a ratio's logarithm.
    """
    own = tunnel[asked.lookup]
    known = own >= 0
    if known.sum() < LEAST_KNOWN:
        return None
    row, to, part = _first(asked, tunnel)
    learned = known[row]
    mine = learned & (own[row] == to)
    others = int(np.maximum(alive[asked.lookup[known]] - 1, 0).sum())
    h1 = np.bincount(part[mine], minlength=NEVER + 1)
    h2 = np.bincount(part[learned & ~mine], minlength=NEVER + 1)
    h1[NEVER], h2[NEVER] = known.sum() - h1.sum(), max(others - h2.sum(), 0)
    log_ratio = believed * (_log_shares(h1) - _log_shares(h2))
    elsewhere = np.zeros(len(tunnel))
    elsewhere[asked.lookup] = log_ratio[NEVER]
    return Hints(asked.lookup[row], to.astype(np.int32), log_ratio[part], elsewhere)


def _first(asked: Asked, tunnel: Int32s) -> tuple[Ints, Ints, Ints]:
    """Pairs of lookup and tunnel with a flow there: row, tunnel, and the part of the first one's delay."""
    to = tunnel[asked.flow].astype(np.int64)
    order = np.lexsort((asked.delay_ns, to, asked.of))
    order = order[to[order] >= 0]
    order = order[changes(asked.of[order], to[order])]
    return asked.of[order], to[order], np.searchsorted(_DELAYS_NS, asked.delay_ns[order], side="right")


def _log_shares(counts: Ints) -> Floats:
    """Of each part, none of which is less than one comparison."""
    return np.asarray(np.log((counts + 1) / (counts.sum() + len(counts))))


def voice_of(hints: Hints | None, scores: ScoreTable, calibration: Calibration) -> Voice:
    """What lookups say of the listed pairs, within the bounds of the case's likelihood ratios."""
    if hints is None:
        nothing = np.full(len(scores), np.nan)
        return Voice(NAME, nothing, nothing, np.zeros(len(scores), np.int32), (_UNKNOWN,) * len(scores))
    score = hints.of(scores.flow, scores.tunnel) / np.log(10.0)
    listed = hints.rows(scores.flow, scores.tunnel) >= 0
    silent = hints.elsewhere[scores.flow] == 0.0
    note = np.where(listed, _SAME, np.where(silent, _SILENT, _OTHER)).tolist()
    llr = np.where(silent, np.nan, np.clip(score, calibration.lower, calibration.upper))
    return Voice(
        NAME, np.where(silent, np.nan, score), llr, np.where(silent, 0, 1).astype(np.int32), tuple(note)
    )
