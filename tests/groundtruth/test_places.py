"""The places of a scenario."""

from __future__ import annotations

import dataclasses

from vpnforensics.groundtruth.lab.topology import internet_paths
from vpnforensics.groundtruth.places import OBJECTS, draw_places
from vpnforensics.groundtruth.scenario import Range, loads
from vpnforensics.groundtruth.simulate.from_scenario import specification

TEXT = """
seed: 4
vpn: {kind: wireguard}
clients: [{count: 3, access: {delay_ms: [5, 9], jitter_ms: 0.5, rate_mbit: [10, 20], up_rate_mbit: 3}}]
internet: {web_servers: 5, delay_ms: [2, 3], jitter_ms: [0.1, 0.2], rate_mbit: 50}
"""


def test_places_depend_on_the_seed_alone():
    one = draw_places(loads(TEXT))
    assert draw_places(loads(TEXT)) == one
    assert draw_places(loads(TEXT, seed=5)).access != one.access
    assert draw_places(loads(TEXT.replace("wireguard", "tinc"))) == one


def test_lines_are_drawn_within_their_ranges():
    places = draw_places(loads(TEXT))
    assert len(places.access) == 3
    assert len({way.delay_ms for way in places.access}) == 3
    for way in places.access:
        assert 5 <= way.delay_ms <= 9
        assert 10 <= way.down_mbit <= 20
        assert (way.jitter_ms, way.up_mbit) == (0.5, 3)
    assert len(places.hosts) == 2 + 5
    for way in places.hosts:
        assert 2 <= way.delay_ms <= 3
        assert 0.1 <= way.jitter_ms <= 0.2
        assert (way.up_mbit, way.down_mbit) == (50, 50)


def test_every_host_of_a_site_has_an_address_and_every_object_a_size():
    for servers in (1, 5, 40):
        scenario = loads(TEXT.replace("web_servers: 5", f"web_servers: {servers}"))
        places = draw_places(scenario)
        assert set(places.names.values()) <= set(range(servers))
        assert len(places.names) > 40
        assert len(places.object_bytes) == OBJECTS
        for site in places.sites:
            assert set(site.hosts) <= set(places.names)
            assert max(site.objects) < OBJECTS


def test_lab_and_simulator_have_the_same_lines():
    scenario = loads(TEXT)
    places = draw_places(scenario)
    spec = specification(scenario)
    assert spec.places == places
    paths = [(client.path.delay_s, client.path.up_mbit, client.path.down_mbit) for client in spec.clients]
    assert paths == [(way.delay_ms / 1e3, way.up_mbit, way.down_mbit) for way in places.access]
    lab = internet_paths(scenario.internet, places, tuple(f"192.0.2.{60 + i}" for i in range(5)))
    assert [path.up.delay_ms for path in lab] == [way.delay_ms for way in places.hosts]
    assert all(path.up == path.down for path in lab)
    fixed = dataclasses.replace(scenario.internet, delay_ms=Range(1.0, 1.0))
    assert {way.delay_ms for way in draw_places(dataclasses.replace(scenario, internet=fixed)).hosts} == {1.0}
