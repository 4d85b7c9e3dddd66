"""Notebooks: in step with their scripts, committed without outputs, in the study's form, and they run."""

import ast
import re
from itertools import pairwise
from pathlib import Path
from statistics import median

import jupytext
import nbformat
import pytest
import yaml

from anga.grids import GridFile
from anga.parameters import TASK_NOTEBOOKS, Params
from anga.study import execute

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))
HEADINGS = ["## Parameters", "## Imports", "## Summary", "## Exercises", "## Provenance"]
TINY = {"missing_type": "text", "missing_rate": 0.7, "epochs": 1, "batch_size": 256, "mask_seeds": [0]}
TINY |= {"top_k": 2, "max_text_length": 16}
TASKS = {"01_data": "clipart-folders", "02_retrieval": "clipart-keywords"}  # the others: clipart-pairs
SLIDERS = {"01_data": 1, "04_anga": 1}  # cells with sliders; the others have none
WIDGET = "application/vnd.jupyter.widget-view+json"

every_notebook = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def code_cells(script: Path) -> list:
    return [cell for cell in jupytext.read(script).cells if cell.cell_type == "code"]


def prose(script: Path) -> list[str]:
    return [cell.source for cell in jupytext.read(script).cells if cell.cell_type == "markdown"]


def test_the_notebooks_of_the_demo_are_there():
    assert {path.stem for path in SCRIPTS} >= {"01_data", "02_retrieval", "04_anga"}


@every_notebook
def test_script_and_notebook_have_the_same_cells(script):
    pairs = [jupytext.read(path).cells for path in (script, script.with_suffix(".ipynb"))]
    one, other = ([(c.cell_type, c.source, c.metadata.get("tags", [])) for c in cells] for cells in pairs)
    assert one == other, f"run `jupytext --sync {script.name}`"


@every_notebook
def test_a_notebook_is_committed_without_outputs(script):
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)


@every_notebook
def test_code_cells_are_short(script):
    assert max(len(cell.source.splitlines()) for cell in code_cells(script)) <= 25
    lengths = [len([line for line in cell.source.splitlines() if line.strip()]) for cell in code_cells(script)]
    assert median(lengths) <= 8


@every_notebook
def test_most_code_cells_follow_prose(script):
    kinds = [cell.cell_type for cell in jupytext.read(script).cells]
    follows = [before == "markdown" for before, kind in pairwise(kinds) if kind == "code"]
    assert sum(follows) >= 0.7 * len(follows)


@every_notebook
def test_one_cell_holds_the_parameters_and_nothing_else(script):
    tagged = [cell for cell in code_cells(script) if "parameters" in cell.metadata.get("tags", [])]
    (cell,) = tagged
    values = {line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(cell.source).body}
    assert set(values) == {"params", "outputs"}
    assert (script.parent / values["params"]).is_file()
    assert (script.parent / values["outputs"]).resolve() == ROOT / "outputs"


@every_notebook
def test_headings_are_where_a_reader_expects_them(script):
    first, *rest = prose(script)
    title = first.splitlines()[0]
    assert re.fullmatch(rf"# {script.stem[:2]} · .+\?", title), "the title is a question"
    assert all(word in first for word in ("**Needs:**", "**Leaves behind:**", "**Run time:**"))
    lines = "\n".join(rest).splitlines()
    assert [line for line in lines if line in HEADINGS] == HEADINGS


@every_notebook
def test_three_to_five_exercises(script):
    (cell,) = [text for text in prose(script) if text.startswith("## Exercises")]
    assert 3 <= len(re.findall(r"^\d\. ", cell, re.MULTILINE)) <= 5


@every_notebook
def test_a_notebook_runs(script, outputs, tmp_path):
    file = _tiny_parameters(script.stem, tmp_path)
    done = execute(script.with_suffix(".ipynb"), file, outputs)
    assert done == outputs / "notebooks" / "tiny" / file.path.stem / f"{script.stem}.ipynb"
    for kind in ("png", "svg", "csv"):
        assert list((outputs / "figures" / "tiny" / file.path.stem).glob(f"{script.stem}_*.{kind}"))
    assert_sliders_left_a_still_picture(nbformat.read(done, as_version=4), SLIDERS.get(script.stem, 0))


def assert_sliders_left_a_still_picture(notebook, cells_with_sliders: int) -> None:
    """Each cell with sliders printed something and shows one picture, and the notebook has no widget."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and "\nexplore(" in f"\n{cell.source}"]
    assert len(cells) == cells_with_sliders and "widgets" not in notebook.metadata
    for cell in cells:
        shown = [output["data"] for output in cell.outputs if "data" in output]
        assert len(shown) == 1 and "image/png" in shown[0] and WIDGET not in shown[0]
        assert [output["name"] for output in cell.outputs if output["output_type"] == "stream"] == ["stdout"]


def _tiny_parameters(notebook: str, folder: Path) -> Params | GridFile:
    """The notebook's own grid in tests/tiny, or a file of one task."""
    if notebook not in TASK_NOTEBOOKS:
        return GridFile.from_yaml(ROOT / "tests" / "tiny" / f"{notebook}.yaml")
    task = TASKS.get(notebook, "clipart-pairs")
    path = folder / "tiny" / f"{task}.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump({"dataset": task, **TINY}))
    return Params.from_yaml(path)
