"""One small case for all tests of this folder."""

from pathlib import Path

import pytest

from tests.small_case import write_case


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case(tmp_path_factory.mktemp("case"))
