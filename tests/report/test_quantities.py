import doctest

import pytest

from vpnforensics.report import escaping, quantities
from vpnforensics.report.quantities import many, seconds, size, span, utc


@pytest.mark.parametrize("module", [escaping, quantities])
def test_examples_in_the_documentation(module):
    assert doctest.testmod(module).attempted > 2
    assert doctest.testmod(module).failed == 0


def test_spans_keep_their_sign_and_unit():
    assert [span(x) for x in (-27_900, 999, 1_000, 119_000_000_000, 120_000_000_000, 90_000_000_000_000)] == [
        "-27.9 µs", "999 ns", "1 µs", "119 s", "2 min 0.0 s", "1 d 1 h 0.0 s",
    ]  # fmt: skip


def test_any_time_a_capture_may_claim_is_shown():
    assert utc(0) == "1970-01-01 00:00:00.000000 UTC"
    assert utc(-1).endswith("UTC")
    assert utc(2**63 - 1)


def test_sizes_and_counts():
    assert [size(x) for x in (0, 999, 1000, 999_900, 5e12)] == ["0 B", "999 B", "1 kB", "1 MB", "5 TB"]
    assert [many(0, "byte"), many(1, "byte"), many(2, "copy", "copies")] == ["0 bytes", "1 byte", "2 copies"]
    assert seconds(-12_500_000_400) == "-12.500000 s"
