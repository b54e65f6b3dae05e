"""Every sentence of the audit's reports, in one place."""

from __future__ import annotations

from collections.abc import Sequence

from vpnforensics.report.quantities import span

NO_COUNTERS = "no-counters"

TITLES = {
    "pad-block": "lengths padded to a block",
    "pad-buckets": "lengths padded to a few sizes",
    "pad-mtu": "lengths padded to the MTU",
    "batch": "packets leave in batches",
    "cover": "constant rate, filled with empty datagrams",
    "scrub-timestamps": "TCP timestamps rewritten",
    "scrub-ip-id": "random IP IDs",
    "ttl": "one TTL for all",
    "ecn": "no ECN",
}

FIELDS = {
    "times": "times of packets",
    "lengths": "lengths of records",
    "counters": "tunnel's clear counter",
    "tsval": "TCP timestamps",
    "ip_id": "IP ID",
    "ttl": "TTL",
    "mss": "TCP MSS",
    "ecn": "ECN",
}

TSVAL = "{stamped:,} of {flows:,} flows send them"
ECN = "{flows:,} flows can; copied outside by {copying} of {tunnels} tunnels"
LENGTHS = "records of {sizes:,} sizes, {bits:.1f} bits each ({inner:.1f} inside)"
COUNTERS = "in {counted} of {tunnels} tunnels"
IP_IDS = "flows: {inner}; tunnels: {outer}"
NO_DELAYS = "no delay could be measured"
NO_RECORDS = "no tunnel has a record for each packet"

PAGE = {
    "title": "Linkability audit",
    "summary": "What can be linked",
    "by_packets": "Flows linked, by packets of the flow",
    "leaks": "What leaks",
    "ranking": "What lowers it",
    "settings": "How to set it",
    "clients": "By client",
    "made_by": "Made by {tool}",
}

HEADINGS = {
    "by_packets": ("packets", "flows"),
    "leaks": ("field", "what is seen", "bits told", "flows tied", "linked without it"),
    "ranking": ("rank", "measure", "linked", "change", "clocks unknown", "tied", "bytes", "delay"),
    "settings": ("measure", "where", "line"),
    "clients": ("client", "flows linked"),
}

MEANING = (
    "linked: share of all flows whose tunnel is named, and rightly, while so many false links are allowed in"
    " the whole case; the adversary has both captures, knows the clocks and how lengths are padded.",
    "clocks unknown: the same for one who has to estimate the clocks, as vpnf correlate does.",
    "tied: share of flows that share a device's clock line or IP-ID counter with another flow at egress.",
    "bytes: outer bytes against now. delay: median of how much later clients answer a SYN-ACK.",
    "Measured on copies of the captures; programs that would have acted otherwise are not in them.",
)


COMPARED = "{scenario}: linked with {strict} false links allowed, lax: {lax}"
COMPARISON_HEADINGS = (
    "measure", "seeds", "flows", "linked", "lax", "wrong", "clocks unknown", "tied", "bytes", "round trip",
    "predicted", "points off",
)  # fmt: skip
COMPARISON_MEANING = (
    "Means over the seeds, of recordings of the reference tunnel with the measure on; flows, wrong: sums.",
    "linked: flows whose true tunnel is named, by who has both captures, knows the clocks and how lengths are"
    " padded.",
    "clocks unknown: the same for one who has to estimate the clocks. wrong: links to others' tunnels.",
    "tied: flows that share a device's clock line or IP-ID counter with another flow at egress.",
    "bytes: outer for each inner one. round trip: from a SYN-ACK to the client's answer, at egress (median).",
    "predicted: by an audit of the recording without measures. points off: the largest difference of a seed.",
)


def delays(median_ns: Sequence[int], p95_ns: Sequence[int]) -> str:
    """What the server's delay is, up and down."""
    return (
        f"a packet leaves the server {span(median_ns[0])} (up), {span(median_ns[1])} (down) after it came;"
        f" 95 % within {span(p95_ns[0])}, {span(p95_ns[1])}"
    )
