"""The balance of a case: packets into the tunnels, by their counters, against packets out at egress.

The egress packets of a direction in a window are ``sum over tunnels of share * advance``, share 1 for a
tunnel whose egress is in the capture, 0 for one whose is not, 0.98 where the capture lost 2 %. Weighted
least squares give the shares of the tunnels, their residuals the errors; the whole case is a plain ratio of
counts, which only packets under way at the two ends of the captures disturb.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

_MOST_TUNNELS = 64
"""Of more, rhythms are too alike for least squares, and the work grows with their square."""
_LEAST_WINDOWS = 10
"""Fewer say nothing of a rhythm."""
_TOLERANCE = 0.005
"""Share missing that is not worth a word: keep-alives, and what the server answers itself."""
_ABSENT = 0.5
"""A tunnel of which less comes out is not at egress at all: captures do not lose half."""
_SIGMAS = 3.0
"""Standard errors by which a share must be off."""
_UNDER_WAY_S = 0.02
"""A server holds packets about this long: those count on one side only at the ends of the captures."""


@dataclass(frozen=True, slots=True)
class Balance:
    """One direction of the case, or of one tunnel of it."""

    up: bool
    tunnel: int
    """-1 for all tunnels together."""
    advanced: int
    """Packets sent through the tunnel by its counter, while both captures ran."""
    recorded: int
    """Of them, in the ingress capture."""
    share_out: float
    """Egress packets for each packet of the advance; NaN where it cannot be told."""
    share_error: float
    """Standard error of ``share_out``."""

    @property
    def lost_in(self) -> float:
        """Share of the advance that the ingress capture lacks."""
        return 1.0 - self.recorded / self.advanced if self.advanced else 0.0


@dataclass(frozen=True, eq=False)
class Conservation:
    """Whether what went into the tunnels came out, and what is missing where."""

    rows: tuple[Balance, ...]
    """Both directions of the case, then those of its tunnels."""
    windows: pd.DataFrame
    """``up``, ``first_ns``, ``advanced``, ``egress`` for each window with packets."""
    findings: tuple[str, ...]
    """What is missing, in words; empty for a complete pair of captures."""

    @property
    def complete(self) -> bool:
        """True where both captures hold all that the counters count."""
        return not self.findings

    def to_pandas(self) -> pd.DataFrame:
        """One row a balance."""
        columns = ("up", "tunnel", "advanced", "recorded", "lost_in", "share_out", "share_error")
        return pd.DataFrame([[getattr(row, c) for c in columns] for row in self.rows], columns=columns)

    def __repr__(self) -> str:
        return f"Conservation({'complete' if self.complete else '; '.join(self.findings)})"


def conserve_advances(
    advance: Mapping[tuple[int, bool], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]],
    ingress_ns: npt.NDArray[np.int64],
    egress_ns: npt.NDArray[np.int64],
    egress_up: npt.NDArray[np.bool_],
    clients: tuple[str, ...],
    *,
    window_ns: int,
) -> Conservation | None:
    """Balance counters against egress packets.

    Parameters
    ----------
    advance : mapping
        By tunnel and direction: times of its records and the packets sent up to each.
    ingress_ns, egress_ns : ndarray of int64
        Times of all records and of all egress packets, on one clock.
    egress_up : ndarray of bool
    clients : tuple of str
        Names for the findings, one a tunnel.
    window_ns : int
    """
    first = max(int(ingress_ns.min()), int(egress_ns.min()))
    last = min(int(ingress_ns.max()), int(egress_ns.max()))
    # Only where there are packets: the time that captures span must not size the work.
    busy = np.unique(np.r_[ingress_ns - first, egress_ns - first] // window_ns)
    opens = first + busy[(busy >= 0) & (busy < (last - first) // window_ns)] * window_ns
    if len(opens) < _LEAST_WINDOWS:
        return None
    total_rows: list[Balance] = []
    tunnel_rows: list[Balance] = []
    frames = []
    for up in (True, False):
        tunnels = [t for t, side in advance if side == up]
        out = _counted(egress_ns[egress_up == up], opens, window_ns)
        into = np.array([_per_window(*advance[t, up], opens, window_ns) for t in tunnels])
        if not len(tunnels):
            continue
        recorded = [int(_counted(advance[t, up][0], opens, window_ns).sum()) for t in tunnels]
        advanced = into.sum(axis=1)
        all_in = int(advanced.sum())
        if not all_in:
            continue
        under_way = _UNDER_WAY_S * 1e9 / window_ns * float(into[:, [0, -1]].sum())
        share = float(out.sum()) / all_in
        total_rows.append(Balance(up, -1, all_in, sum(recorded), share, (1.0 + under_way) / all_in))
        shares = errors = np.full(len(tunnels), np.nan)
        if len(tunnels) <= min(_MOST_TUNNELS, len(out) // 3):
            shares, errors = _shares(into, out)
        tunnel_rows += [
            Balance(up, t, int(advanced[i]), recorded[i], float(shares[i]), float(errors[i]))
            for i, t in enumerate(tunnels)
        ]
        frames.append(
            pd.DataFrame({"up": up, "first_ns": opens, "advanced": into.sum(axis=0), "egress": out})
        )
    rows = (*total_rows, *tunnel_rows)
    return Conservation(rows, pd.concat(frames, ignore_index=True), _findings(rows, clients))


def _per_window(
    ts_ns: npt.NDArray[np.int64],
    total: npt.NDArray[np.int64],
    opens_ns: npt.NDArray[np.int64],
    window_ns: int,
) -> npt.NDArray[np.float64]:
    reached = np.r_[0, total]
    begin, end = (np.searchsorted(ts_ns, opens_ns + since) for since in (0, window_ns))
    return np.asarray(reached[end] - reached[begin], np.float64)


def _counted(
    ts_ns: npt.NDArray[np.int64], opens_ns: npt.NDArray[np.int64], window_ns: int
) -> npt.NDArray[np.float64]:
    """Packets in each window, whatever their order."""
    place = np.searchsorted(opens_ns, ts_ns, side="right") - 1
    inside = (place >= 0) & (ts_ns - opens_ns[place] < window_ns)
    return np.bincount(place[inside], minlength=len(opens_ns)).astype(np.float64)


def _shares(
    into: npt.NDArray[np.float64], out: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Weighted least squares of ``out`` on the rows of ``into``, with standard errors.

    Packets under way at a window's edge are counted in one window here and in the next there, so the
    residuals of neighbours cancel; the errors that they suggest are on the safe side.
    """
    weight = 1.0 / np.sqrt(1.0 + into.sum(axis=0))
    design, target = (into * weight).T, out * weight
    share, _, rank, _ = np.linalg.lstsq(design, target, rcond=None)
    if rank < len(into):
        unknown = np.full(len(into), np.nan)
        return unknown, unknown
    residual = target - design @ share
    variance = float(residual @ residual) / max(len(out) - len(into), 1)
    return np.asarray(share), np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))


def _findings(rows: tuple[Balance, ...], clients: tuple[str, ...]) -> tuple[str, ...]:
    found = []
    for row in rows:
        way = "up" if row.up else "down"
        if row.tunnel < 0:
            if row.lost_in > _TOLERANCE:
                found.append(f"{way}: the ingress capture lacks {row.lost_in:.1%} of the tunnels' packets")
            if row.share_out < 1 - _TOLERANCE - _SIGMAS * row.share_error:
                found.append(f"{way}: only {row.share_out:.1%} of the tunnels' packets are at egress")
            elif row.share_out > 1 + _TOLERANCE + _SIGMAS * row.share_error:
                found.append(
                    f"{way}: {row.share_out - 1:.1%} more packets at egress than the tunnels carried:"
                    " a tunnel that is not in the ingress capture, or the server's own traffic"
                )
        elif row.share_out + _SIGMAS * row.share_error < _ABSENT:
            found.append(f"{way}: the egress of {clients[row.tunnel]} is not in the capture")
    return tuple(found)
