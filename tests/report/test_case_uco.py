"""CASE/UCO JSON-LD: read by rdflib, and validated by case_validate with the ontology that it ships."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from uuid import UUID

import pytest

from tests.small_case import HOSTILE, made_up
from vpnforensics.report.case_uco import case_uco


def validated(path):
    program = Path(sys.executable).with_name("case_validate")
    return subprocess.run([program, path], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def hostile():
    tunnels = made_up().lists.tunnels.assign(user=['eve"\n@id\u202e\x1b<script>', None])
    return made_up(tunnels=tunnels, warnings=["a\x00b"])


@pytest.fixture(scope="module")
def graph(hostile):
    rdflib = pytest.importorskip("rdflib")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # rdflib's parser uses a class of its own that goes
        return rdflib.Graph().parse(data="".join(case_uco(hostile)), format="json-ld")


def test_it_conforms_to_the_ontology(hostile, tmp_path):
    pytest.importorskip("case_utils")
    path = tmp_path / "case.jsonld"
    path.write_text("".join(case_uco(hostile)))
    done = validated(path)  # no network needed: the newest ontology comes with the package
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["Validation", "Report", "Conforms:", "True"]
    assert "Warning" not in done.stderr  # as for a word of theirs that they do not have


def test_what_does_not_conform_is_found(hostile, tmp_path):
    pytest.importorskip("case_utils")
    path = tmp_path / "case.jsonld"
    path.write_text("".join(case_uco(hostile)).replace('"SHA256"', '["SHA256", "MD5"]'))
    done = validated(path)
    assert done.returncode != 0
    assert "Conforms: False" in done.stdout


def test_links_are_relationships_with_their_evidence(graph):
    found = graph.query(
        """PREFIX core: <https://ontology.unifiedcyberontology.org/uco/core/>
        PREFIX observable: <https://ontology.unifiedcyberontology.org/uco/observable/>
        PREFIX vpnf: <https://vpnforensics.org/ontology/>
        SELECT ?tunnel ?flow ?llr ?error ?from ?port WHERE {
            ?link a observable:ObservableRelationship ; core:source ?t ; core:target ?f ;
                  core:kindOfRelationship "Carried" ; core:hasFacet ?evidence .
            ?evidence vpnf:llr ?llr ; vpnf:error ?error ; vpnf:llrBounded true .
            ?t core:name ?tunnel ; core:hasFacet [ observable:src ?a ; observable:sourcePort ?port ] .
            ?a core:hasFacet [ observable:addressValue ?from ] .
            ?f core:name ?flow }"""
    )
    assert [tuple(value.toPython() for value in row) for row in found] == [
        ("tunnel t1", "flow f1", 3.5, 0.004, "198.51.100.7", 4000)
    ]


def test_the_action_names_tool_inputs_and_results(graph):
    found = graph.query(
        """PREFIX core: <https://ontology.unifiedcyberontology.org/uco/core/>
        PREFIX observable: <https://ontology.unifiedcyberontology.org/uco/observable/>
        PREFIX action: <https://ontology.unifiedcyberontology.org/uco/action/>
        PREFIX tool: <https://ontology.unifiedcyberontology.org/uco/tool/>
        PREFIX types: <https://ontology.unifiedcyberontology.org/uco/types/>
        PREFIX vpnf: <https://vpnforensics.org/ontology/>
        SELECT ?version ?role ?hash (COUNT(?link) AS ?links) WHERE {
            ?action action:instrument [ tool:version ?version ] ;
                    action:object [ core:object ?file ] ; action:result [ core:object ?link ] .
            ?file core:hasFacet [ observable:hash [ types:hashValue ?hash ] ] , [ vpnf:role ?role ] }
        GROUP BY ?version ?role ?hash ORDER BY ?role"""
    )
    rows = [(str(v), str(role), str(digest), int(n)) for v, role, digest, n in found]
    assert rows == [("0", "egress", "0" * 64, 1), ("0", "ingress", "0" * 64, 1)]


def test_hostile_text_stays_in_its_string(hostile):
    text = "".join(case_uco(hostile))
    assert not any(c in text for c in "\x1b\u202e\x00")
    nodes = json.loads(text)["@graph"]
    names = [node["@id"] for node in nodes]
    assert len(names) == len(set(names))
    assert all(UUID(name[-36:]) and name.startswith("kb:") for name in names)
    facets = [facet for node in nodes for facet in node.get("uco-core:hasFacet", [])]
    users = [facet["vpnf:user"] for facet in facets if "vpnf:user" in facet]
    assert users == ['eve"\n@id\u202e\x1b<script>']
    assert HOSTILE not in text


def test_a_case_of_no_link_and_no_file_is_still_one():
    case = made_up()
    none = case.lists.links.assign(tunnel=None, verdict="undecided")
    nowhere = [{**side, "files": []} for side in case.inputs]
    nodes = json.loads("".join(case_uco(made_up(links=none, inputs=nowhere))))["@graph"]
    assert not any("ObservableRelationship" in str(node["@type"]) for node in nodes)


def test_the_same_case_gives_the_same_bytes():
    assert "".join(case_uco(made_up())) == "".join(case_uco(made_up()))
