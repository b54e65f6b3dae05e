"""Names of arrays in signatures, and tables made of some of one length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from vpnforensics.scratch import beside, concatenated

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
        if len(tables) == 1:
            return tables[0]
        names = [column.name for column in fields(cls)]
        return cls(*(concatenated([getattr(t, name) for t in tables]) for name in names))

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Self:
        """The rows at ``index``."""
        arrays = [getattr(self, column.name) for column in fields(self)]
        return type(self)(*(beside(array).taken(array, index) for array in arrays))
