"""Every notebook runs from beginning to end, says what it was stored with, and names no machine.

``pytest tests/test_notebooks.py --remake-golden`` stores the outputs anew.
"""

from __future__ import annotations

import socket
from pathlib import Path
from time import monotonic

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LONGEST_S = 90
"""What a reader waits for one."""


def _outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def _said(notebook):
    """What its cells print, and how many pictures and tables they show."""
    return [
        (
            "".join(o.text for o in cell.outputs if o.output_type == "stream"),
            sum("image/png" in o.get("data", {}) for o in cell.outputs),
            sum("text/html" in o.get("data", {}) for o in cell.outputs),
        )
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


# What Jupyter's own packages warn about is not this project's.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_says_what_is_stored(path, tmp_path, request):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    stored = _said(notebook)
    began = monotonic()
    NotebookClient(
        notebook,
        timeout=LONGEST_S,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": tmp_path}},
    ).execute()
    assert monotonic() - began < LONGEST_S
    assert not [output for output in _outputs(notebook) if output.get("name") == "stderr"]
    if request.config.getoption("--remake-golden"):
        notebook.metadata.pop("language_info", None)
        nbformat.write(notebook, path)
    else:
        assert _said(notebook) == stored


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
