"""Run programs inside a User-Mode-Linux host from outside.

One file, both ends, nothing but the standard library, started by path so that it comes up fast. Inside,
``uml_agent.py serve PORT`` waits for callers; outside, ``uml_agent.py call ADDRESS PORT ARGV...`` runs one
program there and behaves like it: standard streams, interrupts, exit status. When the caller goes away the
program is killed.

On the wire: a JSON line with the arguments, then frames of one type byte, a 4-byte length and data.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading

_IN, _OUT, _ERR, _EXIT, _SIGNAL = range(5)
_HEAD = struct.Struct("<BI")


def _send(sock: socket.socket, lock: threading.Lock, kind: int, payload: bytes) -> None:
    with lock, contextlib.suppress(OSError):
        sock.sendall(_HEAD.pack(kind, len(payload)) + payload)


def _frame(sock: socket.socket) -> tuple[int, bytes] | None:
    """The next frame, or None at the end."""
    head = _exactly(sock, _HEAD.size)
    if head is None:
        return None
    kind, size = _HEAD.unpack(head)
    body = _exactly(sock, size)
    return None if body is None else (kind, body)


def _exactly(sock: socket.socket, size: int) -> bytes | None:
    got = b""
    while len(got) < size:
        try:
            part = sock.recv(size - len(got))
        except OSError:
            return None
        if not part:
            return None
        got += part
    return got


def serve(port: int) -> None:
    """Accept callers for ever, one thread each."""
    server = socket.create_server(("0.0.0.0", port), backlog=128)  # noqa: S104 - a host of the lab
    while True:
        sock, _ = server.accept()
        threading.Thread(target=_serve_one, args=(sock,), daemon=True).start()


def _serve_one(sock: socket.socket) -> None:
    line = b""
    while not line.endswith(b"\n"):
        part = sock.recv(1)
        if not part:
            return
        line += part
    lock = threading.Lock()
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            json.loads(line), stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True
        )
    except OSError as error:
        _send(sock, lock, _ERR, f"{error}\n".encode())
        _send(sock, lock, _EXIT, b"127")
        sock.close()
        return
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None

    def pump(kind: int, fd: int) -> None:
        while part := os.read(fd, 65536):
            _send(sock, lock, kind, part)

    pumps = [
        threading.Thread(target=pump, args=args, daemon=True)
        for args in ((_OUT, process.stdout.fileno()), (_ERR, process.stderr.fileno()))
    ]
    for thread in pumps:
        thread.start()

    def obey() -> None:
        while frame := _frame(sock):
            kind, body = frame
            with contextlib.suppress(OSError):
                if kind == _SIGNAL:
                    process.send_signal(int(body))
                elif body:
                    os.write(process.stdin.fileno(), body)  # type: ignore[union-attr]
                else:
                    process.stdin.close()  # type: ignore[union-attr]
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)

    threading.Thread(target=obey, daemon=True).start()
    status = process.wait()
    for thread in pumps:
        thread.join(1.0)
    _send(sock, lock, _EXIT, str(status if status >= 0 else 128 - status).encode())
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def call(address: str, port: int, argv: list[str]) -> int:
    """Run one program at the other end and return its exit status."""
    sock = socket.create_connection((address, port), timeout=10)
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(json.dumps(argv).encode() + b"\n")
    lock = threading.Lock()
    signal.signal(signal.SIGINT, lambda n, _: _send(sock, lock, _SIGNAL, str(n).encode()))
    listening = True
    while True:
        ready = select.select([sock.fileno(), 0] if listening else [sock.fileno()], [], [])[0]
        if 0 in ready:
            part = os.read(0, 65536)
            listening = bool(part)
            _send(sock, lock, _IN, part)
        if sock.fileno() in ready:
            frame = _frame(sock)
            if frame is None:
                return 255
            kind, body = frame
            if kind == _EXIT:
                return int(body)
            os.write(1 if kind == _OUT else 2, body)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        sys.exit(call(sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
