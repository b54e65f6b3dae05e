import json

from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.report.escaping import csv_text, json_text, visible


def test_terminal_controls_are_spelled_out():
    assert visible("a\x1b[31mb\x9bc\u202ed\udcffe") == "a\\x1b[31mb\\x9bc\\u202ed\\xffe"


def test_ordinary_text_stays():
    assert visible("192.0.2.1:53 → 16⌈L/16⌉ µs") == "192.0.2.1:53 → 16⌈L/16⌉ µs"


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_nothing_that_drives_a_terminal_gets_through(text: str):
    assert all(c.isprintable() or c.isspace() or ord(c) > 0x9F for c in visible(text))
    assert not {"\n", "\r", "\x1b", "\x9b", "\u202e"} & set(visible(text))
    visible(text).encode()


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_json_means_the_same_and_can_be_written(text: str):
    written = json_text({"path": text})
    (read,) = json.loads(written).values()
    read.encode()  # any reader takes it: it holds no half of a surrogate pair
    assert read == "".join(visible(c) if "\ud800" <= c <= "\udfff" else c for c in text)
    written.encode()
    assert not {"\x1b", "\x9b", "\u202e"} & set(written)


def test_formulas_are_disarmed():
    assert [csv_text(t) for t in ("=1", "+1", "-1", "@x", "\t=1", "f1", "")] == [
        "'=1", "'+1", "'-1", "'@x", "'\\x09=1", "f1", "",
    ]  # fmt: skip
