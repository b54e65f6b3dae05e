"""The report as its reader sees it: in Chromium, without a network."""

from __future__ import annotations

import os
import re
import shutil

import pytest

import vpnforensics as vf
from tests.machine import must_have_all
from tests.report.html.test_document import hostile
from tests.small_case import made_up
from vpnforensics.report.html.document import html_form

pytestmark = pytest.mark.needs("chromium")
if not must_have_all():
    pytest.importorskip("playwright")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        # Chromium's own sandbox does not start as root.
        unboxed = ["--no-sandbox"] if os.geteuid() == 0 else []
        started = play.chromium.launch(executable_path=shutil.which("chromium"), args=unboxed)
        yield started
        started.close()


@pytest.fixture(scope="module")
def case(folder):
    return vf.correlate(folder / "ingress.pcap", folder / "egress.pcap")


@pytest.fixture
def opened(browser, tmp_path):
    """A case's report in a page that fails the test on any message, error or request."""
    pages = []

    def open_report(case, anchor=""):
        path = tmp_path / f"report{len(pages)}.html"
        path.write_text("".join(html_form(case)))
        page = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
        page.said = []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: (page.said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: request.url.startswith("file:") or page.said.append(request.url))
        page.goto(path.as_uri() + anchor)
        pages.append(page)
        return page

    yield open_report
    for page in pages:
        said = page.said
        page.close()
        assert said == []


def rows(page, section="flows"):
    return page.locator(f"#{section} tbody tr")


def column(page, name):
    heads = page.locator("#flows thead th").all_inner_texts()
    at = [head.rstrip(" ▲▼") for head in heads].index(name)
    return [row.locator("td").nth(at).inner_text() for row in rows(page).all()]


def test_search_finds_rows_with_all_words(opened, case):
    page = opened(case)
    links = case.beside
    assert rows(page).count() == min(len(links), 100)
    assert rows(page, "tunnels").count() == len(case.tunnels)
    client = case.tunnels["client"][0]
    page.locator("#flows").get_by_role("searchbox").fill(f"LINKED {client.upper()}")
    mine = links[links["client"] == client]
    assert rows(page).count() == len(mine)
    assert set(column(page, "flow")) == set(mine["flow"])
    assert page.locator("#flows [role=status]").inner_text().startswith(f"{len(mine)} of {len(links)} rows")
    page.locator("#flows").get_by_role("searchbox").fill("no such words")
    assert rows(page).count() == 0


def test_a_column_sorts_both_ways(opened, case):
    page = opened(case)
    head = page.locator("#flows").get_by_role("columnheader", name="packets")
    for way, descending in (("ascending", False), ("descending", True)):
        head.get_by_role("button").press("Enter")
        assert head.get_attribute("aria-sort") == way
        shown = [int(text.replace(",", "")) for text in column(page, "packets")]
        assert shown == sorted(case.flows["packets"], reverse=descending)[: len(shown)]


def test_a_link_can_be_followed_to_its_packets(opened, case):
    flow = case.summary["flow"][0]
    page = opened(case)
    page.locator("#flows").get_by_role("link", name=flow, exact=True).press("Enter")
    page.locator("article h2").wait_for()
    assert page.locator("main > section:visible").count() == 0
    assert page.evaluate("document.activeElement.tagName") == "H2"
    row = case.beside.set_index("flow").loc[flow]
    said = page.locator("article").inner_text()
    assert f"Linked to {row['tunnel']}" in said
    assert row["client"] in said
    table = page.locator("article table").last
    cells = [tr.locator("td").all_inner_texts() for tr in table.locator("tbody tr").all()]
    packets = case.explain(flow)
    assert len(cells) == len(packets)
    for shown, (_, packet) in zip(cells, packets.iterrows(), strict=True):
        assert shown[2] == str(packet["egress_frame"])
        assert shown[3] == str(packet["inner_bytes"])
        if packet["ingress_frame"] is not None and packet["ingress_frame"] == packet["ingress_frame"]:
            assert shown[4:6] == [str(packet["ingress_frame"]), str(packet["outer_bytes"])]
    filters = page.locator("dl.filters dd").all_inner_texts()
    assert sum(text.startswith("frame.number in {") for text in filters) == 2
    assert any("udp.port" in text for text in filters)
    assert page.locator("article svg[role=img]").count() >= 3
    page.get_by_role("link", name="Back to the case").click()
    page.locator("#flows tbody tr").first.wait_for()


def test_the_filters_are_those_of_the_command_line(opened, case):
    from vpnforensics.report.wireshark import display_filters

    flow = case.summary["flow"][0]
    page = opened(case, f"#{flow}")
    shown = set(page.locator("dl.filters dd").all_inner_texts())
    made = display_filters(case, flow)
    assert shown == {text for each in made for text in (each.frames, each.stream) if text}


def test_filters_name_every_frame_of_a_flow_too_long_to_list(opened, case, monkeypatch):
    from vpnforensics.report.html import packets
    from vpnforensics.report.wireshark import display_filters

    monkeypatch.setattr(packets, "LISTED_PACKETS", 100)
    flow = case.endpoints.loc[case.endpoints["packets"].idxmax(), "id"]
    page = opened(case, f"#{flow}")
    shown = set(page.locator("dl.filters dd").all_inner_texts())
    assert {each.frames for each in display_filters(case, flow)} <= shown
    assert page.locator("article table").last.locator("tbody tr").count() < len(case.explain(flow))
    assert "The filters name the frames of all of them" in page.locator("article").inner_text()


def test_times_are_exact_to_the_nanosecond(opened, case):
    flow = case.summary["flow"][0]
    page = opened(case, f"#{flow}")
    shown = page.locator("article table").last.locator("tbody tr td:first-child").all_inner_texts()
    wanted = [f"{ns % 10**9:09d}" for ns in case.explain(flow)["egress_ns"]]
    assert [text.rpartition(".")[2] for text in shown] == wanted


def test_pictures_hold_every_flow_and_packet(opened, case):
    page = opened(case)
    assert page.locator("#timeline rect[data-flow]").count() == len(case.flows)
    ways = [
        len(re.findall("M", d.get_attribute("d") or ""))
        for d in page.locator("#clocks figure > svg path").all()
    ]
    matched = case.pairings["ingress_frame"].notna().sum()
    beyond = page.locator("#clocks figcaption").all_inner_texts()
    lost = int(beyond[0].split()[0].replace(",", "")) if beyond else 0
    assert len(ways) == 2
    assert abs(sum(ways) + lost - matched) <= 2
    page.locator("#timeline rect[data-flow]").first.dispatch_event("click")
    page.locator("article h2").wait_for()


def test_what_is_not_linked_says_why(opened):
    page = opened(made_up(), "#f2")
    assert "a link would be wrong with probability 0.1" in page.locator("article").inner_text()
    page = opened(made_up(), "#f99")
    assert "There is no flow f99" in page.locator("#evidence").inner_text()


def test_evidence_of_what_was_found_prints(opened, case, tmp_path):
    page = opened(case)
    client = case.tunnels["client"][0]
    page.locator("#flows").get_by_role("searchbox").fill(client)
    page.get_by_role("link", name="Evidence of these flows, to print").click()
    page.locator("article").first.wait_for()
    mine = case.beside[case.beside["client"] == client]
    assert page.locator("article").count() == len(mine)
    pdf = page.pdf(path=str(tmp_path / "evidence.pdf"))
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= len(mine)


def test_markup_from_outside_runs_nowhere(opened):
    page = opened(hostile())
    assert page.locator("img").count() == 0
    assert "<script>alert(1)" in page.locator("#flows tbody").inner_text()
    for anchor in ("#f1", "#f2", "#print", "#%3Cimg%20src=x%3E", "#%E0%A4%A"):
        page.goto(page.url.partition("#")[0] + anchor)
        page.wait_for_timeout(50)
    assert page.locator("img").count() == 0


def test_it_fits_a_narrow_screen_and_everything_has_a_name(opened, case):
    page = opened(case)
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    nameless = page.evaluate(  # what a screen reader would have nothing to say of
        "[...document.querySelectorAll('button, a, input, svg[role=img]')].filter((e) =>"
        " !(e.textContent.trim() || e.getAttribute('aria-label') || e.closest('label'))).length"
    )
    assert nameless == 0
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.locator("table:not(:has(caption))").count() == 0
