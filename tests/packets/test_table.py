"""The table itself: schema, selection, the forms it can be given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vpnforensics.capture.writer import write_pcap
from vpnforensics.packets.read import read_capture
from vpnforensics.packets.table import PacketTable

from . import frames


@pytest.fixture
def table(tmp_path: Path) -> PacketTable:
    captured = frames.variety()
    write_pcap(tmp_path / "a.pcap", np.arange(len(captured)), captured)
    return read_capture(tmp_path / "a.pcap")


def test_columns_have_the_declared_types(table: PacketTable) -> None:
    for spec, array in table.columns():
        assert array.dtype == spec.dtype, spec.name
        assert array.shape == ((len(table), spec.width) if spec.width > 1 else (len(table),)), spec.name
        assert array.flags.c_contiguous, spec.name
    assert sum(spec.dtype.itemsize * spec.width for spec in PacketTable.schema()) <= 110


def test_take(table: PacketTable) -> None:
    tcp = table.take(table.proto == 6)
    assert 0 < len(tcp) < len(table)
    assert set(tcp.proto.tolist()) == {6}
    assert tcp.addresses is table.addresses
    assert tcp.source is table.source


def test_endpoints(table: PacketTable) -> None:
    row = int(np.flatnonzero(table.ip_version == 6)[0])
    assert table.addresses.endpoint(int(table.src[row]), 443) == "[2001:db8::1]:443"
    assert table.addresses.endpoint(int(table.src[0]), 443) == "192.0.2.1:443"


def test_to_pandas_and_back_from_parquet(table: PacketTable, tmp_path: Path) -> None:
    frame = table.to_pandas()
    assert len(frame) == len(table)
    assert frame["src"].astype(str).tolist() == [table.addresses.texts[i] for i in table.src]
    assert frame["head"][1] == table.head[1].tobytes()
    table.to_parquet(tmp_path / "a.parquet")
    again = pd.read_parquet(tmp_path / "a.parquet")
    assert again["ts_ns"].tolist() == table.ts_ns.tolist()


def test_representations(table: PacketTable) -> None:
    assert repr(table) == f"PacketTable({len(table)} packets, 4 addresses)"
    assert "<table" in table._repr_html_()
