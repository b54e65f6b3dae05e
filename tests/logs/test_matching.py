from vpnforensics.logs.matching import Seen, match
from vpnforensics.logs.session import Session

S = 1_000_000_000
T0 = 1_700_000_000 * S
SEEN = [Seen(f"198.51.100.{n}:{4000 + n}", T0 + 10 * n * S, T0 + (10 * n + 60) * S) for n in range(1, 5)]


def logged(n, *, shift=0.0, end=True, endpoint="", begin=True):
    begin_ns, end_ns = SEEN[n].first_ns + int(shift * S), SEEN[n].last_ns + int(shift * S)
    return Session(
        "x", f"u{n}", endpoint or SEEN[n].endpoint, (), begin_ns if begin else None, end_ns if end else None,
        begin_ns, end_ns, None, None, "log", 1,
    )  # fmt: skip


def test_sessions_are_matched_by_endpoint_and_time():
    found = match([logged(n, shift=0.4) for n in (2, 0, 1)], SEEN)
    assert set(found.pairs) == {(0, 2), (1, 0), (2, 1)}
    assert (found.offset_ns, found.is_known) == (0, True)


def test_a_clock_that_is_off():
    for shift in (3600.3, -7.25, 45_000_000.0, -86_400.0):
        found = match([logged(n, shift=shift + 0.1 * n) for n in range(4)], SEEN)
        assert abs(found.offset_ns - shift * S) < S
        assert len(found.pairs) == 4


def test_an_earlier_session_of_the_same_endpoint_is_no_clock():
    """Three sessions fit as they are; one endpoint had another session an hour before."""
    found = match([logged(0), logged(1), logged(2), logged(0, shift=-3600)], SEEN)
    assert found.offset_ns == 0
    assert set(found.pairs) == {(0, 0), (1, 1), (2, 2)}


def test_sessions_that_were_up_before_need_no_clock():
    begun = [logged(n, shift=-5000 - 100 * n, end=False) for n in range(3)]
    found = match(begun, SEEN)
    assert set(found.pairs) == {(0, 0), (1, 1), (2, 2)}
    assert not found.is_known
    assert match([logged(0, begin=False)], SEEN).pairs == ((0, 0),)


def test_by_address_where_the_port_is_another_connections():
    sessions = [logged(n, endpoint=f"198.51.100.{n + 1}:655") for n in range(4)]
    assert set(match(sessions, SEEN).pairs) == {(n, n) for n in range(4)}
    sessions = [logged(n, endpoint=f"198.51.100.{n + 1}") for n in range(4)]
    assert set(match(sessions, SEEN).pairs) == {(n, n) for n in range(4)}


def test_nothing_to_match():
    assert match([], SEEN).pairs == ()
    assert match([logged(0, endpoint="203.0.113.9:1")], SEEN).pairs == ()
    assert match([logged(0)], []).pairs == ()


def test_several_tunnels_of_one_address_are_told_apart_by_their_begin_or_not_at_all():
    seen = [Seen(f"198.51.100.1:{4000 + n}", T0 + 30 * n * S, T0 + 3600 * S) for n in range(3)]
    begun = [
        Session("x", f"u{n}", "198.51.100.1", (), t.first_ns, None, t.first_ns, t.last_ns, None, None, "l", 1)
        for n, t in enumerate(seen)
    ]
    found = match(begun, seen)
    assert set(found.pairs) == {(0, 0), (1, 1), (2, 2)}
    assert found.shared == ()
    before = Session("x", "u", "198.51.100.1", (), T0 - 900 * S, None, T0, T0, None, None, "l", 1)
    found = match([before, *begun], seen)
    assert found.shared == (0,)
    assert set(found.pairs) == {(1, 0), (2, 1), (3, 2)}
