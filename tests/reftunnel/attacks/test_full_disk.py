"""A disk that is full stops no traffic, and `show` tells."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..netlab import cable, two_configs

pytestmark = pytest.mark.needs("wireguard")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", folder], check=True, timeout=10
    )
    yield folder
    subprocess.run(["umount", "-l", folder], check=True, timeout=10)


def test_a_full_disk_at_the_usage_log_and_the_journal_stops_no_traffic(netlab, small_disk):
    cable(netlab)
    client, server, _, _ = two_configs()
    lines = f"[Interface]\nUsageLog = {small_disk}/usage\nJournal = {small_disk}/journal.jsonl"
    process = netlab.ours("s", server.replace("[Interface]", lines))
    with contextlib.suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))
    netlab.ours("c", client)
    assert netlab.ping("c", "10.77.0.1") == 3
    # The journal's writer tries once a second, fails, and is missed when the next rows come.
    netlab.wait(lambda: netlab.ping("c", "10.77.0.1", 1) and netlab.show("s")["trouble"]["journal_rows"] > 0)
    state = netlab.show("s")
    assert state["trouble"]["usage_log_lines"] == 1  # the connect
    (small_disk / "ballast").unlink()
    assert netlab.ping("c", "10.77.0.1") == 3
    # A journal that is not whole is an error at the end, and not before.
    assert netlab.end(process) == 1
    assert (small_disk / "usage").read_text().count("disconnect") == 1
