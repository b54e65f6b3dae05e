"""``--memory``: the same result within a budget, or one clear error."""

import json
import resource
import subprocess
import sys

import numpy as np
import pytest

from vpnforensics.cli.errors import MemoryLimitError
from vpnforensics.cli.memory import within

RUN = "import sys; from vpnforensics.cli.main import main; sys.exit(main(sys.argv[1:]))"


def correlate(folder, out, *options):
    """In a process of its own: a limit on memory is no thing to try on the tests'."""
    sides = [folder / "ingress.pcap", folder / "egress.pcap"]
    command = [sys.executable, "-c", RUN, "correlate", *sides, *options, "-f", "json", "-o", out, "-q"]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=200)


def test_the_same_case_within_a_budget(folder, tmp_path):
    told = []
    for name, options in (("a", []), ("b", ["--memory", "3GiB", "--scratch", tmp_path])):
        done = correlate(folder, tmp_path / name, *options)
        assert done.returncode == 0, done.stderr
        told.append(json.loads((tmp_path / name).read_text()))
        del told[-1]["tool"]
    assert told[0] == told[1]
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_the_smallest_budget_ends_one_way_or_the_other(folder, tmp_path):
    """OpenBLAS waits for memory for ever where it is loaded within a budget that is used up."""
    done = correlate(folder, tmp_path / "a", "--memory", "512MiB", "--scratch", tmp_path)
    assert done.returncode == 0 or "--memory allows" in done.stderr, done.stderr


def test_more_than_the_budget_is_one_line():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    said = "needs more than the 4,096 MiB that --memory allows"
    with pytest.raises(MemoryLimitError, match=said), within(4 << 30):
        np.ones(1 << 30)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    with pytest.raises(RuntimeError, match="of its own"), within(4 << 30):
        raise RuntimeError("a fault of its own")


def test_the_result_is_written_within_the_budget(run, folder, monkeypatch):
    def too_much(*_):
        raise MemoryError

    monkeypatch.setattr("vpnforensics.cli.correlate.answer", too_much)
    sides = folder / "ingress.pcap", folder / "egress.pcap"
    _, err = run("correlate", *sides, "--memory", "4GiB", code=1)
    assert "needs more than the 4,096 MiB that --memory allows" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--memory", "4 apples"], "is no size of memory"),
        (["--memory", "1MiB"], "at least 512MiB"),
        (["--memory", "infG"], "is no size of memory"),
        (["--memory", "4GiB", "--scratch", "/nowhere"], "does not exist"),
        (["--scratch", "/tmp"], "--scratch is for --memory"),
    ],
)
def test_bad_budgets(run, folder, options, said):
    _, err = run("correlate", folder / "ingress.pcap", folder / "egress.pcap", *options, code=2)
    assert said in err
