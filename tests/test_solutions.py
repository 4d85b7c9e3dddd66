"""Solutions: one for every exercise, and their scripts run; the notebooks' README knows all notebooks."""

import re
from pathlib import Path

import jupytext
import nbformat
import papermill
import pytest
import yaml
from test_notebooks import ROOT, SCRIPTS, TINY, code_cells, prose

SOLUTIONS = ROOT / "notebooks" / "solutions"
GUIDE = (ROOT / "notebooks" / "README.md").read_text()

every_notebook = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
every_solution = pytest.mark.parametrize("script", sorted(SOLUTIONS.glob("*.py")), ids=lambda path: path.stem)


def solution_of(script: Path) -> str:
    """The prose of a notebook's solutions, whichever form they have."""
    markdown = SOLUTIONS / f"{script.stem}.md"
    return markdown.read_text() if markdown.exists() else "\n\n".join(prose(SOLUTIONS / script.name))


@every_notebook
def test_every_exercise_has_a_solution(script):
    (exercises,) = [text for text in prose(script) if text.startswith("## Exercises")]
    asked = re.findall(r"^(\d)\. ", exercises, re.MULTILINE)
    assert re.findall(r"^## (\d)\. \S", solution_of(script), re.MULTILINE) == asked


@every_notebook
def test_a_solution_bears_its_notebooks_title(script):
    title = prose(script)[0].splitlines()[0].removeprefix("# ")
    assert solution_of(script).splitlines()[0] == f"# Solutions: {title}"


@every_solution
def test_a_solution_has_the_notebooks_parameters(script):
    (cell,) = [cell for cell in code_cells(script) if "parameters" in cell.metadata.get("tags", [])]
    (params, outputs) = re.findall(r'"(.+)"', cell.source)
    assert (script.parent / params).is_file()
    assert (script.parent / outputs).resolve() == ROOT / "outputs"


@every_solution
def test_a_solution_runs(script, outputs, tmp_path):
    params = tmp_path / "clipart-pairs.yaml"
    params.write_text(yaml.safe_dump({"dataset": "clipart-pairs", **TINY}))
    source = tmp_path / "source.ipynb"
    nbformat.write(jupytext.read(script), source)
    values = {"params": str(params), "outputs": str(outputs)}
    done = papermill.execute_notebook(
        source, tmp_path / "done.ipynb", values, cwd=script.parent, kernel_name="python3", progress_bar=False
    )
    assert any(cell.outputs for cell in done.cells if cell.cell_type == "code")


# --- notebooks/README.md


@every_notebook
def test_the_guide_names_every_notebook_with_its_question(script):
    question = prose(script)[0].splitlines()[0].split(" · ")[1]
    assert f"[{script.stem}]({script.stem}.ipynb)" in GUIDE
    assert question in " ".join(GUIDE.split()), f"notebooks/README.md does not ask: {question}"


def test_the_guides_links_and_parameter_files_exist():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", GUIDE) if not link.startswith(("http", "#"))]
    files = [
        name for name in re.findall(r"(?:\.\./)?params/\S+?\.yaml", GUIDE) if "<" not in name and "my-" not in name
    ]
    missing = [link for link in links if not (ROOT / "notebooks" / link.split("#")[0]).exists()]
    missing += [name for name in files if not (ROOT / name.removeprefix("../")).exists()]
    assert links and files and not missing
