"""The figures this project promises, on two recordings.

`tests/recordings` holds two lab recordings (their scenarios beside them), 66 s, three clients each. Truth
comes from the inner side of the tunnels. They were made for judging, but rules came from wrong links on them:
they hold what was reached; judge a change by recordings made after it (``benchmarks/truth.py FOLDER``).
"""

from __future__ import annotations

import pytest

import vpnforensics as vf
from tests.truth import OFFSET_S, RECORDINGS, Recording, degrade, load, tally, without_client


@pytest.fixture(scope="module", params=["wireguard", "openvpn-udp"])
def recording(request: pytest.FixtureRequest) -> Recording:
    return load(RECORDINGS / request.param)


def test_as_recorded(recording: Recording) -> None:
    case = vf.correlate(recording.ingress, recording.egress)
    found = tally(recording, case)
    print(found)
    assert found.long >= 100
    assert found.short >= 100
    assert found.wrong == 0
    assert found.long_linked == found.long
    assert found.short_share >= 0.95
    assert case.expected_false_links <= 0.01


@pytest.mark.parametrize(("jitter_ms", "promised"), [(0.2, 0.99), (2.0, 0.98), (10.0, 0.95)])
def test_other_clock_loss_and_jitter(recording: Recording, jitter_ms: float, promised: float) -> None:
    damaged = degrade(recording, jitter_s=jitter_ms / 1e3, offset_s=OFFSET_S)
    case = vf.correlate(damaged.ingress, damaged.egress)
    found = tally(damaged, case, offset_s=OFFSET_S)
    print(found, case.alignment)
    assert found.wrong == 0
    assert found.long_share >= promised


def test_a_tunnel_missing_from_the_ingress_capture(recording: Recording) -> None:
    whole = tally(recording, vf.correlate(recording.ingress, recording.egress))
    for client in sorted({flow["client"] for flow in recording.truth["flows"]}):
        open_set = without_client(recording, client)
        case = vf.correlate(open_set.ingress, open_set.egress)
        gone = tally(recording, case, only_client=client)
        rest = tally(recording, case)
        print(client, gone, rest)
        assert rest.wrong == 0
        assert gone.long_linked == gone.short_linked == 0
        assert rest.long_linked == whole.long_linked - gone.long
        # The others stay; of the shortest, a few more become undecided among fewer comparisons.
        assert rest.short_linked >= 0.9 * (whole.short_linked - gone.short)
