"""Transport data: one pair of keys, from the handshake that made it to its end.

A sender numbers its packets from 0 and never repeats a number; the number is the AEAD nonce and travels in
clear, and the receiver accepts each once (https://www.wireguard.com/papers/wireguard.pdf,
section 5.4.6). Messages past `REJECT_AFTER_MESSAGES` are neither sent nor accepted, so a counter cannot wrap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from vpnforensics.reftunnel.crypto import TAG_BYTES, pack_nonce
from vpnforensics.reftunnel.drops import Drop, RefusedError
from vpnforensics.reftunnel.handshake import TransportKeys
from vpnforensics.reftunnel.replay import ReplayWindow
from vpnforensics.reftunnel.wire import TRANSPORT, TRANSPORT_HEADER_BYTES, transport_header

if TYPE_CHECKING:
    from vpnforensics.reftunnel.peers import Peer

REKEY_AFTER_MESSAGES = 2**60
REJECT_AFTER_MESSAGES = 2**64 - 2**13 - 1


class Session:
    """Keys, counters and replay window of one finished handshake.

    Parameters
    ----------
    peer : Peer
        Whose session it is.
    keys : TransportKeys
        What the handshake gave.
    local_index, remote_index : int
        How the peer addresses us, and how we address the peer.
    is_initiator : bool
        Only the initiator renews a session because of its age, so that not both do.
    created_at : float
        Seconds.
    """

    __slots__ = (
        "_receive",
        "_send",
        "created_at",
        "is_initiator",
        "local_index",
        "open_into",
        "peer",
        "remote_index",
        "renewal_asked",
        "replay",
        "seal_into",
        "sent",
    )

    def __init__(
        self,
        peer: Peer,
        keys: TransportKeys,
        *,
        local_index: int,
        remote_index: int,
        is_initiator: bool,
        created_at: float,
    ) -> None:
        self.peer = peer
        self.local_index = local_index
        self.remote_index = remote_index
        self.is_initiator = is_initiator
        self.created_at = created_at
        self.renewal_asked = False
        self.sent = 0
        self.replay = ReplayWindow()
        self._send = ChaCha20Poly1305(keys.send)
        self._receive = ChaCha20Poly1305(keys.receive)
        # Bound once: the two directions of traffic call these for every packet.
        self.seal_into = self._send.encrypt_into
        self.open_into = self._receive.decrypt_into

    def __repr__(self) -> str:
        return f"Session({self.local_index:08x}->{self.remote_index:08x}, sent={self.sent})"

    def reserve(self, count: int) -> int:
        """Take `count` counters for packets about to be sealed.

        Returns
        -------
        int
            The first of them.

        Raises
        ------
        RefusedError
            ``COUNTER_EXHAUSTED``: the session has sent all it may.
        """
        first = self.sent
        if first + count > REJECT_AFTER_MESSAGES:
            raise RefusedError(Drop.COUNTER_EXHAUSTED)
        self.sent = first + count
        return first

    def seal(self, padded: bytes) -> bytes:
        """Transport message around an inner packet that is padded already."""
        counter = self.reserve(1)
        header = transport_header.pack(TRANSPORT, self.remote_index, counter)
        return header + self._send.encrypt(pack_nonce(counter), padded, None)

    def open(self, message: bytes | memoryview) -> bytes:
        """Padded inner packet of a transport message; empty for a keepalive.

        Raises
        ------
        RefusedError
            ``NOT_AUTHENTIC``, ``REPLAY`` or ``COUNTER_EXHAUSTED``.
        """
        if len(message) < TRANSPORT_HEADER_BYTES + TAG_BYTES:
            raise RefusedError(Drop.MALFORMED)
        counter = transport_header.unpack_from(message)[2]
        if counter >= REJECT_AFTER_MESSAGES:
            raise RefusedError(Drop.COUNTER_EXHAUSTED)
        try:
            padded = self._receive.decrypt(pack_nonce(counter), message[TRANSPORT_HEADER_BYTES:], None)
        except InvalidTag:
            raise RefusedError(Drop.NOT_AUTHENTIC) from None
        if not self.replay.accept(counter):
            raise RefusedError(Drop.REPLAY)
        return padded
