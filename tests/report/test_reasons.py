"""Why flows were not linked: each verdict's reason, and that it is of that flow."""

import pytest

import vpnforensics as vf
from vpnforensics import samples


def why(case):
    return {row.flow: (row.verdict, row.why) for row in case.links.itertuples()}


@pytest.fixture(scope="module")
def strangers():
    sample = samples.load("open-set")
    return vf.correlate(sample.ingress, sample.egress)


def test_linked_flows_have_none_and_all_others_one(strangers):
    for verdict, reason in why(strangers).values():
        assert (reason is None or reason != reason) == (verdict == "linked")


def test_a_denied_flow_says_how_seldom_so_little_is_found(strangers):
    denied = [reason for verdict, reason in why(strangers).values() if verdict == "no_tunnel"]
    assert denied
    for reason in denied:
        assert reason.startswith("had one of the 2 tunnels there carried it, so little of it would be found")
        assert float(reason.rpartition(" ")[2]) < strangers.tool["policy"]["no_tunnel_chance"]


def test_a_flow_at_whose_time_no_tunnel_was_there_says_so():
    sample = samples.load("cut-file")
    case = vf.correlate(sample.ingress, sample.egress)
    offset_ns, s = case.alignment.offset_ns, 10**9
    before = case.flows["last_ns"] < case.tunnels["first_ns"].min() + offset_ns - 2 * s
    after = case.flows["first_ns"] > case.tunnels["last_ns"].max() + offset_ns + 2 * s
    alone = case.flows[before | after]["id"]
    assert len(alone)
    assert {why(case)[flow] for flow in alone} == {("undecided", "no tunnel was there at its time")}


def test_without_clocks_or_engines_that_is_the_reason():
    ingress = samples.load("wireguard").ingress
    apart = vf.correlate(ingress, samples.load("openvpn-udp").ingress)
    assert all(reason.startswith("the clocks are not aligned") for _, reason in why(apart).values())
    sample = samples.load("wireguard")
    silent = vf.correlate(sample.ingress, sample.egress, engines="timestamps")
    assert {reason for _, reason in why(silent).values()} <= {
        "no engine had anything to go on",
        "no tunnel had packets of its lengths near its times, and it is too short to say that none carried"
        " it",
    }  # fmt: skip
