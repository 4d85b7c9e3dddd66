"""Solutions: one for every exercise, and their scripts and blocks run; the notebooks' README knows all notebooks."""

import ast
import builtins
import re
from pathlib import Path

import jupytext
import nbformat
import papermill
import pytest
import torch
import yaml
from test_notebooks import ROOT, SCRIPTS, TINY, code_cells, prose

from anga.grids import GridFile

SOLUTIONS = ROOT / "notebooks" / "solutions"
GUIDE = (ROOT / "notebooks" / "README.md").read_text()

every_notebook = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
every_solution = pytest.mark.parametrize("script", sorted(SOLUTIONS.glob("*.py")), ids=lambda path: path.stem)
every_page = pytest.mark.parametrize("page", sorted(SOLUTIONS.glob("*.md")), ids=lambda path: path.stem)


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


# A page's `python` blocks stand alone and run here. Its `text` blocks are for the notebook, whose studies they read (05
# exercise 1, 06 exercises 1 and 4, 08 exercise 1): running them would take each notebook's runs once more.


def blocks(page: Path, language: str) -> list[str]:
    """A page's blocks of a language, each after as many empty lines as lead to it, so that errors name its lines."""
    text = page.read_text()
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return ["\n" * text.count("\n", 0, block.start(1)) + block[1] for block in found]


@every_page
def test_a_pages_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # they read no file, and leave none
    namespace = {"__name__": page.stem}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for block in blocks(page, "python"):
            exec(compile(block, str(page), "exec"), namespace)
    assert blocks(page, "python") and not list(tmp_path.iterdir())


def names(sources: list[str]) -> tuple[set[str], set[str]]:
    """What some code binds anywhere, and what it reads."""
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    bound |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    imported = [alias for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
    return bound | {alias.asname or alias.name for alias in imported}, read


@every_page
def test_a_pages_blocks_for_the_notebook_read_only_what_is_there(page):
    """What they read is bound in the block, in one before it, or in the notebook."""
    cells = [cell.source for cell in code_cells(ROOT / "notebooks" / f"{page.stem}.py")]
    known = names(cells)[0] | set(dir(builtins))
    for block in blocks(page, "text"):
        bound, read = names([block])
        known |= bound
        assert not read - known


@every_page
def test_a_pages_grids_are_accepted_and_it_has_no_other_blocks(page):
    for block in blocks(page, "yaml"):
        assert GridFile(page, {"grids": yaml.safe_load(block)}).grids
    opened = re.findall(r"^```(\w*)$", page.read_text(), re.MULTILINE)
    assert len(opened) == 2 * sum(len(blocks(page, language)) for language in ("python", "text", "yaml"))


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
