"""Every notebook runs from beginning to end, says in essence what it was stored with, and names no machine.

``pytest tests/test_notebooks.py --remake-golden`` stores the outputs anew.
"""

from __future__ import annotations

import re
import resource
import socket
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
LONGEST_S = 90
"""What a reader waits for one, at most."""


def _outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def _cpu_s():
    """Seconds that kernels which have ended computed: the same on a busy machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _of_the_lab(cell):
    """Whether it records where that can be done: what it says differs from run to run."""
    return "lab" in cell.metadata.get("tags", ())


def _said(notebook):
    """What its cells print, and how many pictures and tables they show."""
    return [
        (
            "".join(o.text for o in cell.outputs if o.output_type == "stream"),
            sum("image/png" in o.get("data", {}) for o in cell.outputs),
            sum("text/html" in o.get("data", {}) for o in cell.outputs),
        )
        for cell in notebook.cells
        if cell.cell_type == "code" and not _of_the_lab(cell)
    ]


def _alike(now, then):
    """The same words, and numbers within a fifth: a better model need not store every notebook anew."""
    words = [re.sub(r"[\s(]+", " ", _NUMBER.sub("#", text)).strip() for text in (now, then)]
    numbers = [[float(n.replace(",", "")) for n in _NUMBER.findall(text)] for text in (now, then)]
    return words[0] == words[1] and all(
        abs(a - b) <= max(0.2 * abs(a), 0.2 * abs(b), 0.02) for a, b in zip(*numbers, strict=True)
    )


def _run(notebook, folder):
    NotebookClient(
        notebook,
        timeout=5 * LONGEST_S,  # of waiting, on a busy machine
        startup_timeout=5 * LONGEST_S,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": folder}},
    ).execute()


# What Jupyter's own packages warn about is not this project's.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_says_what_is_stored(path, tmp_path, request):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    stored = _said(notebook)
    began_s = _cpu_s()
    recorded = [cell.outputs for cell in notebook.cells if _of_the_lab(cell)]
    _run(notebook, tmp_path)
    assert _cpu_s() - began_s < LONGEST_S
    assert not [output for output in _outputs(notebook) if output.get("name") == "stderr"]
    if request.config.getoption("--remake-golden"):
        for cell, outputs in zip(filter(_of_the_lab, notebook.cells), recorded, strict=True):
            cell.outputs = outputs  # a test sees none of the lab's programs
        nbformat.write(notebook, path)
    else:
        for now, then in zip(_said(notebook), stored, strict=True):
            assert now[1:] == then[1:]
            assert _alike(now[0], then[0]), f"{now[0]}\n-- was --\n{then[0]}"


@pytest.mark.needs("linux", "root", "/dev/net/tun", "network", "reftunnel")
@pytest.mark.filterwarnings("ignore")
def test_where_the_lab_can_record_it_does(tmp_path):
    notebook = nbformat.read(ROOT / "notebooks" / "06-ground-truth.ipynb", as_version=4)
    needed = [cell for cell in notebook.cells if _of_the_lab(cell) or cell.source.startswith("import")]
    assert len(needed) == 3
    notebook.cells = needed
    _run(notebook, tmp_path)
    said = "".join(o.get("text", "") for o in _outputs(notebook))
    assert "right, wrong, flows: (" in said
    assert "100% of 160 packets obey" in said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_has_pictures_and_exercises_with_checks(path):
    notebook = nbformat.read(path, as_version=4)
    pictures = [o for o in _outputs(notebook) if "image/png" in o.get("data", {})]
    assert len(pictures) >= 3
    sources = [cell.source for cell in notebook.cells]
    exercises = next(n for n, source in enumerate(sources) if "## Exercises" in source)
    rest = notebook.cells[exercises:]
    asked = [n for n, cell in enumerate(rest) if cell.cell_type == "code" and " = ..." in cell.source]
    assert len(asked) >= 2
    for n in asked:
        assert "assert " in rest[n + 1].source
        assert rest[n + 1].metadata["jupyter"]["source_hidden"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_names_no_machine(path):
    text = path.read_text()
    assert str(ROOT) not in text
    assert str(Path.home()) + "/" not in text
    assert "/tmp/" not in text
    assert f'"{socket.gethostname()}"' not in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_it_points_to_is_there(path):
    notebook = nbformat.read(path, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    targets = [part.partition(")")[0] for part in text.split("](")[1:]]
    missing = [t for t in targets if not t.startswith("http") and not (path.parent / t).exists()]
    assert missing == []
