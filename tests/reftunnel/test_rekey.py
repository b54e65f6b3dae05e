"""A rekey in a real run: no packet lost across 120 s."""

import subprocess
import time

import pytest

from .longtalk import PAIRS, PINGS

pytestmark = pytest.mark.root


@pytest.mark.parametrize("pair", PAIRS)
def test_nothing_is_lost_across_a_rekey(long_talk, pair):
    assert long_talk.received(pair) == PINGS
    number = PAIRS.index(pair)
    if "our server" in pair:
        age_s = long_talk.lab.show(f"s{number}")["peers"][0]["latest_handshake_age_s"]
    else:
        age_s = long_talk.lab.show(f"c{number}")["peers"][0]["latest_handshake_age_s"]
    # The first handshake is more than 130 s old: this is the second one.
    assert age_s < 120


def test_the_other_side_saw_the_same_handshake(long_talk):
    interface = long_talk.lab.interface("s0")
    out = long_talk.lab.run("s0", "wg", "show", interface, "latest-handshakes")
    theirs_s = time.time() - int(out.split()[1])
    ours_s = long_talk.lab.show("c0")["peers"][0]["latest_handshake_age_s"]
    assert abs(theirs_s - ours_s) < 3
    assert isinstance(long_talk.pings[PAIRS[0]], subprocess.Popen)
