"""Options of the whole suite."""

from __future__ import annotations

import signal

import pytest

# A shell without job control starts background commands with Ctrl-C ignored, and children inherit that: tests
# that interrupt a command would wait for ever in `make test &`.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--remake-golden",
        action="store_true",
        help="write the samples' golden results anew instead of checking",
    )
