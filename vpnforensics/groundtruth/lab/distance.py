"""Distant ports: what connects to one reaches another, later; and so does the answer.

Stands for the path between hosts that run on one machine.

Run as ``python -m vpnforensics.groundtruth.lab.distance ADDRESS PORT:TO_PORT:DELAY_MS...``
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

_CHUNK_BYTES = 1 << 16


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """One direction of a connection, to its end."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK_BYTES):
            loop.call_later(delay_s, writer.write, data)
    loop.call_later(delay_s, writer.close)


async def _serve(address: str, ports: list[tuple[int, int, float]]) -> None:
    for port, to_port, delay_ms in ports:

        async def relay(
            reader: asyncio.StreamReader,
            writer: asyncio.StreamWriter,
            to_port: int = to_port,
            delay_s: float = delay_ms / 1e3,
        ) -> None:
            try:
                there, back = await asyncio.open_connection(address, to_port)
            except ConnectionError:
                writer.close()
                return
            await asyncio.gather(_carry(reader, back, delay_s), _carry(there, writer, delay_s))

        await asyncio.start_server(relay, address, port)
    await asyncio.Event().wait()


def _port(text: str) -> tuple[int, int, float]:
    port, to_port, delay_ms = text.split(":")
    return int(port), int(to_port), float(delay_ms)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], [_port(text) for text in sys.argv[2:]]))
