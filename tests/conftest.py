"""Options of the whole suite, and what its tests may find on the machine."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

from tests.machine import bare_path, cannot_have, lacks, must_have_all

# A shell without job control starts background commands with Ctrl-C ignored, and children inherit that: tests
# that interrupt a command would wait for ever in `make test &`.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine, or numba compiling, is no failure of the code under test. A build machine judges one commit,
# so it tries the same examples each time; everyone else's runs look for new ones.
settings.register_profile("vpnf", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("vpnf")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--remake-golden",
        action="store_true",
        help="write the samples' golden results anew instead of checking",
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, before any fixture starts, what this machine has not the programs for."""
    needed = [what for mark in item.iter_markers("needs") for what in mark.args]
    if not needed or not (missing := lacks(*needed)):
        return
    if must_have_all() and not cannot_have(*needed):
        pytest.fail(f"CI=true as root, but this machine lacks {missing}", pytrace=False)
    pytest.skip(f"this machine lacks {missing}")


@pytest.fixture(scope="session")
def _bare_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return bare_path(tmp_path_factory.mktemp("bare") / "bin")


@pytest.fixture(autouse=True)
def _one_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of one test are made at one time, so that they can be equal byte for byte."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


@pytest.fixture(autouse=True)
def _only_what_is_needed(
    request: pytest.FixtureRequest, _bare_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test that names no need sees none of the system's programs."""
    if request.node.get_closest_marker("needs") is None:
        monkeypatch.setenv("PATH", _bare_path)
