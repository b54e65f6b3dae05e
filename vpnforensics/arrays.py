"""Names of arrays in signatures, and tables made of some of one length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
"""Times, counts and rows."""
Int32s = npt.NDArray[np.int32]
"""Numbers of flows, tunnels, classes and records."""
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Columns:
    """Of a dataclass whose fields are all arrays of one length: a table."""

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Any]]

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    @classmethod
    def joined(cls, tables: Sequence[Self]) -> Self:
        """The rows of several tables, one at least, one table after the other."""
        return cls(*(np.concatenate([getattr(t, column.name) for t in tables]) for column in fields(cls)))

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Self:
        """The rows at ``index``."""
        return type(self)(*(getattr(self, column.name)[index] for column in fields(self)))
