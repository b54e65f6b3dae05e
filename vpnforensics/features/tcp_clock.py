"""The clock behind a sender's TCP timestamps (RFC 7323).

Theory of operation
-------------------
TSval counts ticks of the sender's clock. Its rate says how many ticks a second (a property of the system)
and by how many ppm the quartz is off (a property of the machine); its offset says when the counter stood
at 0, which is the boot where a stack has one counter for all connections. Steps: values that cannot be this
sender's are put aside (0, isolated leaps ahead, values older than one already seen: reordering and copies),
the tick rate is snapped to those that systems use, leaps of the offset split the packets into segments, and
the longest segment's upper edge is fitted (:mod:`vpnforensics.features.clock_fit`).

A whole number of ticks is added by stacks that hide their uptime (Linux since 4.10, macOS, FreeBSD) and
by pf (``reassemble tcp``). What survives: rate, the phase of the tick, the drift in common.

All times are integer nanoseconds; floating point holds only differences to the first packet.

Silent under 60 s, under 20 packets, without a known tick rate. Fails where a middlebox rewrites TSval by
other than a constant: then there is no tick rate, and that is said.

Kohno, Broido & claffy 2005, *Remote physical device fingerprinting*; Zander & Murdoch 2008; Polčák &
Franková 2014, who show that duration, not the number of packets, makes an estimate good.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vpnforensics.errors import InsufficientDataError
from vpnforensics.features._kernels import clock_breaks
from vpnforensics.features.clock_fit import ClockFit, fit_upper_edge, hull_slope
from vpnforensics.features.wraparound import unwrap

Ints = npt.NDArray[np.int64]
BreakKind = Literal["reboot", "suspend", "step"]

TICK_RATES_HZ = (1.0, 2.0, 10.0, 100.0, 128.0, 200.0, 250.0, 256.0, 300.0, 512.0, 1000.0, 1e6)
RATE_TOLERANCE = 0.05
LEAST_TICKS = 40
"""Fewer ticks do not tell one rate from the next."""
LEAST_PACKETS = 20
LEAST_NS = 60_000_000_000

_LEAP_NS = 1_000_000_000
"""Offset leaps above this are breaks; queues of a second and more are rarer than reboots."""
_PERSIST_NS, _PERSIST_PACKETS = 10_000_000_000, 5
_MODULUS = 1 << 32
_RATE_S = 10.0
_ONE_PHASE = 0.9
"""Mean resultant length of the arrivals' phases above which they are one."""


@dataclass(frozen=True, slots=True)
class ClockBreak:
    """A leap of a sender's clock."""

    at_ns: int
    """Capture time of the first packet after it."""
    kind: BreakKind
    step_ns: int
    """Offset after it minus offset before it."""


@dataclass(frozen=True, eq=False)
class SenderClock:
    """What one sender's timestamps say; fields after ``reason`` are ``None`` where it says nothing."""

    packets: int
    """With a usable timestamp."""
    duration_ns: int
    reason: str = ""
    """Why there is no line; empty where there is one."""
    hz: float | None = None
    fit: ClockFit | None = None
    reference_ns: int | None = None
    """Capture time at which offset and phase hold: the mean time of the fitted segment."""
    ticks: int | None = None
    """TSval that the clock shows at ``reference_ns`` to a packet without delay, wrapped."""
    phase_ticks: float | None = None
    """And the fraction of a tick that has then passed."""
    breaks: tuple[ClockBreak, ...] = ()
    set_aside: int = 0
    """Packets with timestamps of 0, leaps ahead, or older than one seen before."""
    first_ns: int = 0
    """Capture time that ``fit`` counts from."""

    @property
    def skew_ppm(self) -> float | None:
        """Rate error of the sender's clock against the capture's, parts per million."""
        return None if self.fit is None else self.fit.slope * 1e6

    @property
    def skew_interval_ppm(self) -> tuple[float, float] | None:
        """95 %."""
        return None if self.fit is None else (self.fit.interval[0] * 1e6, self.fit.interval[1] * 1e6)

    @property
    def zero_ns(self) -> int | None:
        """Latest time at which the counter stood at 0: the boot, if the offset is global and unwrapped."""
        if self.hz is None or self.ticks is None or self.reference_ns is None:
            return None
        return self.reference_ns - int(self.ticks * 1_000_000_000 / self.hz)

    def uptime_s(self, scope: str) -> float | None:
        """Seconds since boot at the reference, modulo the counter's range; only for a ``global`` clock."""
        if scope != "global" or self.zero_ns is None or self.reference_ns is None:
            return None
        return (self.reference_ns - self.zero_ns) * 1e-9

    @property
    def drift(self) -> tuple[Ints, npt.NDArray[np.float64]] | None:
        """Capture time (ns) and distance to the line (s) of each block's least delayed packet."""
        if self.fit is None:
            return None
        return self.first_ns + np.rint(self.fit.block_s * 1e9).astype(np.int64), self.fit.residual_s

    def to_dict(self, scope: str | None = None) -> dict[str, Any] | None:
        """The result contract's ``clock``; ``None`` without a tick rate."""
        if self.hz is None:
            return None
        interval = self.skew_interval_ppm
        zero_s = None if self.ticks is None or self.reference_ns is None else self.ticks / self.hz
        return {
            "hz": self.hz,
            "skew_ppm": _rounded(self.skew_ppm),
            "skew_interval_ppm": None if interval is None else [_rounded(x) for x in interval],
            "offset_s": _rounded(zero_s),
            "phase_ticks": _rounded(self.phase_ticks),
            "scope": scope,
        }


def sender_clock(ts_ns: npt.NDArray[np.int64], tsval: npt.NDArray[Any]) -> SenderClock:
    """The clock of one sender.

    Parameters
    ----------
    ts_ns : ndarray of int64, shape (n,)
        Capture times of packets with a timestamp option, ns since the epoch.
    tsval : ndarray of unsigned integers, shape (n,)
        As on the wire.

    Returns
    -------
    SenderClock
    """
    order = np.argsort(ts_ns, kind="stable")
    ts_ns, tsval = ts_ns[order], tsval[order].astype(np.int64)
    given = tsval != 0
    if len(tsval) and not given.any():
        return SenderClock(0, 0, "every timestamp is 0: a middlebox blanks them", set_aside=len(tsval))
    total = len(tsval)
    ts_ns, tsval = ts_ns[given], tsval[given]
    if len(ts_ns) < 3:
        return SenderClock(
            len(ts_ns), 0, "fewer than 3 packets with timestamps", set_aside=total - len(ts_ns)
        )
    t_ns, ticks = ts_ns - ts_ns[0], unwrap(tsval, 32)
    hz, why_not = tick_rate(t_ns, ticks)
    if hz is None:
        return SenderClock(len(ts_ns), int(t_ns[-1]), why_not, set_aside=total - len(ts_ns))
    kept = _own(t_ns, ticks, hz)
    ts_ns, t_ns, ticks, tsval = ts_ns[kept], t_ns[kept], ticks[kept], tsval[kept]
    offset_ns = _offset_ns(t_ns, ticks - ticks[0], hz)
    edges = np.r_[
        0,
        clock_breaks(t_ns, offset_ns, _LEAP_NS, RATE_TOLERANCE, _PERSIST_NS, _PERSIST_PACKETS),
        len(t_ns),
    ]
    clock = SenderClock(
        len(ts_ns),
        int(t_ns[-1] - t_ns[0]),
        hz=hz,
        breaks=tuple(_break(ts_ns, tsval, offset_ns, hz, int(i)) for i in edges[1:-1]),
        set_aside=total - len(ts_ns),
    )
    longest = int(np.argmax(t_ns[edges[1:] - 1] - t_ns[edges[:-1]]))
    part = slice(int(edges[longest]), int(edges[longest + 1]))
    return _fitted(clock, ts_ns[part], ticks[part], tsval[part], hz)


def tick_rate(t_ns: Ints, ticks: Ints) -> tuple[float | None, str]:
    """The known tick rate nearest to the sender's, or ``None`` and why not.

    Parameters
    ----------
    t_ns : ndarray of int64, shape (n,)
        Ascending.
    ticks : ndarray of int64, shape (n,)
        Unwrapped.
    """
    elapsed_s = float(t_ns[-1] - t_ns[0]) * 1e-9
    steps, gaps = np.diff(ticks), np.diff(t_ns) * 1e-9
    if elapsed_s <= 0:
        return None, "all packets at one time"
    if not steps.any():
        return None, "the timestamp never changes"
    # Breaks spoil the slope from end to end but not that of most pairs of neighbours, weighted by time.
    order = np.argsort(np.divide(steps, gaps, out=np.zeros(len(gaps)), where=gaps > 0), kind="stable")
    weight = np.cumsum(gaps[order])
    middle = order[min(int(np.searchsorted(weight, weight[-1] / 2)), len(order) - 1)]
    guesses = [float(ticks[-1] - ticks[0]) / elapsed_s]
    if gaps[middle] > 0:
        guesses.append(float(steps[middle] / gaps[middle]))
    for guess in guesses:
        if guess <= 0 or guess * elapsed_s < LEAST_TICKS:
            continue
        t_s: npt.NDArray[np.float64] = t_ns.astype(np.float64) * 1e-9
        refined = guess + hull_slope(t_s, (ticks - ticks[0]).astype(np.float64) - guess * t_s)[0]
        for raw in (refined, guess):
            nearest = min(TICK_RATES_HZ, key=lambda rate: abs(raw / rate - 1))
            if abs(raw / nearest - 1) <= RATE_TOLERANCE:
                return nearest, ""
    if 0 <= guesses[0] * elapsed_s < LEAST_TICKS:
        return None, f"fewer than {LEAST_TICKS} ticks"
    if len(t_ns) < LEAST_PACKETS or elapsed_s < _RATE_S:
        return None, "too few packets to tell a tick rate"
    return None, "no known tick rate: the timestamps are no clock, or a middlebox rewrites them"


def _own(t_ns: Ints, ticks: Ints, hz: float) -> npt.NDArray[np.intp]:
    """Packets whose timestamp may be used: no isolated leap ahead, none older than one already seen."""
    offset = _offset_ns(t_ns, ticks - ticks[0], hz)
    highest = np.iinfo(np.int64).min
    padded = np.r_[highest, highest, offset, highest, highest]
    around = np.max([padded[:-4], padded[1:-3], padded[3:-1], padded[4:]], axis=0)
    slack = _LEAP_NS + np.rint(RATE_TOLERANCE * np.diff(t_ns, prepend=t_ns[0])).astype(np.int64)
    plausible = np.flatnonzero((around == highest) | (offset <= around + slack))
    kept = ticks[plausible]
    newest = np.maximum.accumulate(kept)
    # A reboot also goes back, but stays there; only what goes back less than a leap is an old packet.
    late = (kept < newest) & (newest - kept < hz * (_LEAP_NS * 1e-9))
    return plausible[~late]


def _offset_ns(t_ns: Ints, ticks: Ints, hz: float) -> Ints:
    """Sender clock minus capture clock, ns, both from the first packet; exact for whole rates."""
    whole, rest = np.divmod(ticks, int(hz))
    offset: Ints = whole * 1_000_000_000 + rest * 1_000_000_000 // int(hz) - t_ns
    return offset


def _break(ts_ns: Ints, tsval: Ints, offset_ns: Ints, hz: float, i: int) -> ClockBreak:
    """Say what happened before packet ``i``."""
    step, gap = int(offset_ns[i] - offset_ns[i - 1]), int(ts_ns[i] - ts_ns[i - 1])
    since_zero_ns = int(tsval[i] * 1_000_000_000 / hz)
    kind: BreakKind = "step"
    if since_zero_ns <= gap:
        kind = "reboot"
    elif step < 0 and -step <= gap:
        kind = "suspend"
    return ClockBreak(int(ts_ns[i]), kind, step)


def _fitted(clock: SenderClock, ts_ns: Ints, ticks: Ints, tsval: Ints, hz: float) -> SenderClock:
    """The clock with the line of one segment."""
    described: dict[str, Any] = {
        name: getattr(clock, name) for name in ("packets", "duration_ns", "hz", "breaks", "set_aside")
    }
    t_ns = ts_ns - ts_ns[0]
    fit, reason = None, ""
    if len(t_ns) < LEAST_PACKETS:
        reason = f"fewer than {LEAST_PACKETS} packets with timestamps"
    elif t_ns[-1] < LEAST_NS:
        reason = f"under {LEAST_NS // 1_000_000_000} s of timestamps"
    offset_s = _offset_ns(t_ns, ticks - ticks[0], hz).astype(np.float64) * 1e-9
    if not reason:
        try:
            fit = _in_step(fit_upper_edge(t_ns.astype(np.float64) * 1e-9, offset_s), t_ns, hz)
        except InsufficientDataError as error:
            reason = str(error)
    at_s = fit.at_s if fit is not None else float(t_ns[np.argmax(offset_s)]) * 1e-9
    level_s = fit.level_s if fit is not None else float(offset_s.max())
    at_ns = round(at_s * 1e9)
    # Ticks since the first packet's TSval that an undelayed packet would show at the reference.
    passed_ns = at_ns + round(level_s * 1e9)
    whole, rest = divmod(passed_ns * round(hz), 1_000_000_000)
    return SenderClock(
        **described,
        reason=reason,
        fit=fit,
        reference_ns=int(ts_ns[0]) + at_ns,
        ticks=int((int(tsval[0]) + whole) % _MODULUS),
        phase_ticks=rest / 1e9,
        first_ns=int(ts_ns[0]),
    )


def _in_step(fit: ClockFit, t_ns: Ints, hz: float) -> ClockFit:
    """The fit with an interval a tick wider where packets come at one phase of the tick.

    Then truncation is the same for all until the phase has drifted through a tick, and hides the rate.
    """
    turn = 2j * np.pi * ((t_ns % 1_000_000_000 * round(hz)) % 1_000_000_000) * 1e-9
    if abs(np.mean(np.exp(turn))) < _ONE_PHASE:
        return fit
    blur = 1e9 / hz / float(t_ns[-1] - t_ns[0])
    return replace(fit, interval=(fit.interval[0] - blur, fit.interval[1] + blur))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
