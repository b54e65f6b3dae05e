"""What a tunnel makes of an inner length: the outer payload size as a function of it.

One form covers every record tunnel in use::

    outer = overhead + min(cap, block * ceil((inner + extra) / block))

``block`` 1 is a constant overhead (OpenVPN AEAD, nebula, DTLS with AEAD), 4 is ESP with AES-GCM, 16 is
WireGuard and the CBC modes, and a block as large as the MTU is padding that hides the length altogether.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

UNCAPPED = 65535

LengthMapKind = Literal["constant", "block", "padded"]
Origin = Literal["formula", "learned", "stated"]
"""By the protocol, from the case, or known to whoever asks."""


@dataclass(frozen=True, slots=True)
class LengthMap:
    """Outer payload bytes (UDP payload, or ESP packet) for an inner IP packet of a given total length."""

    overhead: int
    block: int = 1
    extra: int = 0
    cap: int = UNCAPPED
    origin: Origin = "formula"

    def __post_init__(self) -> None:
        if self.block < 1 or self.cap < 1:
            raise ValueError("block and cap are at least 1")

    def outer(self, inner_bytes: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        """Outer payload bytes of inner IP packets of these total lengths."""
        padded = -(-(inner_bytes.astype(np.int64) + self.extra) // self.block) * self.block
        return self.overhead + np.minimum(padded, self.cap)

    def longest_inner(self, outer_bytes: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        """Longest inner packet that fits records of these payload bytes, at most the cap."""
        room = outer_bytes.astype(np.int64) - self.overhead
        fits = room // self.block * self.block - self.extra
        return np.where(room >= self.cap, self.cap, fits)

    @property
    def kind(self) -> LengthMapKind:
        """``constant``, ``block`` (rounded up), or ``padded`` (one size for all)."""
        if self.block == 1:
            return "constant"
        return "padded" if self.block >= min(self.cap, 1200) else "block"

    def __str__(self) -> str:
        inner = "L" if self.extra == 0 else f"(L{self.extra:+d})"
        if self.kind == "padded":
            return f"P = {self.overhead + min(self.cap, self.block)}"
        if self.block == 1:
            return f"P = L + {self.overhead + self.extra}"
        rounded = f"{self.block}⌈{inner}/{self.block}⌉"
        return f"P = {self.overhead} + " + (f"min({self.cap}, {rounded})" if self.cap < UNCAPPED else rounded)

    def to_dict(self) -> dict[str, int | str]:
        """The map as the result contract's ``length_map``."""
        return {
            "kind": self.kind,
            "formula": str(self),
            "overhead": self.overhead,
            "block": self.block,
            "extra": self.extra,
            "cap": self.cap,
            "origin": self.origin,
        }
