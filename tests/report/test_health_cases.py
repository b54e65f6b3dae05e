"""What ``vpnf info`` says of small captures that were once called sound, or broken, and were not."""

from pathlib import Path

from vpnforensics.packets.read import read_capture
from vpnforensics.report.findings import findings

CASES = Path(__file__).parent.parent / "cases"


def said_of(name: str) -> list[str]:
    source = read_capture(CASES / name).source
    assert source is not None
    return [finding.text for finding in findings(source.health.to_dict())]


def test_headers_cut_by_the_snap_length_do_not_contradict_themselves():
    said = said_of("health-snap60.pcap")
    assert not any("contradict" in text for text in said)
    assert any(text.startswith("200 TCP segments with options cut") and "-s 128" in text for text in said)
    assert not any("no link by packets is lost" in text for text in said)


def test_packets_in_vxlan_are_no_duplicates():
    assert not any("duplicate" in text for text in said_of("encap-vxlan.pcap"))
