"""Three queues for what comes: data of live sessions, calls with a cookie, and calls, which is all else.

The kernel sorts, before anything is queued: a classic BPF program (``SO_ATTACH_REUSEPORT_CBPF``, socket(7),
Linux 4.5) looks at a datagram and chooses one of three sockets on the same port. So no flood of handshakes,
or of rubbish, fills the queue of the data; and what does not fit into a queue of calls is dropped where that
costs nothing. Initiations with a mac2 have a queue of their own: under a flood without any, whoever was given
a cookie gets in with it.

A program can only sort by what is in the datagram. Whoever sees a session on the wire knows its index and can
fill the data's queue, as he could the cable; and rubbish in place of mac2 comes into the queue of cookies.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterable

from vpnforensics.reftunnel.wire import INITIATION, INITIATION_BYTES, TRANSPORT

_SO_ATTACH_REUSEPORT_CBPF = 51
# BPF_LD|BPF_W|BPF_ABS, BPF_LD|BPF_W|BPF_LEN, BPF_JMP|BPF_JEQ, BPF_RET (linux/bpf_common.h)
_LOAD_WORD, _LOAD_LENGTH, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x80, 0x15, 0x06
CALLS, DATA, COOKIES = 0, 1, 2
"""Numbers of the sockets, in the order in which they were bound; a program that reads past the end says 0."""

MAX_INDICES = 1000
"""Above this many sessions, all that looks like data is taken for data: the program would be too long."""

_instruction = struct.Struct("=HBBI")
_program = struct.Struct("@HP")


def program(indices: Iterable[int] | None) -> list[tuple[int, int, int, int]]:
    """Instructions (code, jump if true, jump if false, operand) that return the number of a socket.

    Parameters
    ----------
    indices : iterable of int, optional
        Receiver indices of live sessions; None takes any.
    """
    # A word is loaded as big-endian, and the protocol is little-endian.
    calls = [
        (_JUMP_IF_EQUAL, 0, 11, _swapped(INITIATION)),
        (_LOAD_LENGTH, 0, 0, 0),
        (_JUMP_IF_EQUAL, 0, 9, INITIATION_BYTES),
    ]
    for word in range(3):
        calls += [(_LOAD_WORD, 0, 0, INITIATION_BYTES - 16 + 4 * word), (_JUMP_IF_EQUAL, 0, 6 - 2 * word, 0)]
    calls += [(_LOAD_WORD, 0, 0, INITIATION_BYTES - 4), (_JUMP_IF_EQUAL, 1, 0, 0)]
    calls += [(_RETURN, 0, 0, COOKIES), (_RETURN, 0, 0, CALLS)]
    code = [(_LOAD_WORD, 0, 0, 0), (_JUMP_IF_EQUAL, len(calls), 0, _swapped(TRANSPORT)), *calls]
    if indices is None:
        return [*code, (_RETURN, 0, 0, DATA)]
    code.append((_LOAD_WORD, 0, 0, 4))
    for index in indices:
        code += [(_JUMP_IF_EQUAL, 0, 1, _swapped(index)), (_RETURN, 0, 0, DATA)]
    return [*code, (_RETURN, 0, 0, CALLS)]


def _swapped(word: int) -> int:
    return int.from_bytes(word.to_bytes(4, "little"), "big")


def sort(sock: socket.socket, indices: Iterable[int]) -> None:
    """Have the kernel sort what comes to the group of sockets that this one belongs to.

    Raises
    ------
    OSError
        The kernel cannot do it.
    """
    wanted = sorted(indices)
    code = program(wanted if len(wanted) <= MAX_INDICES else None)
    text = ctypes.create_string_buffer(b"".join(_instruction.pack(*each) for each in code))
    # The option takes a ``struct sock_fprog``: a length, and a pointer to the instructions.
    filter_ = _program.pack(len(code), ctypes.addressof(text))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, filter_)
