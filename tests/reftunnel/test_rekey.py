"""A rekey in a real run: no packet lost across 120 s."""

import pytest

from .longtalk import PAIRS

pytestmark = pytest.mark.needs("wireguard")


@pytest.mark.parametrize("pair", PAIRS)
def test_nothing_is_lost_across_a_rekey(long_talk, pair):
    assert long_talk.pings[pair].lost() == []
    number = PAIRS.index(pair)
    side = f"s{number}" if "our server" in pair else f"c{number}"
    latest_ns = long_talk.lab.show(side)["peers"][0]["latest_handshake_ns"]
    # The first handshake was within seconds of the start: this is a second one.
    assert (latest_ns - long_talk.started_ns) / 1e9 > 110


def test_the_other_side_saw_the_same_handshake(long_talk):
    interface = long_talk.lab.interface("s0")
    out = long_talk.lab.run("s0", "wg", "show", interface, "latest-handshakes")
    ours_s = long_talk.lab.show("c0")["peers"][0]["latest_handshake_ns"] / 1e9
    assert abs(int(out.split()[1]) - ours_s) < 3
