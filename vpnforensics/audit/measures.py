"""The countermeasures that an audit measures: what they do to packets, and how an operator sets them.

What stands under ``settings`` is a line of the configuration of the program named, from its manual.
WireGuard and OpenVPN pad nothing themselves. strongSwan's ``tfc_padding`` is in swanctl.conf(5), nftables'
statements in nft(8), pf's ``scrub`` in pf.conf(5), queueing disciplines in tc-netem(8); the others are the
reference tunnel's keys (``docs/reference-tunnel.md``).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from vpnforensics.audit import strings
from vpnforensics.audit.copies import padding, scrubbing
from vpnforensics.audit.copies.change import Change


@dataclass(frozen=True, slots=True)
class Strength:
    """How strong the countermeasures are that are measured."""

    block_bytes: int = 128
    """The least that puts acknowledgements, queries and short answers into one class."""
    bucket_bytes: tuple[int, ...] = (128, 512, 1024)
    cover_hz: float = 200.0
    """2.3 Mbit/s each way of full packets: a page loads, a film in high definition does not."""
    batch_s: float = 0.02
    """Not felt when browsing; half of what a call can bear one way."""
    ttl: int = 64


@dataclass(frozen=True, slots=True)
class Setting:
    """A line of configuration, and of what."""

    where: str
    line: str


@dataclass(frozen=True, slots=True)
class Measure:
    """One countermeasure, or several at once."""

    name: str
    title: str
    change: Change
    settings: tuple[Setting, ...]
    parts: tuple[str, ...]
    """Names of what it consists of."""

    def with_(self, other: Measure) -> Measure:
        """Both at once."""
        return Measure(
            f"{self.name}+{other.name}",
            f"{self.title}; {other.title}",
            self.change + other.change,
            self.settings + other.settings,
            self.parts + other.parts,
        )


def measures(strength: Strength) -> tuple[Measure, ...]:
    """The single countermeasures."""
    s = strength
    batch_ms = f"{s.batch_s * 1e3:g}"
    changes = {
        "pad-block": Change(pad=padding.to_block(s.block_bytes)),
        "pad-buckets": Change(pad=padding.to_bucket(s.bucket_bytes)),
        "pad-mtu": Change(pad=padding.to_mtu),
        "batch": Change(batch_s=s.batch_s),
        "cover": Change(cover_hz=s.cover_hz),
        "scrub-timestamps": Change(scrubs=(scrubbing.timestamps,)),
        "scrub-ip-id": Change(scrubs=(scrubbing.ip_ids,)),
        "ttl": Change(scrubs=(scrubbing.ttl(s.ttl),)),
        "ecn": Change(scrubs=(scrubbing.ecn,)),
    }
    netem = f"tc qdisc replace dev wg0 root netem slot {batch_ms}ms {batch_ms}ms"
    lines: dict[str, tuple[tuple[str, str], ...]] = {
        "pad-block": ((_OURS, f"Pad = block:{s.block_bytes}"),),
        "pad-buckets": ((_OURS, f"Pad = buckets:{','.join(map(str, s.bucket_bytes))}"),),
        "pad-mtu": (
            (_OURS, "Pad = mtu"),
            ("strongSwan, swanctl.conf, children.<name>", "tfc_padding = mtu"),
        ),
        "batch": ((_OURS_BOTH, f"BatchMs = {batch_ms}"), ("any tunnel on Linux, both ends", netem)),
        "cover": ((_OURS_BOTH, f"Cover = {s.cover_hz:g}"),),
        "scrub-timestamps": (
            (_OURS, "ScrubTimestamps = on"),
            (
                "nft, Linux 5.18",
                "add rule inet filter forward tcp flags syn reset tcp option timestamp",
            ),
            ("each client", "sysctl net.ipv4.tcp_timestamps=0"),
            ("pf (hides the offset, not the rate)", "match out scrub (reassemble tcp)"),
        ),
        "scrub-ip-id": (
            (_OURS, "ScrubIpId = random"),
            ("nft", "add rule ip mangle postrouting ip id set numgen random mod 4294967295"),
            ("pf", "match out scrub (random-id)"),
        ),
        "ttl": (
            (_OURS, f"NormaliseTtl = {s.ttl}"),
            ("nft", f"add rule ip mangle postrouting ip ttl set {s.ttl}"),
        ),
        "ecn": (
            ("each client", "sysctl net.ipv4.tcp_ecn=0"),
            ("nft", "add rule ip mangle forward ip ecn set not-ect"),
        ),
    }
    return tuple(
        Measure(name, strings.TITLES[name], change, tuple(Setting(*each) for each in lines[name]), (name,))
        for name, change in changes.items()
    )


_OURS, _OURS_BOTH = "reference tunnel", "reference tunnel, both ends"


def pairs(single: tuple[Measure, ...]) -> tuple[Measure, ...]:
    """All pairs that are not one thing: two paddings exclude each other, and a constant rate pads already."""
    lengths = {"pad-block", "pad-buckets", "pad-mtu", "cover"}
    return tuple(a.with_(b) for a, b in combinations(single, 2) if not {a.name, b.name} <= lengths)


def usual(strength: Strength) -> tuple[Measure, ...]:
    """What an operator's audit measures: each alone, and those that blur times with hidden lengths."""
    single = measures(strength)
    by_name = {m.name: m for m in single}
    return (*single, by_name["pad-mtu"].with_(by_name["batch"]), by_name["batch"].with_(by_name["cover"]))
