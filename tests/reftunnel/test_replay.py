from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.reftunnel.replay import WINDOW, ReplayWindow


class SlowWindow:
    """The definition: all counters ever seen, and the greatest of them."""

    def __init__(self):
        self.seen = set()

    def accept(self, counter):
        greatest = max(self.seen, default=-1)
        if counter in self.seen or greatest + 1 - counter > WINDOW:
            return False
        self.seen.add(counter)
        return True


STEPS = st.lists(
    st.one_of(
        st.integers(-200, 200),
        st.integers(-WINDOW - 70, WINDOW + 70),
        st.sampled_from([WINDOW, WINDOW + 1, -WINDOW, -WINDOW + 1, 64, -64, 8192, 10**6]),
    ),
    max_size=150,
)


@given(st.integers(0, 20_000), STEPS)
def test_agrees_with_the_definition(start, steps):
    fast, slow = ReplayWindow(), SlowWindow()
    at = start
    for step in [0, *steps]:
        counter = max(0, at + step)
        assert fast.accept(counter) == slow.accept(counter), counter
        at = max(at, counter)


def test_in_order_counters_are_each_accepted_once():
    window = ReplayWindow()
    assert all(window.accept(counter) for counter in range(20_000))
    assert not any(window.accept(counter) for counter in range(20_000))


def test_edges_of_the_counter():
    window = ReplayWindow()
    assert window.accept(0)
    assert not window.accept(0)
    assert window.accept(2**64 - 1)
    assert not window.accept(2**64 - 1)
    assert window.accept(2**64 - WINDOW)
    assert not window.accept(2**64 - WINDOW - 1)
    assert not window.accept(0)
