"""Why a packet was refused: every refusal is silent on the wire and counted here.

WireGuard answers nothing that is not authenticated; whoever sends rubbish learns nothing
(https://www.wireguard.com/papers/wireguard.pdf, section 5.1). The operator learns it from these counters.
"""

from __future__ import annotations

from enum import Enum


class Drop(Enum):
    """A reason for a silent drop; the value is its name in ``show`` and in JSON."""

    MALFORMED = "malformed"
    BAD_MAC1 = "bad_mac1"
    BAD_COOKIE = "bad_cookie"
    RATE_LIMITED = "rate_limited"
    UNDER_LOAD = "under_load"
    UNKNOWN_PEER = "unknown_peer"
    UNKNOWN_INDEX = "unknown_index"
    NOT_AUTHENTIC = "not_authentic"
    OLD_TIMESTAMP = "old_timestamp"
    REPLAY = "replay"
    EXPIRED = "expired"
    COUNTER_EXHAUSTED = "counter_exhausted"
    WRONG_SOURCE = "wrong_source"
    NOT_IP = "not_ip"
    NO_ROUTE = "no_route"
    NO_ENDPOINT = "no_endpoint"
    NO_ANSWER = "no_answer"
    QUEUE_FULL = "queue_full"
    TOO_LONG = "too_long"
    SEND_FAILED = "send_failed"
    TUN_REFUSED = "tun_refused"


class RefusedError(Exception):
    """A message is not acceptable; carries the reason and never any content.

    Parameters
    ----------
    reason : Drop
        What to count.
    """

    def __init__(self, reason: Drop) -> None:
        self.reason = reason
        super().__init__(reason.value)
