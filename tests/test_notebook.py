"""The notebook of the documentation runs from its first cell to its last."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "docs/first_team.ipynb"


def test_the_notebook_trains_a_team_and_ends_with_its_page(tmp_path):
    text = NOTEBOOK.read_text()
    assert "total_timesteps=40_000" in text
    notebook = nbformat.reads(text.replace("=40_000", "=4_000"), as_version=4)  # a tenth
    resources = {"metadata": {"path": tmp_path}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = {kind for output in outputs for kind in output.get("data", {})}
    assert {"image/png", "image/gif", "text/html"} <= shown
    assert (tmp_path / "runs/first/watch.html").exists()
    assert "Traceback" not in str(outputs)
