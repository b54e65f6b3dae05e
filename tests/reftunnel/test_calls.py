"""The share of the time that calls get."""

import select
import socket

import pytest

from vpnforensics.reftunnel.calls import SHARE, SLICE_S, Calls
from vpnforensics.reftunnel.timers import NEVER


class Machine:
    """A clock that goes on by what each call costs, and a flood that never ends."""

    def __init__(self, cost_s):
        self.now, self.cost_s, self.taken = 0.0, cost_s, 0
        self.waiting = float("inf")
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.calls = Calls(lambda: self.now, lambda: self.now)
        self.poll = select.epoll()
        self.calls.attach(self.poll)
        self.calls.add(self.sock.fileno(), self.take)

    def take(self, now):
        if self.taken >= self.waiting:
            return False
        self.taken += 1
        self.now += self.cost_s
        return True

    def arrives(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"call", self.sock.getsockname())

    def turn(self):
        for fd, _ in self.poll.poll(0):
            self.calls.ready(fd)
        self.calls.work()

    def close(self):
        self.sock.close()
        self.poll.close()


@pytest.mark.parametrize("cost_s", [10e-6, 300e-6])
def test_a_flood_gets_its_share_and_no_more_in_slices(cost_s):
    machine = Machine(cost_s)
    machine.arrives()
    while machine.now < 1.0:
        before = machine.now
        machine.turn()
        assert machine.now - before <= SLICE_S + cost_s
        machine.now += 20e-6  # what else a turn of the loop costs
    assert machine.taken * cost_s == pytest.approx(SHARE, abs=0.03)
    machine.close()


def test_a_single_call_is_taken_at_once_and_the_next_after_its_pause():
    machine = Machine(300e-6)
    machine.waiting = 1
    machine.turn()
    assert (machine.taken, machine.calls.wake_at()) == (0, NEVER)
    machine.arrives()
    machine.turn()
    assert machine.taken == 1
    machine.turn()  # what is still in the socket is not reported during the pause
    assert machine.taken == 1
    machine.now = machine.calls.wake_at()
    machine.waiting = 2
    machine.turn()
    machine.turn()
    assert machine.taken == 2
    machine.close()
