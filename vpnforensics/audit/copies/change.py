"""What a countermeasure is to an audit: from what is known of a recording to the recording under it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpnforensics.audit.copies.belonging import Belonging, NoCopyError
from vpnforensics.audit.copies.pacing import paced
from vpnforensics.audit.copies.padding import Pad, padded, to_mtu
from vpnforensics.audit.copies.scrubbing import Scrub
from vpnforensics.audit.recording import Recording


@dataclass(frozen=True, slots=True)
class Change:
    """What countermeasures do to lengths, times and fields; the parts that are off change nothing.

    Parameters
    ----------
    pad : callable or None
        How records grow (:mod:`vpnforensics.audit.copies.padding`).
    batch_s, cover_hz : float
        Seconds for which packets are held together; datagrams a second to and from every client. 0 is off.
    scrubs : tuple of callable
        Each rewrites fields of both tables, in turn (:mod:`vpnforensics.audit.copies.scrubbing`).
    """

    pad: Pad | None = None
    batch_s: float = 0.0
    cover_hz: float = 0.0
    scrubs: tuple[Scrub, ...] = ()

    @property
    def padding(self) -> Pad | None:
        """How records grow: datagrams at a constant rate are of one size."""
        return to_mtu if self.cover_hz else self.pad

    @property
    def is_paced(self) -> bool:
        """Whether packets are held back."""
        return bool(self.batch_s or self.cover_hz)

    @property
    def of_fields(self) -> Change:
        """What is rewritten, without what is padded and held back."""
        return Change(scrubs=self.scrubs)

    def __add__(self, other: Change) -> Change:
        """Both at once; of two paddings the second."""
        return Change(
            other.pad or self.pad,
            max(self.batch_s, other.batch_s),
            max(self.cover_hz, other.cover_hz),
            self.scrubs + other.scrubs,
        )

    def apply(self, known: Belonging, seed: int) -> Recording:
        """The copy; the same for the same seed.

        Raises
        ------
        NoCopyError
            The tunnels are of a kind that this cannot be made of, or the copy would be too large.
        """
        rng = np.random.default_rng(seed)
        pad = self.padding
        ingress, egress = known.ingress, known.egress
        if (pad or self.is_paced) and not known.mapped.any():
            raise NoCopyError("no tunnel here has a packet for each record and a known length map")
        if pad:
            ingress = padded(known, ingress, pad)
        for scrub in self.scrubs:
            ingress, egress = scrub(known, ingress, egress, rng)
        if self.is_paced:
            ingress, egress = paced(known, ingress, egress, self.batch_s, self.cover_hz, rng)
        return Recording(ingress, egress)
