"""ssh as OpenSSH speaks it: its lengths in clear with AES-GCM and -etm, hidden with chacha20-poly1305.

RFC 4253, 4.2 (banners), 6 (packets), 7 (key exchange) and 9 (done again); RFC 5647, 7.2 (AES-GCM); OpenSSH's
PROTOCOL, 1.5 (-etm) and 2.3 (tun), and PROTOCOL.chacha20poly1305.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from tests.corpus.inner import chatter
from tests.corpus.specimen import Draft, Specimen
from tests.corpus.wire import Connection, Endpoint, pcap

CLIENT, SERVER = Endpoint("198.51.100.60", 51000), Endpoint("203.0.113.1", 22)
KEXINIT, NEWKEYS, KEX_ECDH_INIT, KEX_ECDH_REPLY = 20, 21, 30, 31
TUN_BYTES = 1 + 4 + 4 + 4


class Suite(NamedTuple):
    """What the ends agree on."""

    cipher: str
    mac: str
    block: int
    tag: int
    hidden: bool = False

    @property
    def variant(self) -> str:
        return self.cipher if "@" in self.cipher else f"{self.cipher}, {self.mac}"


GCM = Suite("aes256-gcm@openssh.com", "hmac-sha2-256", 16, 16)
ETM = Suite("aes256-ctr", "hmac-sha2-256-etm@openssh.com", 16, 32)
CHACHA = Suite("chacha20-poly1305@openssh.com", "hmac-sha2-256", 8, 16, hidden=True)


def clear(message: bytes) -> bytes:
    """A packet before NEWKEYS: all of it a multiple of 8, with at least 4 of padding."""
    padding = 4 + -(len(message) + 9) % 8
    return struct.pack(">IB", 1 + len(message) + padding, padding) + message + bytes(padding)


def kexinit(cookie: bytes, suite: Suite) -> bytes:
    """The client's first choice is what is taken."""
    ciphers = [suite.cipher, "aes128-ctr"]
    lists = (
        ["curve25519-sha256", "ecdh-sha2-nistp256"], ["ssh-ed25519"], ciphers, ciphers,
        [suite.mac, "hmac-sha1"], [suite.mac, "hmac-sha1"], ["none"], ["none"], [], [],
    )  # fmt: skip
    texts = (",".join(names).encode() for names in lists)
    body = b"".join(struct.pack(">I", len(text)) + text for text in texts)
    return bytes([KEXINIT]) + cookie + body + bytes(5)


def openings(random, suite: Suite) -> dict[bool, list[bytes]]:
    """What either end (the client's under ``True``) writes up to its NEWKEYS, that with it."""
    return {
        True: [
            b"SSH-2.0-OpenSSH_9.6\r\n",
            clear(kexinit(random(16), suite)),
            clear(bytes([KEX_ECDH_INIT]) + random(36)),
            clear(bytes([NEWKEYS])),
        ],
        False: [
            b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
            clear(kexinit(random(16), suite)),
            clear(bytes([KEX_ECDH_REPLY]) + random(190)) + clear(bytes([NEWKEYS])),
        ],
    }


@dataclass
class Ssh:
    """An ssh connection; ``packet`` puts an inner packet into it as ``ssh -w`` does."""

    connection: Connection
    suite: Suite = GCM

    def handshake(self) -> None:
        """Banners, key exchange, and a log-in with a key."""
        writes = openings(self.connection.wire.rng.randbytes, self.suite)
        for number in range(4):
            for up in (True, False):
                if number < len(writes[up]):
                    self.connection.say(up, writes[up][number])
        for up, size in (
            (True, 17),
            (False, 17),
            (True, 40),
            (False, 60),
            (True, 300),
            (False, 1),
            (True, 24),
        ):
            self.message(up, size)

    def sealed(self, payload: int) -> bytes:
        """A packet of a payload of so many bytes."""
        random = self.connection.wire.rng.randbytes
        size = -(-(1 + payload + 4) // self.suite.block) * self.suite.block
        length = random(4) if self.suite.hidden else struct.pack(">I", size)
        return length + random(size + self.suite.tag)

    def message(self, up: bool, payload: int) -> None:
        self.connection.say(up, self.sealed(payload))

    def packet(self, up: bool, length: int) -> None:
        self.message(up, TUN_BYTES + length)

    def carry(self, count: int) -> None:
        for step in chatter(self.connection.wire.rng, count):
            self.packet(step.up, step.length)


def tunnel(draft: Draft, suite: Suite, *, opened: bool = True, seen: str = "both") -> Ssh:
    """``ssh -w``; without its beginning where it is not ``opened``."""
    session = Ssh(Connection(draft.wire, CLIENT, SERVER, opened=opened, seen=seen), suite)
    if opened:
        session.handshake()
    return session


def specimens() -> Iterator[Specimen]:
    for name, suite in (("gcm", GCM), ("etm", ETM), ("chacha", CHACHA)):
        draft = Draft(f"ssh-w-{name}", "ssh")
        tunnel(draft, suite).carry(60)
        draft.holds("ssh", CLIENT, SERVER, suite.variant, sure=False)
        yield draft.done()

    for name, suite in (("gcm", GCM), ("etm", ETM)):
        draft = Draft(f"ssh-w-{name}-mid", "ssh")
        tunnel(draft, suite, opened=False).carry(60)
        draft.holds("ssh", CLIENT, SERVER, "lengths in clear", sure=False)
        yield draft.done()

    draft = Draft("ssh-w-gcm-rekeyed", "ssh")  # RFC 4253, 9: the exchange is encrypted as all else is
    session = tunnel(draft, GCM)
    session.carry(30)
    for size in (1100, 40, 200, 1):
        session.message(True, size)
        session.message(False, size)
    session.carry(30)
    draft.holds("ssh", CLIENT, SERVER, GCM.variant, sure=False)
    yield draft.done()

    for seen in ("up", "down"):
        draft = Draft(f"ssh-w-gcm-only-{seen}", "ssh")
        tunnel(draft, GCM, seen=seen).carry(60)
        draft.holds("ssh", CLIENT, SERVER, sure=False)
        yield draft.done()

    draft = Draft("ssh-w-gcm-snapped", "ssh")
    tunnel(draft, GCM).carry(60)
    draft.holds("ssh", CLIENT, SERVER, "lengths in clear", sure=False)
    yield draft.done(partial(pcap, snap=96))
