from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.report.html.markup import element, facts, listed, plain_table


def test_only_markup_is_markup():
    inner = element("b", "1 < 2 & 'x' \"y\"")
    assert inner == "<b>1 &lt; 2 &amp; &#x27;x&#x27; &quot;y&quot;</b>"
    assert element("p", inner, "<b>", class_="a") == f'<p class="a">{inner}&lt;b&gt;</p>'
    assert element("p", title=None, aria_label='"><i>') == '<p aria-label="&quot;&gt;&lt;i&gt;"></p>'


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_no_text_gets_out_of_its_place(text: str):
    made = element("p", text, title=text)
    assert made.count("<") == made.count(">") == 2
    assert made.count('"') == 2
    assert not {"\x00", "\x1b", "\u202e"} & set(made)
    made.encode()


def test_lists_and_tables_hold_all_they_are_given():
    assert listed(["a", "b"]) == "<ul><li>a</li><li>b</li></ul>"
    assert facts([("a", "b")]) == "<dl><dt>a</dt><dd>b</dd></dl>"
    table = plain_table("of what", ["x", "y"], [["1", "<2>"]])
    assert "<caption>of what</caption>" in table
    assert '<th scope="col">y</th>' in table
    assert '<th scope="row">1</th><td>&lt;2&gt;</td>' in table
