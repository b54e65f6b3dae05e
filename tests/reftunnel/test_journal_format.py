"""The two forms of a journal can be read at any time, and after anything."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel import journal_format
from vpnforensics.reftunnel.files import new_file, new_folder
from vpnforensics.reftunnel.journal_block import Block
from vpnforensics.reftunnel.journal_format import TALLY, JsonLinesWriter, ParquetWriter
from vpnforensics.reftunnel.journal_pipe import WriterProcess


def block(first: int, rows: int = 10) -> Block:
    made = Block.empty(rows)
    made.counter[:] = range(first, first + rows)
    made.peer_names, made.endpoint_names = ["peer"], ["192.0.2.1:1"]
    return made


def counters(folder) -> list[int]:
    return pq.read_table(folder)["counter"].to_pylist()


def test_a_file_of_parquet_is_closed_when_it_is_old_enough_and_readers_see_it_then(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(journal_format.time, "monotonic", lambda: clock[0])
    folder = tmp_path / "journal.parquet"
    writer = ParquetWriter(new_folder(folder, "the journal"))
    assert writer.due_s() is None
    writer.write(block(0))
    clock[0] += 4
    writer.write(block(10))
    assert writer.due_s() == 6
    writer.tick()
    assert not list(folder.glob("part-*"))
    clock[0] += 6
    writer.tick()
    assert counters(folder) == list(range(20))
    writer.write(block(20))
    assert counters(folder) == list(range(20))  # one that is being written is passed over
    writer.close()
    assert counters(folder) == list(range(30))
    assert sorted(path.name for path in folder.iterdir()) == ["part-000000.parquet", "part-000001.parquet"]


def test_a_file_of_parquet_is_closed_when_it_is_long_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_format, "PART_ROWS", 25)
    writer = ParquetWriter(new_folder(tmp_path / "journal.parquet", "the journal"))
    for first in range(0, 60, 10):
        writer.write(block(first))
    assert counters(tmp_path / "journal.parquet") == list(range(60))
    writer.close()


def test_the_writer_tells_how_many_rows_can_be_read(tmp_path, monkeypatch):
    told = []
    lines = JsonLinesWriter(new_file(tmp_path / "journal.jsonl", "the journal"), told.append)
    lines.write(block(0))
    lines.write(block(10))
    lines.close()
    assert told == [10, 20]
    told.clear()
    monkeypatch.setattr(journal_format, "PART_ROWS", 25)
    parts = ParquetWriter(new_folder(tmp_path / "journal.parquet", "the journal"), told.append)
    for first in range(0, 40, 10):
        parts.write(block(first))
    assert told == [30]
    parts.close()
    assert told == [30, 40]


@pytest.mark.parametrize(("suffix", "readable"), [("jsonl", 10), ("parquet", 0)])
def test_rows_that_nobody_can_read_are_counted_though_the_writer_had_them(tmp_path, suffix, readable):
    """The writer is killed: of JSON Lines what it wrote is there, a file of Parquet lacks its end."""
    writer = WriterProcess(tmp_path / f"journal.{suffix}")
    writer.send(block(0))
    (started,) = tmp_path.iterdir()
    deadline = time.monotonic() + 30
    while not (any(started.iterdir()) if started.is_dir() else TALLY.unpack(writer._tally) == (10,)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert writer.lost_rows == 0
    writer._process.kill()
    writer._process.wait()
    writer.send(block(10))
    assert writer.lost_rows == 20 - readable
    with pytest.raises(TunnelError, match=f"lacks {20 - readable} rows"):
        writer.close()


def test_the_writer_closes_an_old_file_though_no_row_comes_and_is_then_killed(tmp_path):
    folder = tmp_path / "journal.parquet"
    fd = new_folder(folder, "the journal")
    tally = os.memfd_create("tally")
    os.ftruncate(tally, TALLY.size)
    program = (
        "from vpnforensics.reftunnel import journal_format, journal_writer\n"
        "journal_format.PART_AGE_S = 0.3\n"
        f"journal_writer.main('.parquet', {fd}, {tally})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, pass_fds=(fd, tally))
    os.close(fd)
    os.close(tally)
    try:
        assert process.stdin is not None
        block(0).send(process.stdin.fileno())
        deadline = time.monotonic() + 30
        while not list(folder.glob("part-*")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
    assert counters(folder) == list(range(10))


def test_a_file_that_can_grow_no_more_ends_with_a_whole_line(tmp_path):
    path = tmp_path / "journal.jsonl"
    writer = JsonLinesWriter(new_file(path, "the journal"))
    writer.write(block(0))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            writer.write(block(10))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    writer.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["counter"] for row in rows] == list(range(10))
