"""The comparisons that mislead most, as tables of text: what each is, and its packets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vpnforensics.validation.cells import Document, TextTable

MISLEADING = "What misleads most, and the packets behind it"
MISLEADING_NOTE = (
    "Beside each packet of the flow, the outer packet of that tunnel nearest in time that has the size it"
    " would have. Frames are numbered as Wireshark does."
)


def misleading_tables(document: Document) -> Iterator[TextTable]:
    """The worst comparisons: what each is, and its packets."""
    kinds = {
        "link": "Wrong link",
        "false": "Speaks for a tunnel that did not carry the flow",
        "true": "Speaks least for the true tunnel",
    }
    for kind, title in kinds.items():
        for each in document["worst"][kind]:
            about = (
                f"{title}: {each['flow']} ({each['flow_ends']}) with {each['tunnel']} ({each['client']}) in"
                f" {each['session']}, damage {each['damage']}; log10 LR {each['llr']:+.2f},"
                f" stated error {each['error']:.2g}; {each['packets']}"
                f" packets, {each['verdict']}{_of_the_true(each)}"
            )
            rows = [
                (
                    f"{p['egress_frame']}",
                    p["at"],
                    "up" if p["up"] else "down",
                    f"{p['inner_bytes']}",
                    "none" if p["ingress_frame"] is None else f"{p['ingress_frame']}",
                    "" if p["outer_bytes"] is None else f"{p['outer_bytes']}",
                    "" if p["delay_ms"] is None else f"{p['delay_ms']:.3f}",
                )
                for p in each["frames"]
            ]
            headings = (
                "egress frame",
                "time",
                "",
                "inner bytes",
                "ingress frame",
                "outer bytes",
                "delay, ms",
            )
            yield TextTable(about, f"{each['ingress']} {each['egress']}", headings, tuple(rows))


def _of_the_true(each: Mapping[str, Any]) -> str:
    """What was said of the tunnel that a wrong link should have named."""
    if each["kind"] != "link":
        return ""
    if each["true_tunnel"] is None:
        return "; its own tunnel is not in the ingress capture"
    said = "nothing" if each["true_llr"] is None else f"log10 LR {each['true_llr']:+.2f}"
    return f"; of its own tunnel, {each['true_tunnel']}: {said}"
