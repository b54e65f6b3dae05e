"""Unaligned little- and big-endian loads for kernels.

A kernel that assembles an integer byte by byte costs four bounds computations and four loads; the
machine does it in one. The caller guarantees that ``offset + width`` lies inside the buffer.
"""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _loader(width: int, big_endian: bool, result: Any) -> Any:
    swap = big_endian == (sys.byteorder == "little")

    @intrinsic
    def load(_typing: Any, buf: Any, offset: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, arguments[0])
            index = (
                builder.sext(arguments[1], ir.IntType(64)) if arguments[1].type.width < 64 else arguments[1]
            )
            pointer = builder.gep(array.data, [index])
            word = ir.IntType(8 * width)
            value = builder.load(builder.bitcast(pointer, word.as_pointer()))
            value.align = 1
            if swap:
                value = builder.bswap(value)
            return builder.zext(value, ir.IntType(64)) if width < 8 else value

        return result(buf, offset), generate

    return load


be16 = _loader(2, True, types.int64)
be32 = _loader(4, True, types.int64)
be64 = _loader(8, True, types.uint64)
le16 = _loader(2, False, types.int64)
le32 = _loader(4, False, types.int64)
le64 = _loader(8, False, types.uint64)
