"""Windows over stored bytes: whole, in pieces, failing, and given up half way."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from vpnforensics.capture.stream import CARRY_BYTES, CaptureStream
from vpnforensics.errors import CaptureError

DATA = bytes(range(256)) * 40


def joined(path: Path, window_bytes: int, kept: int) -> bytes:
    """The bytes as consumed when the last ``kept`` of each window are asked for again."""
    out = b""
    with CaptureStream(str(path), window_bytes) as stream:
        window = stream.first_window()
        while True:
            assert window.offset == len(out)
            pos = max(window.start, window.end - kept)
            rest = window.buf[pos : window.end].tobytes()
            out += window.buf[window.start : pos].tobytes()  # before its buffer is filled again
            following = stream.next_window(window, pos)
            if following is None:
                return out + rest
            window = following


@pytest.mark.parametrize("window_bytes", [1, 7, 1000, 10_239, 10_240, 10_241, 1 << 20])
@pytest.mark.parametrize("kept", [0, 1, 100, 5000])
def test_what_is_kept_comes_again(tmp_path: Path, window_bytes: int, kept: int) -> None:
    (tmp_path / "a").write_bytes(DATA)
    assert joined(tmp_path / "a", window_bytes, kept) == DATA


def test_drain_counts_what_it_does_not_look_at(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    for window_bytes in (100, 1 << 20):
        with CaptureStream(str(tmp_path / "a"), window_bytes) as stream:
            window = stream.first_window()
            assert stream.drain(window, window.start + 11) == len(DATA) - 11


def test_a_file_that_grows_while_it_is_read_is_read_to_its_new_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(DATA)
    with CaptureStream(str(path)) as stream:
        with path.open("ab") as file:
            file.write(b"more" * 9)
        window = stream.first_window()
        assert stream.drain(window, window.start) == len(DATA) + 36


def test_a_file_given_up_half_way_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    before = threading.active_count()
    with CaptureStream(str(tmp_path / "a"), 100) as stream:
        window = stream.first_window()
        stream.next_window(window, window.end)
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError("too much")])
def test_what_fails_while_reading_ahead_is_told(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(DATA)
    with CaptureStream(str(tmp_path / "a"), 100) as stream:
        window = stream.first_window()

        def fail(_: memoryview) -> int:
            raise error

        monkeypatch.setattr(stream._stored, "readinto", fail)
        with pytest.raises((CaptureError, MemoryError), match=r"cannot be read: Input|too much"):
            stream.drain(window, window.end)


def test_closed_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CaptureError, match="standard input is closed"):
        CaptureStream("-")


def test_the_carry_holds_the_longest_record() -> None:
    from vpnforensics.capture._kernels import MAX_BLOCK_BYTES

    assert CARRY_BYTES >= MAX_BLOCK_BYTES
