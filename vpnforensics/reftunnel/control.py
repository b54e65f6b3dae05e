"""``show``, ``down`` and changes from another process: one request, one answer, over a local socket.

The socket lies in a folder that only root can enter, and outlives nothing: it is removed when the tunnel goes
down. It works across network namespaces, so interface names should be unique on a machine, as wireguard-go
asks too. A request is a line: a word, and JSON behind it where it needs more. The answer is JSON and has no
secret in it.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vpnforensics.errors import TunnelError

FOLDER = Path("/run/vpnforensics")
_TIMEOUT_S = 5.0
_PATIENCE_S = 0.2
_MAX_REQUEST_BYTES = 65_536


def socket_path(name: str) -> Path:
    """Where the tunnel of this interface listens."""
    return FOLDER / f"{name}.sock"


def ask(name: str, request: str) -> dict[str, Any]:
    """Send a request to a running tunnel.

    Raises
    ------
    TunnelError
        There is none of this name, it does not answer, or it refuses.
    """
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_TIMEOUT_S)
        try:
            sock.connect(str(socket_path(name)))
            sock.sendall(request.encode() + b"\n")
            parts = []
            while part := sock.recv(65_536):
                parts.append(part)
        except PermissionError:
            raise TunnelError(f"not allowed to talk to the tunnel {name} (root needed?)") from None
        except TimeoutError:
            raise TunnelError(f"the tunnel {name} gave no answer in {_TIMEOUT_S:.0f} s") from None
        except OSError:
            raise TunnelError(f"no tunnel {name} is up") from None
    try:
        answer: dict[str, Any] = json.loads(b"".join(parts))
    except ValueError:
        raise TunnelError(f"the tunnel {name} gave no answer") from None
    if "error" in answer:
        raise TunnelError(str(answer["error"]))
    return answer


def ask_all(request: str) -> list[dict[str, Any]]:
    """The answers of all tunnels that are up, by name.

    A socket that a killed tunnel left, and a tunnel that goes down meanwhile, are no errors.

    Raises
    ------
    TunnelError
        The folder of sockets cannot be read, or a tunnel is up and does not answer.
    """
    answers = []
    try:
        for path in sorted(FOLDER.iterdir()) if FOLDER.exists() else []:
            try:
                answers.append(ask(path.stem, request))
            except TunnelError:
                if _is_listening(path):
                    raise
    except OSError as error:
        raise TunnelError(f"cannot read {FOLDER}: {error.strerror or error} (root needed?)") from None
    return answers


def _is_listening(path: Path) -> bool:
    """Whether a process has this socket open; one that is too busy to answer still has."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_TIMEOUT_S)
        try:
            sock.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except (BlockingIOError, TimeoutError):
            return True
    return True


def _listen(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        sock.bind(str(path))
        sock.listen(8)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def _line(client: socket.socket) -> str:
    """A request; a client that says nothing, or drop by drop, must not stop the traffic."""
    data, until = b"", time.monotonic() + _PATIENCE_S
    while not data.endswith(b"\n") and len(data) < _MAX_REQUEST_BYTES:
        client.settimeout(max(0.001, until - time.monotonic()))
        part = client.recv(_MAX_REQUEST_BYTES)
        if not part:
            break
        data += part
    return data.decode("utf-8", "replace").strip()


class ControlSocket:
    """The listening end.

    Parameters
    ----------
    name : str
        Interface name.

    Raises
    ------
    TunnelError
        A tunnel of this name is up already, or the socket cannot be made.
    """

    def __init__(self, name: str) -> None:
        self._path = socket_path(name)
        try:
            FOLDER.mkdir(mode=0o700, exist_ok=True)
            if _is_listening(self._path):
                raise TunnelError(f"a tunnel {name} is up already")
            self._path.unlink(missing_ok=True)  # left by a process that was killed
            self._socket = _listen(self._path)
        except OSError as error:
            raise TunnelError(f"cannot make {self._path}: {error.strerror or error} (root needed?)") from None
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def serve(self, answers: dict[str, Callable[[str], dict[str, Any]]]) -> str:
        """Answer one request: `answers` has, by its first word, a function of the rest. Returns the word."""
        try:
            client, _ = self._socket.accept()
        except OSError:
            return ""
        with client:
            try:
                request, _, rest = _line(client).partition(" ")
                try:
                    answer = answers[request](rest) if request in answers else {}
                except TunnelError as error:
                    answer = {"error": str(error)}
                client.settimeout(_PATIENCE_S)
                client.sendall(json.dumps(answer).encode())
            except OSError:
                return ""
        return request

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._socket.close()
        self._path.unlink(missing_ok=True)
