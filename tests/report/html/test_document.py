import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

import vpnforensics as vf
from tests.small_case import HOSTILE, made_up
from vpnforensics.errors import SavedCaseError
from vpnforensics.report.html import strings
from vpnforensics.report.html.assets import SCRIPTS
from vpnforensics.report.html.document import html_form

EVIL = '</script><script>alert(1)</script><img src=x onerror="alert(2)">\u202e\x1b'
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Elements in order, with what stands in scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.inside, self.open = [], {}, []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.inside.setdefault(self.open[-1], []).append(data)


def page_of(case):
    text = "".join(html_form(case))
    return text, Page(text)


def data_of(page):
    return json.loads("".join(page.inside["script"][:1]))


def hostile():
    """A case with markup wherever text from outside comes in."""
    case = made_up()
    side = {**case.inputs[0], "path": EVIL, "linktypes": [EVIL]}
    side["files"] = [{**side["files"][0], "path": EVIL}]
    ends = case.lists.endpoints.copy()
    ends["names"] = [[{"name": EVIL, "source": "sni", "flow": "f1"}], [], []]
    return made_up(
        inputs=[side, {**side, "role": "egress"}],
        endpoints=ends,
        tunnels=case.lists.tunnels.assign(user=[EVIL, None]),
        links=case.lists.links.assign(why=[None, EVIL, None]),
        warnings=[EVIL],
        tool={**case.tool, "argv": ["vpnf", EVIL], "host": EVIL, "parameters": {EVIL: EVIL}},
    )


@pytest.fixture(scope="module")
def case(folder):
    return vf.correlate(folder / "ingress.pcap", folder / "egress.pcap")


def test_it_loads_nothing(case):
    _, page = page_of(case)
    for _, attributes in page.elements:
        assert not {"src", "srcset", "data", "action", "style"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("href", "#").startswith("#")
    assert not re.search(r"url\(|@import|https?:", "".join(page.inside["style"]))


def test_the_policy_allows_this_style_and_script_and_no_other(case):
    _, page = page_of(case)
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    code = page.inside["script"][-1]
    for rule, text in (("script-src", code), ("style-src", page.inside["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"


def test_the_same_case_gives_the_same_bytes(folder, tmp_path):
    case, again = (vf.correlate(folder / "ingress.pcap", folder / "egress.pcap") for _ in range(2))
    text = "".join(html_form(case))
    assert "".join(html_form(again)) == text
    (tmp_path / "case.json").write_text(case.to_json())
    assert "".join(html_form(vf.open_case(tmp_path / "case.json"))) == text


def test_markup_from_outside_stays_text():
    text, page = page_of(hostile())
    plain, _ = page_of(made_up())
    assert text.count("<script") == plain.count("<script") == 2
    assert "<img" not in text
    assert not {"\x1b", "\u202e"} & set(text)
    assert "\\u202e" not in text.partition('id="data">')[2].partition("</script>")[0].replace("\\\\u202e", "")
    data = data_of(page)
    assert any("<script>alert(1)" in each for each in data["texts"])
    assert data["tunnels"][0]["user"].startswith("</script>")
    assert html.escape(EVIL.partition("\u202e")[0]) in text


def test_paths_that_deceive_the_eye_are_spelled_out():
    text, page = page_of(made_up())
    assert "in\\x1b[2J[red]\\u202e.pcap" in text
    assert data_of(page)["files"]["egress"] == ["in\\x1b[2J[red]\\u202e.pcap"]
    assert HOSTILE not in text


def test_the_script_never_takes_text_for_markup():
    banned = (
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function|fetch\(|XMLHttp|import\("
    )
    for name in SCRIPTS:
        code = files("vpnforensics.report.html").joinpath(name).read_text()
        assert not re.search(banned, code), name


def test_every_word_of_the_script_is_among_the_strings():
    code = "".join(files("vpnforensics.report.html").joinpath(name).read_text() for name in SCRIPTS)
    used = set(re.findall(r"\bW\.(\w+)", code)) | {"linked", "undecided", "no_tunnel"}
    assert used == set(strings.SCRIPT)


def test_every_word_of_the_page_is_used():
    folder = files("vpnforensics.report.html")
    code = folder.joinpath("sections.py").read_text() + folder.joinpath("document.py").read_text()
    sections = {"summary", "inputs", "clocks", "timeline", "tunnels", "flows", "method", "limits", "glossary",
                "reproduce", "parameters", "policy"}  # fmt: skip
    used = set(re.findall(r"PAGE\[\"(\w+)\"\]", code)) | set(re.findall(r"PAGE\['(\w+)'\]", code)) | sections
    used |= {f"{name}_text" for name in ("clocks", "timeline", "tunnels", "flows")}
    assert used == set(strings.PAGE)


def test_the_summary_says_what_the_case_says(case):
    text, _ = page_of(case)
    links = case.links["verdict"].value_counts()
    assert f"{links['linked']} of {len(case.links)} flows are linked" in text
    assert f"{case.allowed_false_links:g} were allowed" in text
    for side in case.inputs:
        assert side["sha256"] in text
    for client in case.tunnels["client"].str.rpartition(":")[0]:
        assert client in text


def test_a_case_whose_captures_are_gone_says_so():
    def gone():
        raise SavedCaseError("in.pcap", "is gone")

    _, page = page_of(made_up(make_pairings=gone))
    data = data_of(page)
    assert data["packets"] == {}
    assert "is gone" in data["no_packets"]
    assert data["alignment"] is None


def test_an_empty_case():
    whole = made_up()
    lists = whole.lists
    text, page = page_of(
        made_up(
            endpoints=lists.endpoints.iloc[:0],
            links=lists.links.iloc[:0],
            make_stacks=lambda: {name: [] for name in ("device", "clock", "ip_id")},
            make_pools=lambda: [[], []],
            make_scores=lambda: lists.make_scores().iloc[:0],
            make_pairings=lambda: lists.make_pairings().iloc[:0],
        )
    )
    assert "0 of 0 flows" in text
    assert data_of(page)["flows"]["id"] == []
