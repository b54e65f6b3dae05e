"""One simulated recording for all tests of audits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small_case import write_case
from vpnforensics.audit.adversary import Adversary
from vpnforensics.audit.copies.belonging import Belonging, belonging
from vpnforensics.audit.recording import Recording, read_recording


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case(tmp_path_factory.mktemp("audited"))


@pytest.fixture(scope="session")
def recording(folder: Path) -> Recording:
    return read_recording(folder / "ingress.pcap", folder / "egress.pcap", lambda step, share: None)[0]


@pytest.fixture(scope="session")
def known(recording: Recording) -> Belonging:
    return belonging(recording, Adversary(knows_clocks=False).weigh(recording))
