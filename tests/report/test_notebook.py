"""The first notebook runs from beginning to end, with its pictures, and is committed without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "01-first-case.ipynb"
SAMPLE = ROOT / "samples" / "wireguard"


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_committed_without_outputs(notebook):
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) >= 9
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


# What Jupyter's own packages warn about is not this project's.
@pytest.mark.filterwarnings("ignore")
def test_it_runs_and_finds_no_false_link(notebook, folder, tmp_path):
    # Where the recordings are not checked out, a simulated case of the same form takes their place.
    sample = SAMPLE if (SAMPLE / "ingress.pcap").exists() else folder
    (tmp_path / "samples").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "samples" / "wireguard").symlink_to(sample, target_is_directory=True)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path / "notebooks"}}
    ).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 3
    said = "".join(output.get("text", "") for output in outputs)
    assert "links are true, 0 false" in said
    assert not [output for output in outputs if output.get("name") == "stderr"]
