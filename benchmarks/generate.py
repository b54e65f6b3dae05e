"""A large capture of TCP segments with timestamps, written in about two seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

HEADER_BYTES = 16 + 14 + 20 + 32
_BLOCK = 50_000


def write_tcp_capture(path: Path, packets: int = 1_000_000, flows: int = 5_000, seed: int = 1) -> None:
    """Write a nanosecond pcap of 775 bytes a packet on average: acknowledgements, full and odd segments."""
    rng = np.random.default_rng(seed)
    start_ns = 1_700_000_000_000_000_000
    ts_ns = start_ns + np.cumsum(rng.exponential(60_000, packets).astype(np.int64))
    flow = rng.integers(0, flows, packets)
    up = rng.random(packets) < 0.5
    payload = rng.choice([0, 1448, -1], packets, p=[0.452, 0.408, 0.14])
    odd = payload < 0
    payload[odd] = rng.integers(1, 1448, int(odd.sum()))
    client = np.uint32(0x0A000001) + (flow % 500).astype(np.uint32)
    server = np.uint32(0xC6336401) + (flow // 7 % 200).astype(np.uint32)
    client_port = (20_000 + flow % 40_000).astype(np.uint16)
    noise = rng.integers(0, 256, 1 << 20, dtype=np.uint8).tobytes()

    with path.open("wb") as file:
        file.write(np.array([0xA1B23C4D, 0x00040002, 0, 0, 262144, 1], "<u4").tobytes())
        for first in range(0, packets, _BLOCK):
            rows = slice(first, first + _BLOCK)
            size = payload[rows]
            n = len(size)
            head = np.zeros((n, HEADER_BYTES), np.uint8)

            def put(
                at: int, values: np.ndarray | int, dtype: str, head: np.ndarray = head, n: int = n
            ) -> None:
                column = np.broadcast_to(np.asarray(values), n).astype(dtype)
                head[:, at : at + column.dtype.itemsize] = column.view(np.uint8).reshape(n, -1)

            put(0, ts_ns[rows] // 1_000_000_000, "<u4")
            put(4, ts_ns[rows] % 1_000_000_000, "<u4")
            put(8, size + 66, "<u4")
            put(12, size + 66, "<u4")
            put(16, 0x02000000, ">u4")
            put(22, 0x02000000, ">u4")
            put(28, 0x0800, ">u2")
            put(30, 0x4500, ">u2")
            put(32, size + 52, ">u2")
            put(34, np.arange(first, first + n) & 0xFFFF, ">u2")
            put(36, 0x4000, ">u2")
            put(38, 0x4006, ">u2")
            put(42, np.where(up[rows], client[rows], server[rows]), ">u4")
            put(46, np.where(up[rows], server[rows], client[rows]), ">u4")
            put(50, np.where(up[rows], client_port[rows], 443), ">u2")
            put(52, np.where(up[rows], 443, client_port[rows]), ">u2")
            put(54, rng.integers(0, 1 << 32, n), ">u4")
            put(58, rng.integers(0, 1 << 32, n), ">u4")
            put(62, 0x8018, ">u2")
            put(64, 502, ">u2")
            put(66, rng.integers(0, 1 << 16, n), ">u2")
            put(70, 0x0101080A, ">u4")
            put(74, ts_ns[rows] // 1_000_000 & 0xFFFFFFFF, ">u4")
            put(78, (ts_ns[rows] // 1_000_000 - 20) & 0xFFFFFFFF, ">u4")
            begin = np.zeros(n, np.int64)
            np.cumsum(size[:-1] + HEADER_BYTES, out=begin[1:])
            block_bytes = int(begin[-1] + size[-1] + HEADER_BYTES)
            repeats = -(-block_bytes // len(noise))
            block = np.frombuffer(bytearray(noise * repeats), np.uint8)[:block_bytes]
            block[begin[:, None] + np.arange(HEADER_BYTES)] = head
            file.write(block.data)
