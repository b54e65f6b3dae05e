import pandas as pd

from vpnforensics.report.naming import looked_up_line, surest_names


def flows(*named):
    rows = [[{"name": name, "source": source, "flow": "f1"} for name, source in told] for told in named]
    return pd.DataFrame({"id": [f"f{n + 1}" for n in range(len(rows))], "names": rows})


def test_the_flows_own_words_stand_as_they_are_and_others_are_marked():
    names = surest_names(
        flows(
            [("own.example", "sni"), ("other.example", "dns")],
            [("looked.example", "dns")],
            [("elsewhere.example", "dns_elsewhere")],
            [],
        )
    )
    assert names == {"f1": "own.example", "f2": "≈looked.example", "f3": "≈elsewhere.example"}
    (line,) = looked_up_line(names)
    assert line.plain.startswith("≈ a name that an earlier lookup gave")
    assert looked_up_line({"f1": "own.example"}) == []


def test_of_a_long_name_the_end_stands():
    names = surest_names(flows([("a" * 40 + ".site.example", "http")]))
    assert names["f1"] == "…" + "a" * 14 + ".site.example"
    assert len(names["f1"]) == 28
