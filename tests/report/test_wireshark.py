"""What is for Wireshark, opened by tshark: display filters and the annotated capture."""

import subprocess

import pytest

import vpnforensics as vf
from tests.small_case import made_up
from vpnforensics import samples
from vpnforensics.report.annotated import annotated
from vpnforensics.report.dataframes import plain
from vpnforensics.report.questions import Question, asked
from vpnforensics.report.wireshark import conversation, display_filters, filter_text, numbered


@pytest.fixture(scope="module")
def case(folder):
    return vf.correlate(folder / "ingress.pcap", folder / "egress.pcap")


def tshark(path, display_filter, *fields):
    names = [word for field in fields for word in ("-e", field)]
    command = [
        "tshark",
        "-n",
        "-r",
        str(path),
        "-Y",
        display_filter,
        "-T",
        "fields",
        "-E",
        "aggregator=|",
        *names,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.needs("tshark")
@pytest.mark.parametrize("rank", [0, 5])
def test_a_filter_shows_the_packets_of_the_link(case, rank):
    flow = case.summary["flow"][rank]
    packets = case.explain(flow)
    egress, ingress = display_filters(case, flow)
    assert (egress.role, ingress.role) == ("egress", "ingress")
    for side in (egress, ingress):
        shown = [int(row[0]) for row in tshark(side.file, side.frames, "frame.number")]
        assert shown == sorted(plain(packets[f"{side.role}_frame"].dropna()))
        around = [int(row[0]) for row in tshark(side.file, side.stream, "frame.number")]
        assert set(shown) <= set(around)


def test_a_flow_that_is_not_linked_has_its_stream_only():
    (only,) = display_filters(made_up(), "f2")
    assert only.frames == ""
    assert (
        only.stream
        == "ip.addr == 203.0.113.1 && ip.addr == 192.0.2.80 && tcp.port == 2000 && tcp.port == 443"
    )
    with pytest.raises(KeyError):
        display_filters(made_up(), "f9")


def test_filters_as_text():
    case = made_up()
    text = filter_text(display_filters(case, "f1"))
    assert text.splitlines()[1] == "frame.number in {1..2}"
    assert "# f1, ingress" in text
    assert "frame.number in {7}" in text
    assert numbered([5, 5, 4, 8]) == "frame.number in {4..5, 8}"
    assert (
        conversation("esp", "[2001:db8::1]:0", "192.0.2.1:0")
        == "ipv6.addr == 2001:db8::1 && ip.addr == 192.0.2.1"
    )


@pytest.mark.needs("tshark")
@pytest.mark.parametrize("two_clocks", [True, False])
def test_every_attributed_packet_has_its_comment(case, tmp_path, two_clocks):
    if not two_clocks:
        sample = samples.load("sll2")  # one capture of both sides
        case = vf.correlate(sample.ingress)
    both = tmp_path / "both.pcapng"
    both.write_bytes(b"".join(annotated(case)))
    rows = tshark(both, "frame", "frame.number", "frame.interface_name", "frame.time_epoch", "frame.comment")
    frames = sum(len(vf.read_capture(side["path"]).frame) for side in case.inputs) if two_clocks else None
    assert frames is None or len(rows) >= frames
    times = [row[2] for row in rows]
    if two_clocks:
        assert times == sorted(times)
        assert {row[1].partition(":")[0] for row in rows} == {"ingress", "egress"}
    said = [text for row in rows for text in row[3].split("|") if len(row) > 3 and text]
    pairings = case.pairings
    found = pairings["ingress_frame"].notna()
    carried = [text for text in said if " carried f" in text]
    assert len(carried) == int(found.sum())
    assert len(said) - len(carried) == len(pairings)
    assert sum("no outer packet found" in text for text in said) == int((~found).sum())
    flow = case.summary["flow"][0]
    mine = pairings[pairings["flow"] == flow]
    assert sum(text.startswith(f"{flow} in ") for text in said) == len(mine)


def test_an_excerpt_is_annotated_with_its_links_only(case):
    few = asked(case, Question(tunnel=("t1",)))
    whole, part = (b"".join(annotated(each)) for each in (case, few))
    assert part.count(b"t1 carried") == whole.count(b"t1 carried") > 0
    assert part.count(b"t2 carried") == 0 < whole.count(b"t2 carried")


def test_what_cannot_be_annotated_is_told(case):
    from vpnforensics.align.alignment import Alignment

    lost = made_up(alignment=Alignment("not_identifiable", reason="too few packets"))
    with pytest.raises(vf.CaseError, match="no common time: too few packets"):
        list(annotated(lost))
    nowhere = made_up(inputs=[{**side, "files": []} for side in made_up().inputs])
    with pytest.raises(vf.CaseError, match="in no file"):
        list(annotated(nowhere))
    with pytest.raises(vf.CaptureError, match="cannot be read again"):
        list(annotated(made_up()))
