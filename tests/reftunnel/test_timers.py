from vpnforensics.reftunnel.timers import NEVER, Due, PeerTimers


def no_jitter():
    return 0.0


def test_silence_has_no_deadline():
    timers = PeerTimers()
    assert timers.earliest == NEVER
    assert timers.due(10**9) == []


def test_data_received_is_acknowledged_after_ten_seconds_unless_something_was_sent():
    timers = PeerTimers()
    timers.data_received(0.0)
    timers.data_received(5.0)
    assert timers.due(9.9) == []
    assert timers.due(10.0) == [Due.KEEPALIVE]
    assert timers.due(30.0) == []
    timers.data_received(40.0)
    timers.authentic_sent(41.0)
    assert timers.earliest == NEVER


def test_data_sent_without_answer_asks_for_a_handshake():
    timers = PeerTimers()
    timers.data_sent(0.0, no_jitter)
    timers.data_sent(10.0, no_jitter)
    assert timers.due(15.0) == [Due.REKEY]
    timers.data_sent(20.0, no_jitter)
    timers.authentic_received(21.0)
    assert timers.earliest == NEVER


def test_persistent_keepalive_follows_the_last_traversal():
    timers = PeerTimers(25.0)
    timers.authentic_received(0.0)
    timers.authentic_sent(10.0)
    assert timers.due(34.9) == []
    assert timers.due(35.0) == [Due.PERSISTENT]


def test_a_handshake_stops_retransmission():
    timers = PeerTimers()
    timers.initiation_sent(0.0, 0.25)
    assert timers.earliest == 5.25
    timers.attempts = 3
    timers.handshake_done()
    assert (timers.earliest, timers.attempts) == (NEVER, 0)


def test_keys_are_forgotten_after_three_lifetimes():
    timers = PeerTimers()
    timers.session_derived(0.0)
    timers.gave_up(100.0)
    assert timers.due(540.0) == [Due.FORGET]
    timers.gave_up(600.0)
    assert timers.due(1140.0) == [Due.FORGET]
