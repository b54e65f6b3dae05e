"""The sliding replay window: each counter is accepted once, and only while it is recent.

RFC 6479 (https://www.rfc-editor.org/rfc/rfc6479): the bitmap is a ring of 64-bit words, and moving the window
clears whole words instead of shifting bits, so a packet costs the same however far it jumps. One word
is always being refilled, hence the window is one word smaller than the ring.
"""

from __future__ import annotations

_WORD_BITS = 64
_RING_WORDS = 128  # a power of two: 8192 counters, as the kernel has

WINDOW = (_RING_WORDS - 1) * _WORD_BITS
"""A counter this far or farther behind the greatest seen is refused."""


class ReplayWindow:
    """Remembers which counters have been seen."""

    __slots__ = ("_next", "_ring")

    def __init__(self) -> None:
        self._next = 0  # one more than the greatest counter accepted
        self._ring = [0] * _RING_WORDS

    def accept(self, counter: int) -> bool:
        """Mark a counter as seen.

        To be called after the message is known to be authentic: a forged counter must not move the window.

        Parameters
        ----------
        counter : int
            0 to 2**64 - 1.

        Returns
        -------
        bool
            False if it was seen before or is too old to tell.
        """
        word = counter >> 6
        ring = self._ring
        if counter >= self._next:
            last = (self._next - 1) >> 6 if self._next else -1
            if word != last:
                if word - last >= _RING_WORDS:
                    ring[:] = [0] * _RING_WORDS
                else:
                    for fresh in range(last + 1, word + 1):
                        ring[fresh & (_RING_WORDS - 1)] = 0
            self._next = counter + 1
        elif self._next - counter > WINDOW:
            return False
        slot = word & (_RING_WORDS - 1)
        bit = 1 << (counter & (_WORD_BITS - 1))
        if ring[slot] & bit:
            return False
        ring[slot] |= bit
        return True
