"""Keys as values that cannot be printed by accident.

A private or pre-shared key shows as ``PrivateKey(hidden)`` wherever Python might print it (repr, str,
format, an f-string in a log line, a local in a traceback that shows locals), and cannot be pickled.
Text form is WireGuard's: 32 bytes in Base64 (https://man7.org/linux/man-pages/man8/wg.8.html).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from vpnforensics.errors import TunnelError

KEY_BYTES = 32


def _decode(text: str, what: str) -> bytes:
    # The text is not repeated in the message: a mistyped private key is still mostly a private key.
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise TunnelError(f"{what} is not Base64") from None
    if len(raw) != KEY_BYTES:
        raise TunnelError(f"{what} is {len(raw)} bytes long, not {KEY_BYTES}")
    return raw


class _Secret:
    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise TunnelError(f"a {type(self).__name__} has {KEY_BYTES} bytes")
        self._raw = bytes(raw)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Key from its Base64 form; `TunnelError` (which does not repeat the text) if it is not one."""
        return cls(_decode(text, cls.__name__))

    def reveal(self) -> bytes:
        """The 32 secret bytes; named so that every use stands out in review."""
        return self._raw

    def to_text(self) -> str:
        """Base64 form, for the one command whose purpose is to print a key."""
        return base64.b64encode(self._raw).decode("ascii")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and hmac.compare_digest(self._raw, other._raw)

    def __hash__(self) -> int:
        return hash((type(self), self._raw))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not to be serialised")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An X25519 public key: the name of a peer.

    Parameters
    ----------
    raw : bytes
        32 bytes, little-endian u-coordinate (RFC 7748, https://www.rfc-editor.org/rfc/rfc7748#section-5).
    """

    raw: bytes

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Key from its Base64 form; `TunnelError` if it is not one, or one that protects nothing."""
        key = cls(_decode(text, "PublicKey"))
        key.refuse_if_weak()
        return key

    def refuse_if_weak(self) -> None:
        """Check that secrets agreed with this key are secrets.

        Raises
        ------
        TunnelError
            It is a point of small order: everybody knows the outcome (RFC 7748, section 6.1).
        """
        try:
            X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(self.raw))
        except ValueError:
            raise TunnelError(
                f"the public key {self} is a point of small order and protects nothing: nobody's key is that"
            ) from None

    def __str__(self) -> str:
        return base64.b64encode(self.raw).decode("ascii")

    def __repr__(self) -> str:
        return f"PublicKey({self})"


class PresharedKey(_Secret):
    """A 256-bit symmetric key that two peers share besides their key pairs; all zeros means none."""

    __slots__ = ()

    @classmethod
    def generate(cls) -> Self:
        """A fresh random key."""
        return cls(os.urandom(KEY_BYTES))


NO_PRESHARED_KEY = PresharedKey(bytes(KEY_BYTES))


class PrivateKey(_Secret):
    """An X25519 private key."""

    __slots__ = ("_key", "public")

    def __init__(self, raw: bytes) -> None:
        clamped = bytearray(raw)
        if len(clamped) == KEY_BYTES:
            # `wg genkey` clamps too, so that both print the same text for the same key.
            clamped[0] &= 248
            clamped[31] = (clamped[31] & 127) | 64
        super().__init__(bytes(clamped))
        self._key = X25519PrivateKey.from_private_bytes(self._raw)
        self.public = PublicKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> Self:
        """A fresh random key."""
        return cls(os.urandom(KEY_BYTES))

    def exchange(self, public: PublicKey) -> bytes:
        """Diffie-Hellman secret with a public key.

        Raises
        ------
        ValueError
            The public key is a small-order point: the secret would be all zeros.
        """
        return self._key.exchange(X25519PublicKey.from_public_bytes(public.raw))


def read_private(path: Path) -> bytes:
    """Content of a file that holds keys, after checking that nobody else can read or replace them.

    Raises
    ------
    TunnelError
        It cannot be read, the group or others may read or write it, or it belongs to another user than
        this one, root, or who called sudo; the message says how to repair that.
    """
    try:
        # Not to wait for a writer, if it is a pipe.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise TunnelError(f"{path} is no ordinary file")
            mode = stat.S_IMODE(found.st_mode)
            if mode & 0o077:
                raise TunnelError(
                    f"{path} holds keys but its mode is {mode:04o}: others can open it "
                    f"(repair: chmod 600 {path})"
                )
            # Who calls sudo(8) uses a file of their own, and root's rights.
            if str(found.st_uid) not in ("0", str(os.geteuid()), os.environ.get("SUDO_UID")):
                raise TunnelError(
                    f"{path} holds keys but belongs to the user with the number {found.st_uid}, who can read "
                    f"and change it (repair: chown root {path})"
                )
            return file.read()
    except OSError as error:
        raise TunnelError(f"{path}: {error.strerror}") from None
