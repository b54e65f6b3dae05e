"""What is resident of scratch files stays within its bound, and nothing of it is lost."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

from vpnforensics.resident import resident_at_most, resident_bytes
from vpnforensics.scratch import Scratch, release_all

_FILLED = """
import sys, time
import numpy as np
from contextlib import nullcontext
from vpnforensics.resident import resident_at_most, resident_bytes
from vpnforensics.scratch import Scratch
array = Scratch(sys.argv[1]).empty(300 << 20, np.uint8)
bound = resident_at_most(400 << 20) if sys.argv[2] == "bound" else nullcontext()
most = 0
with bound:
    for begin in range(0, len(array), 1 << 20):
        array[begin : begin + (1 << 20)] = begin >> 20 & 0xFF
        most = max(most, resident_bytes()[1])
        time.sleep(0.005)
assert all((array[k << 20 : (k + 1) << 20] == k & 0xFF).all() for k in range(300))
print(most >> 20)
"""


@pytest.mark.parametrize(("how", "least", "most"), [("bound", 25, 290), ("free", 300, 500)])
def test_pages_of_files_are_let_go_of_before_the_bound(tmp_path, how, least, most):
    command = [sys.executable, "-c", _FILLED, str(tmp_path), how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert least <= int(done.stdout) <= most


def test_all_scratch_files_are_let_go_of_and_keep_what_was_written(tmp_path):
    arrays = [Scratch(tmp_path).full(40 << 20, value, np.uint8) for value in (3, 4)]
    before = resident_bytes()[1]
    release_all()
    assert before - resident_bytes()[1] > 60 << 20
    assert [int(array.min()) for array in arrays] == [3, 4]
    assert [int(array.max()) for array in arrays] == [3, 4]


def test_its_thread_ends_with_what_it_watches():
    before = threading.active_count()
    with resident_at_most(1 << 30):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
