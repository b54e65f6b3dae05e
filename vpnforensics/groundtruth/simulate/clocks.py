"""TCP timestamp clocks (RFC 7323): true time in, TSval out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.groundtruth.simulate.spec import ClockModel

Ints = npt.NDArray[np.int64]

_STEP_NS = 16_000_000_000  # an NTP daemon steers about this often


class TimestampClock:
    """One host's timestamp clock.

    TSval is the whole number of ticks of the host's local time, plus an offset that is a whole number of
    ticks. So every connection of a host keeps its rate, its drift and its sub-tick phase even where the
    offsets are random.

    Parameters
    ----------
    model : ClockModel
        Kind, rate and errors.
    duration_ns : int
        Span the wander is drawn for.
    random : numpy.random.Generator
        Draws the uptime (up to 40 days), the wander and the offsets.
    """

    def __init__(self, model: ClockModel, duration_ns: int, random: np.random.Generator) -> None:
        self.model = model
        uptime_s = random.uniform(600.0, 40 * 86400.0)
        self.uptime_ns = int((uptime_s if model.uptime_s is None else model.uptime_s) * 1e9)
        self.secret = int(random.integers(0, 1 << 62))
        steps = duration_ns // _STEP_NS + 3
        shocks = random.standard_normal(steps)
        rate = np.empty(steps)
        rate[0] = shocks[0]
        for i in range(1, steps):
            rate[i] = 0.9 * rate[i - 1] + 0.4358898943540674 * shocks[i]  # sqrt(1 - 0.9**2): unit variance
        self._knots_ns = np.arange(steps + 1, dtype=np.float64) * _STEP_NS
        self._wander_ns = np.concatenate([[0.0], np.cumsum(rate)]) * (model.wander_ppm * 1e-6 * _STEP_NS)

    def local_ns(self, true_ns: Ints) -> Ints:
        """The host's time since boot at true times, ns."""
        error = true_ns * (self.model.skew_ppm * 1e-6)
        if self.model.wander_ppm:
            error = error + np.interp(true_ns, self._knots_ns, self._wander_ns)
        local: Ints = true_ns + np.rint(error).astype(np.int64) + self.uptime_ns
        return local

    def tsval(self, true_ns: Ints, pair: Ints, connection: Ints) -> npt.NDArray[np.uint32]:
        """TSval of segments sent at true times.

        Parameters
        ----------
        true_ns : ndarray of int64, shape (n,)
            Times, ns since the start.
        pair, connection : ndarray of int64, shape (n,)
            Identity of the address pair and of the connection, which offsets may depend on.

        Returns
        -------
        ndarray of uint32, shape (n,)
            Ticks, wrapped.
        """
        local = self.local_ns(true_ns)
        # Whole seconds apart, so that 1 MHz over weeks stays inside 63 bits.
        hz_milli = round(self.model.hz * 1000)
        ticks = (local // 1_000_000_000) * hz_milli // 1000
        if hz_milli % 1000:
            ticks = local // 1_000_000 * hz_milli // 1_000_000
        else:
            ticks = ticks + (local % 1_000_000_000) * (hz_milli // 1000) // 1_000_000_000
        if self.model.kind == "per_connection":
            ticks = ticks + hashed(connection, self.secret)
        elif self.model.kind == "per_pair":
            ticks = ticks + hashed(pair, self.secret)
        return (ticks & 0xFFFFFFFF).astype(np.uint32)


def hashed(key: Ints, secret: int) -> Ints:
    """32 well-mixed bits of each key under a secret, standing in for the kernel's SipHash."""
    z = key.astype(np.uint64) + np.uint64(secret)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) & np.uint64(0xFFFFFFFF)).astype(np.int64)
