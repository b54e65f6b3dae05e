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

from vpnforensics.reftunnel import journal_format
from vpnforensics.reftunnel.files import new_file, new_folder
from vpnforensics.reftunnel.journal_block import Block
from vpnforensics.reftunnel.journal_format import JsonLinesWriter, ParquetWriter


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


def test_the_writer_closes_an_old_file_though_no_row_comes_and_is_then_killed(tmp_path):
    folder = tmp_path / "journal.parquet"
    fd = new_folder(folder, "the journal")
    program = (
        "from vpnforensics.reftunnel import journal_format, journal_writer\n"
        "journal_format.PART_AGE_S = 0.3\n"
        f"journal_writer.main('.parquet', {fd})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, pass_fds=(fd,))
    os.close(fd)
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
