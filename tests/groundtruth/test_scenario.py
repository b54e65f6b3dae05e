from __future__ import annotations

import contextlib
import json
import random
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.scenario import Countermeasures, Range, Side, load, loads, schema

SMALL = "vpn: {kind: wireguard}\nclients: [{}]\n"


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(schema())


def test_scenarios_that_documents_show_are_scenarios():
    pages = (Path(__file__).parents[2] / "docs").rglob("*.md")
    shown = [text for page in pages for text in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)]
    assert [loads(text, name="shown").vpn.kind for text in shown] == ["wireguard"]


def test_defaults():
    scenario = loads(SMALL, name="some/two-words.yaml")
    assert scenario.name == "two-words"
    assert (scenario.duration_s, scenario.seed) == (60.0, 1)
    (client,) = scenario.clients
    assert client.name == "client-1"
    assert client.devices[0].name == "client-1"
    assert not client.routed
    assert client.devices[0].traffic == ("browse", "dns")
    assert scenario.vpn.countermeasures == Countermeasures()
    assert scenario.capture.ingress == Side()


def test_counts_names_devices_and_personalities():
    scenario = loads("""
vpn: {kind: tinc, port: 700, mtu: 1300, countermeasures: {padding: block}}
clients:
  - {count: 2, traffic: [idle]}
  - name: home
    stack: {personality: windows}
    devices:
      - {stack: {ip_id: zero}, traffic: [ssh, ssh]}
      - {name: tv, stack: {personality: linux-legacy, clock_ppm: -80}}
  - {name: x, count: 2, access: {delay_ms: [1, 5], loss: 0.5}, start_s: 3}
""")
    assert [c.name for c in scenario.clients] == ["client-1", "client-2", "home", "x-1", "x-2"]
    home = scenario.clients[2]
    assert home.routed
    first, tv = home.devices
    assert (first.name, first.traffic) == ("home-device-1", ("ssh", "ssh"))
    # What a device does not say it takes from the tunnel's stack; a personality of its own starts afresh.
    assert (first.stack.personality, first.stack.ip_id, first.stack.ttl) == ("windows", "zero", 128)
    assert (tv.name, tv.stack.timestamps, tv.stack.ttl, tv.stack.clock_ppm) == (
        "home-tv",
        "global",
        64,
        -80.0,
    )
    assert scenario.clients[3].access.delay_ms == Range(1.0, 5.0)
    assert scenario.clients[3].start_s == Range(3.0, 3.0)
    assert scenario.vpn.countermeasures.padding == "block"
    json.dumps(scenario.as_dict())


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("vpn:\n  kind: wiregard\nclients: [{}]\n", 2, "vpn.kind: 'wiregard' is not one of wireguard,"),
        ("vpn:\n  kind: tinc\n  prot: 3\nclients: [{}]\n", 3, "vpn.prot: unknown key; known here: "),
        ("vpn: {kind: tinc}\nclient: [{}]\n", 2, "client: unknown key"),
        ("seed: 1\nclients: [{}]\n", 1, "the key `vpn` is missing"),
        ("vpn: {kind: tinc}\nclients:\n- access:\n    delay_ms: [5, 1]\n", 4, "runs backwards"),
        (
            "vpn: {kind: tinc}\nclients:\n- access:\n    delay_ms: -1\n",
            4,
            "clients[0].access.delay_ms: -1 is",
        ),
        ("vpn: {kind: tinc}\nclients:\n- traffic: [browse]\n  devices: [{}]\n", 3, "stands beside `devices`"),
        ("vpn: {kind: tinc}\nclients:\n- name: a\n- name: a\n", 4, "'a' stands twice"),
        ("vpn: {kind: tinc}\nvpn: {kind: tinc}\nclients: [{}]\n", 2, "vpn: the key stands twice"),
        ("vpn: {kind: tinc}\nclients: []\n", 2, "clients: "),
        ("vpn: {kind: tinc}\nduration_s: 0\nclients: [{}]\n", 2, "duration_s: "),
        (
            SMALL + "capture:\n  egress:\n    without: [zed]\n",
            5,
            "there is no client 'zed'; there are client-1",
        ),
        (SMALL + "capture:\n  single: true\n  egress: {linktype: raw}\n", 4, "one file has one link type"),
        ("vpn: {kind: [\n", 2, "not YAML"),
        ("- 1\n", 1, "a scenario is a mapping"),
        ("", 1, "a scenario is a mapping"),
        ("a: \x07\n", 1, "not YAML"),
    ],
)
def test_errors_name_file_line_and_key(text, line, says):
    with pytest.raises(ScenarioError) as caught:
        loads(text, name="case.yaml")
    assert str(caught.value).startswith(f"case.yaml:{line}: ")
    assert says in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(ScenarioError, match="cannot be read"):
        load(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScenarioError, match="cannot be read"):
        load(tmp_path / "binary.yaml")


def test_the_seed_can_be_replaced(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("seed: 7\n" + SMALL)
    assert load(path).seed == 7
    assert load(path, seed=9).seed == 9


def test_a_fixed_range_uses_a_draw_too():
    one, two = random.Random(1), random.Random(1)
    assert Range(3.0, 3.0).draw(one) == 3.0
    Range(1.0, 2.0).draw(two)
    assert one.random() == two.random()


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5) | st.floats(),
        lambda t: (
            st.lists(t, max_size=3)
            | st.dictionaries(
                st.sampled_from(["vpn", "kind", "clients", "access", "capture", "seed"]), t, max_size=4
            )
        ),
    )
)
@settings(max_examples=150)
def test_any_document_gives_a_scenario_or_one_error(document):
    with contextlib.suppress(ScenarioError):
        loads(yaml.safe_dump(document))


def test_every_recipe_loads():
    recipes = sorted((Path(__file__).parents[2] / "samples").glob("**/*.yaml"))
    for recipe in recipes:
        assert load(recipe).description, f"{recipe} says nothing about itself"


def test_a_name_that_is_no_unicode_is_spelled(tmp_path):
    path = tmp_path / "x\udcff.yaml"
    path.write_text('description: "a \\ud800 b"\nvpn: {kind: wireguard}\nclients: [{}]\n')
    found = load(path)
    assert (found.name, found.description) == ("x\\udcff", "a \\ud800 b")
