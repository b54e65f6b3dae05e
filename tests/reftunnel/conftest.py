"""Two namespaces for each test, and one long talk for all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import lacks

from .longtalk import LongTalk
from .netlab import NetLab


@pytest.fixture
def netlab(tmp_path: Path) -> Iterator[NetLab]:
    with NetLab(tmp_path) as lab:
        yield lab


@pytest.fixture(scope="session")
def long_talk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LongTalk]:
    with LongTalk(tmp_path_factory.mktemp("long_talk")) as talk:
        yield talk


@pytest.fixture(scope="session", autouse=True)
def _early_start(request: pytest.FixtureRequest) -> None:
    """Start the talk that must last more than 120 s before all other tests, so that they pass meanwhile."""
    wanted = any("long_talk" in getattr(item, "fixturenames", ()) for item in request.session.items)
    if wanted and "PYTEST_XDIST_WORKER" not in os.environ and not lacks("wireguard"):
        request.getfixturevalue("long_talk")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that ask how the talk went behind all others."""
    items.sort(key=lambda item: "long_talk" in getattr(item, "fixturenames", ()))
