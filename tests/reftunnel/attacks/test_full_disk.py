"""A disk that is full stops no traffic, and `show` tells."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..netlab import cable, two_configs

pytestmark = pytest.mark.needs("wireguard")


@contextlib.contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", folder], check=True, timeout=10
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True, timeout=10)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk(tmp_path / "small", "256k") as folder:
        yield folder


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    with disk(tmp_path / "tiny", "4k") as folder:
        yield folder


def test_a_full_disk_at_the_usage_log_and_the_journals_stops_no_traffic(netlab, small_disk, tiny_disk):
    """JSON Lines at the server; at the client Parquet, of which nothing can be read without its end."""
    cable(netlab)
    client, server, _, _ = two_configs()
    lines = f"[Interface]\nUsageLog = {small_disk}/usage\nJournal = {small_disk}/journal.jsonl"
    process = netlab.ours("s", server.replace("[Interface]", lines))
    with contextlib.suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))
    of_client = client.replace("[Interface]", f"[Interface]\nJournal = {tiny_disk}/journal.parquet")
    process_of_client = netlab.ours("c", of_client)
    assert netlab.ping("c", "10.77.0.1") == 3
    # The journals' writers try once a second, and fail.
    assert netlab.ping("c", "10.77.0.1", 297, 0.005, 1) == 297
    netlab.wait(lambda: netlab.show("s")["trouble"]["journal_rows"] > 0)
    netlab.wait(lambda: netlab.show("c")["trouble"]["journal_rows"] >= 600)
    state = netlab.show("s")
    assert state["trouble"]["usage_log_lines"] == 1  # the connect
    (small_disk / "ballast").unlink()
    assert netlab.ping("c", "10.77.0.1") == 3
    # A journal that is not whole is an error at the end, and not before.
    assert netlab.end(process) == 1
    assert netlab.end(process_of_client) == 1
    assert not list(tiny_disk.glob("*/part-*"))
    assert (small_disk / "usage").read_text().count("disconnect") == 1
