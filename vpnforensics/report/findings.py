"""A capture's health in words: what was found, and what it means for the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vpnforensics.capture.encapsulations import NAMES, TITLES
from vpnforensics.report.quantities import many, utc

Severity = Literal["damage", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is out of the ordinary in a capture."""

    severity: Severity
    text: str


def findings(health: Mapping[str, int]) -> list[Finding]:
    """The findings of a capture, gravest first.

    Parameters
    ----------
    health : mapping
        As in the result contract: :meth:`vpnforensics.capture.health.CaptureHealth.to_dict`.
    """
    found: list[Finding] = []

    def tell(severity: Severity, key: str, noun: str, meaning: str, plural: str = "") -> None:
        if health.get(key, 0) > 0:
            found.append(Finding(severity, f"{many(health[key], noun, plural)} {meaning}"))

    at = health.get("first_damage_offset", -1)
    where = f" from byte {at:,} on" if at >= 0 else ""
    if health.get("damaged_records", 0) > 0:
        tell("damage", "damaged_records", "damaged record", f"(first at byte {at:,}); packets are missing")
        where = ""
    tell("damage", "cut_tail_bytes", "byte", f"unreadable{where}: cut while it was written or copied?")
    tell("warning", "unsupported_linktype", "frame", "of a link type that is not decoded")
    tell("warning", "malformed", "IP packet", "with headers that contradict themselves")
    tell(
        "warning",
        "super_frames",
        "super-frame",
        "(offloading at the tap: one frame was many packets on the wire); those of TCP are split by its MSS",
    )
    tell("warning", "time_jumps", "jump", "in time of more than an hour")
    tell("warning", "untimed", "frame", "without a time stamp")
    tell("warning", "duplicates", "duplicate packet", "(a mirror port that sees both directions twice?)")
    tell(
        "warning",
        "later_hops",
        "packet",
        "seen again with a lower TTL (captured before and behind a router?)",
    )
    tell(
        "warning", "copied_files", "file", "of the folder skipped: equal, byte for byte, to one that was read"
    )
    for name, title in zip(NAMES[1:], TITLES[1:], strict=True):
        tell("warning", name, "packet", f"in {title}, not read through: --decap {name} reads what is inside")
    tell("note", "unwrapped", "packet", "read out of a tap's encapsulation: --decap none leaves it on")
    tell("note", "out_of_order", "frame", "earlier than the frame before")
    tell(
        "warning",
        "cut_heads",
        "datagram",
        "snapped within the first 16 bytes of payload: protocols and counters of tunnels may be wrong",
    )
    tell(
        "warning",
        "cut_headers",
        "IP packet",
        "with headers cut by the snap length: ports, numbers or more are missing; use tcpdump -s 128",
    )
    tell(
        "warning",
        "cut_options",
        "TCP segment",
        "with options cut by the snap length: no timestamps, so no clocks; use tcpdump -s 128",
    )
    lost = any(health.get(key) for key in ("cut_heads", "cut_headers", "cut_options"))
    harmless = "" if lost else ", so no link by packets is lost by it"
    tell("note", "snapped", "frame", f"snapped; lengths come from headers{harmless}")
    tell("note", "fragments", "IP fragment", "")
    tell("note", "non_ip", "frame", "without IP")
    tell("note", "unknown_blocks", "pcapng block", "of unknown type skipped")
    tell("note", "skipped_files", "file", "of the folder skipped: no captures")
    tell("note", "skipped_folders", "folder", "inside of the folder not looked into")
    return [Finding(each.severity, each.text.strip()) for each in found]


def clock_set(at_ns: int, size_ns: int, role: str = "") -> str:
    """That a capture's clock was set while it ran."""
    whose = f"the {role} capture's clock" if role else "the capture's clock"
    return f"{whose} was set by {size_ns / 1e9:+.6f} s at {utc(at_ns)}"
