import io

import pytest
from rich.console import Console

from tests.small_case import HEALTH, made_up
from vpnforensics.align.alignment import Alignment
from vpnforensics.report.explanation import explanation_table, explanation_view, flows_named, why_no_rows
from vpnforensics.report.table import case_view


def shown(view, width=100, crop=True):
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    console.print(view, crop=crop)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [72, 80, 100, 140])
def test_it_fits_and_says_what_matters(width):
    text = shown(case_view(made_up(), width=width), width)
    assert max(map(len, text.splitlines())) <= width
    flat = " ".join(text.split())
    for part in (
        "1 linked",
        "1 undecided",
        "1 no tunnel",
        "198.51.100.7:4000",
        "+3.5",
        "12.500000 s ahead of",
    ):
        assert part in flat
    assert "6 comparisons" in flat
    assert "0.004" in flat
    assert "not a probability" in flat


@pytest.mark.parametrize(("twins", "said"), [(2, "2 flows have a twin"), (0, ""), (None, "")])
def test_twins_are_told_where_there_are_any(twins, said):
    flat = " ".join(shown(case_view(made_up(limit={"twins": twins}), width=100)).split())
    assert said in flat
    assert (" twin" in flat) == bool(said)


@pytest.mark.parametrize("width", [1, 20, 40, 56])
def test_no_number_is_cut_on_a_narrow_terminal(width):
    def numbers(width):
        views = (case_view(made_up(), width=width), explanation_view(made_up(), "f1"))
        tables = [line for view in views for line in shown(view, width, crop=False).splitlines()]
        return [line.split() for line in tables if line.startswith(("t1 ", "f1 ", "f2 ", "     "))]

    text = " ".join(word for line in numbers(width) for word in line)
    for cell in ("50.0%", "openvpn", "+3.5", "+1.0", "+4.0", "+0.002000 s", "140 B", "100 µs"):
        assert cell in text


def test_wide_tables_say_more():
    assert "strong for H1" not in shown(case_view(made_up(), width=80), 80)
    assert "strong for H1" in shown(case_view(made_up(), width=100), 100)
    assert "P = L + 24" in shown(case_view(made_up(), width=140), 140)


def test_top_cuts_and_says_so():
    text = shown(case_view(made_up(), width=100, top=1))
    assert "… and 2 more" in text
    assert "192.0.2.80:443" not in text


def test_hostile_text_neither_drives_the_terminal_nor_is_markup():
    text = shown(case_view(made_up(warnings=["\x1b[2J[bold]x"]), width=100))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "in\\x1b[2J[red]\\u202e.pcap" in text
    assert "\\x1b[2J[bold]x" in text


def test_health_and_lost_clocks_are_told():
    case = made_up(alignment=Alignment("not_identifiable", reason="only 3 packets"))
    case.inputs[0]["health"] = {**HEALTH, "cut_tail_bytes": 7, "snapped": 4}
    text = shown(case_view(case, width=100))
    assert "7 bytes unreadable" in text
    assert "4 frames snapped" in text
    assert "cannot be aligned: only 3 packets" in text


def test_clients_of_a_readable_capture_are_not_called_tunnels():
    case = made_up()
    plain = case.lists.tunnels.assign(
        protocol="plain", client=["10.0.0.2:0", "10.0.0.3:0"], server="0.0.0.0:0"
    )
    text = shown(case_view(made_up(tunnels=plain), width=100))
    assert "2 clients: the ingress capture is readable" in text
    assert "10.0.0.2:0" not in text


def test_a_flow_is_found_by_id_community_id_and_source():
    case = made_up()
    assert (
        flows_named(case, "f1")
        == flows_named(case, "1:aaaa=")
        == flows_named(case, "203.0.113.1:1000")
        == ["f1"]
    )
    assert flows_named(case, "203.0.113.1:2000") == ["f2", "f3"]


def test_a_flow_is_found_by_any_endpoint_and_by_name():
    case = made_up()
    assert flows_named(case, "203.0.113.1") == ["f1", "f2", "f3"]
    assert flows_named(case, "192.0.2.80:443") == flows_named(case, "192.0.2.80") == ["f2", "f3"]
    assert flows_named(case, "198.51.100.7:4000") == flows_named(case, "198.51.100.7") == ["f1"]
    assert flows_named(case, "[2001:db8::7]:4001") == []  # nothing is linked to it
    assert flows_named(case, "site.example") == ["f1"]
    assert flows_named(case, "nobody.example") == flows_named(case, "") == []


def test_an_explanation_names_each_packet_and_what_is_missing():
    text = shown(explanation_view(made_up(), "f1"))
    assert "linked to t1" in text
    assert "1 of 2 packets found" in text
    first, second = [line.split() for line in text.splitlines()[-2:]]
    assert first == ["1", "+0.000000", "s", "↑", "up", "60", "B", "7", "84", "B", "3", "100", "µs"]
    assert second[:7] == ["2", "+0.002000", "s", "↓", "down", "140", "B"]
    assert "none" in second


def test_an_explanation_of_an_unlinked_flow_lists_candidates():
    text = shown(explanation_view(made_up(), "f2"))
    assert "undecided: no outer packets are attributed" in text
    assert "9 of 30 packets found" in text
    assert "no tunnel had a packet" in shown(explanation_view(made_up(), "f3"))


def test_an_explanation_says_why_and_how_far_a_ratio_goes():
    assert "a link would be wrong with probability 0.1" in shown(explanation_view(made_up(), "f2"))
    flat = " ".join(shown(explanation_view(made_up(), "f1")).split())
    assert "the most that 3,200 comparisons known to be false allow" in flat


def test_frames_of_several_files_are_named_with_them():
    case = made_up()
    one = case.inputs[1]["files"][0]
    files = [{**one, "path": "in/a.pcap"}, {**one, "path": "in/b.pcap", "first_frame": 2}]
    several = made_up(inputs=[case.inputs[0], {**case.inputs[1], "files": files}])
    first, second = [line.split() for line in shown(explanation_view(several, "f1")).splitlines()[-2:]]
    assert (first[0], second[0]) == ("a.pcap:1", "b.pcap:1")


def test_the_explanation_as_a_table():
    table = explanation_table(made_up(), ["f1", "f2"])
    assert table["flow"].tolist() == ["f1", "f1"]
    assert table["tunnel"].tolist() == ["t1", "t1"]
    assert table["delay_ns"].tolist()[0] == 100_000


def test_a_flow_without_rows_has_a_reason():
    assert why_no_rows(made_up(), "f1") == ""
    assert "f2 is not linked; undecided" in why_no_rows(made_up(), "f2")
    assert "its best candidate, t2, has LLR +1.0" in why_no_rows(made_up(), "f2")
    assert "f3 is not linked; in no tunnel of this capture" in why_no_rows(made_up(), "f3")


@pytest.mark.parametrize(("expected", "said"), [(0.01, "0.01"), (2.5e-5, "0.000025"), (0.0, "0")])
def test_false_links_need_no_exponent(expected, said):
    flat = " ".join(shown(case_view(made_up(expected_false_links=expected), width=100)).split())
    assert f"among the 1 link, {said} false ones are expected" in flat
