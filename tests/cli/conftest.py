"""One small case for all tests of this folder."""

from pathlib import Path

import pytest

from tests.small_case import write_case
from vpnforensics import warm
from vpnforensics.cli.main import main


@pytest.fixture(scope="session", autouse=True)
def _no_first_run() -> None:
    """What commands say is looked at here, so what they say in a first run has been said."""
    warm.make(warm.missing(warm.entries("correlate")))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case(tmp_path_factory.mktemp("case"))


@pytest.fixture
def run(capfdbinary):
    def _run(*arguments, code=0):
        assert main([str(a) for a in arguments]) == code
        out, err = capfdbinary.readouterr()
        return out.decode(), err.decode()

    return _run
