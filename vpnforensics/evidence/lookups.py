"""What it is worth that a tunnel's client goes to what a lookup asked for: counted in the case itself.

Of the lookups that packets link, their own tunnels show how soon a flow to what was asked for follows, if one
does, and the other tunnels how soon one does that did not ask. The ratio of both shares is the likelihood
ratio (:mod:`vpnforensics.engines.lookups`), apart for tunnels with a like lookup, of that moment, that
packets link to them. A share is never less than one comparison, so that a ratio is bounded by their number;
and where fewer than 20 comparisons were made, nothing is said.

Assumes that lookups which packets leave open are followed by flows as others are.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.arrays import Bools, Floats, Int32s, Ints
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


_SAME = "its client goes to, or asks for, the same host at that time"
_OTHER = "its client has nothing to do with the host that is asked for"
_SILENT = "no lookup, or no address of its name is known"
_UNKNOWN = f"fewer than {LEAST_KNOWN} lookups with known answers are linked by packets"


def hints_of(asked: Asked, tunnel: Int32s, alive: Ints) -> Hints | None:
    """Likelihood ratios of lookups; None where too few are linked to learn from.

    Parameters
    ----------
    asked : Asked
    tunnel : ndarray of int32, shape (flows,)
        Which each flow is linked to by its packets, or -1.
    alive : ndarray of int64, shape (flows,)
        Tunnels that each flow is compared with.
    """
    own = tunnel[asked.lookup]
    known = own >= 0
    if known.sum() < LEAST_KNOWN:
        return None
    row, to, part, alike = _met(asked, tunnel)
    learned = known[row]
    mine = learned & (own[row] == to)
    others = int(np.maximum(alive[asked.lookup[known]] - 1, 0).sum())
    h1, h2 = (_counts(part, alike, of) for of in (mine, learned & ~mine))
    h1[0, NEVER] += known.sum() - mine.sum()
    h2[0, NEVER] += max(others - int((learned & ~mine).sum()), 0)
    log_ratio = _log_shares(h1) - _log_shares(h2)
    few = np.minimum(h1.sum(axis=1), h2.sum(axis=1)) < LEAST_KNOWN
    log_ratio[few] = 0.0
    elsewhere = np.zeros(len(tunnel))
    elsewhere[asked.lookup] = log_ratio[0, NEVER]
    said = log_ratio[alike.astype(np.int64), part]
    return Hints(asked.lookup[row], to.astype(np.int32), said, elsewhere)


def _met(asked: Asked, tunnel: Int32s) -> tuple[Ints, Ints, Ints, Bools]:
    """Pairs of lookup and tunnel with something in common: row, tunnel, part of the delay, whether a like."""
    flow, like = tunnel[asked.flow], tunnel[asked.lookup[asked.like]]
    followed, liked = flow >= 0, like >= 0
    row = np.r_[asked.of[followed], asked.like_of[liked]]
    to = np.r_[flow[followed], like[liked]].astype(np.int64)
    far = np.iinfo(np.int64).max
    delay_ns = np.r_[asked.delay_ns[followed], np.full(int(liked.sum()), far)]
    order = np.lexsort((delay_ns, to, row))
    row, to, delay_ns = row[order], to[order], delay_ns[order]
    lead = np.flatnonzero(changes(row, to))
    alike = np.add.reduceat(delay_ns == far, lead) > 0 if len(lead) else np.zeros(0, np.bool_)
    row, to, delay_ns = row[lead], to[lead], delay_ns[lead]
    part = np.where(delay_ns < far, np.searchsorted(_DELAYS_NS, delay_ns, side="right"), NEVER)
    return row, to, part, alike


def _counts(part: Ints, alike: Bools, of: Bools) -> Floats:
    """How many pairs are in each part, without and with a like; shape (2, parts)."""
    cell = alike[of] * (NEVER + 1) + part[of]
    return np.bincount(cell, minlength=2 * (NEVER + 1)).reshape(2, -1).astype(np.float64)


def _log_shares(counts: Floats) -> Floats:
    """Of each part, none of which is less than one comparison."""
    return np.asarray(np.log((counts + 1) / (counts.sum(axis=1, keepdims=True) + counts.shape[1])))


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
