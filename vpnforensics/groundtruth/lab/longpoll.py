"""A web server that answers late: what a long poll waits on.

Run as ``python -m vpnforensics.groundtruth.lab.longpoll ADDRESS PORT SEED``.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys


async def _serve(address: str, port: int, rng: random.Random) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(rng.uniform(2.0, 20.0))
                body = rng.randbytes(rng.randint(20, 800))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, address, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), random.Random(int(sys.argv[3]))))
