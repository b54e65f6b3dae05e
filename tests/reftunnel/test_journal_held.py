"""Rows of messages on TCP wait until it is known what became of them."""

from __future__ import annotations

import errno
import socket

from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.journal_block import UNACKED, UNSENT, Run
from vpnforensics.reftunnel.journal_held import HeldRows
from vpnforensics.reftunnel.tcp_link import FRAME_BYTES, Link


class Told:
    """A queue that says what it is told to."""

    def __init__(self) -> None:
        self.is_closed, self.taken_bytes, self.sent, self.acked = False, 0, 0, 0

    def sent_bytes(self) -> int:
        return self.sent

    def acked_bytes(self) -> int:
        return self.acked


def test_rows_are_written_in_order_as_their_messages_are_acknowledged():
    queue, held, written = Told(), HeldRows(), []
    for end, name in ((102, "a"), (204, "b")):
        held.add(Run(1, 0, {}, queue, end), [100], lambda kinds, name=name: written.append((name, kinds)))
    held.settle()
    queue.sent, queue.acked = 204, 101
    held.settle()
    assert written == []
    queue.acked = 102
    held.settle()
    assert written == [("a", {})]
    queue.acked = 203
    held.settle()
    queue.is_closed = True
    held.settle()
    assert written == [("a", {}), ("b", {0: UNACKED})]
    assert not held


@given(
    st.lists(st.tuples(st.integers(1, 50), st.booleans()), min_size=1, max_size=20),
    st.integers(0, 100),
    st.integers(0, 300),
    st.integers(0, 300),
)
def test_of_a_connection_that_ends_each_message_has_the_kind_of_its_last_byte(messages, before, a, b):
    queue, held, written = Told(), HeldRows(), []
    queue.acked, queue.sent = sorted((a, b))
    sizes = [size for size, _ in messages]
    refused = {number: errno.EAGAIN for number, (_, is_refused) in enumerate(messages) if is_refused}
    expected, end = dict.fromkeys(refused, UNSENT), before
    for number, size in enumerate(sizes):
        if number not in refused:
            end += size + FRAME_BYTES
            if end > queue.acked:
                expected[number] = UNACKED if end <= queue.sent else UNSENT
    queue.taken_bytes, queue.is_closed = end, True
    held.add(Run(len(sizes), 0, refused, queue, end), sizes, written.append)
    held.settle()
    assert written == [expected]


def test_a_connection_knows_what_the_other_end_has():
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = socket.create_connection(server.getsockname())
        other, _ = server.accept()
        link = Link(sock, Endpoint("127.0.0.1", 1, "tcp"), connected=True)
        sock.setblocking(False)
        with other:
            while True:
                try:
                    link.taken_bytes += sock.send(bytes(100_000))
                except BlockingIOError:
                    break
            sent, acked = link.sent_bytes(), link.acked_bytes()
            assert 0 < acked <= sent < link.taken_bytes
            link.close()
            assert (link.sent_bytes(), link.is_closed) == (sent, True)
            got = 0
            try:
                while part := other.recv(1 << 20):
                    got += len(part)
            except ConnectionResetError:
                pass  # and what was not sent then never is
            assert acked <= got <= sent
