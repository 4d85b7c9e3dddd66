"""A study: a folder of parameter files in; runs, executed notebooks, a plan and a report out, whatever fails."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml
from tiny_world import tiny_config

from anga import study as study_module
from anga import workers
from anga.__main__ import main
from anga.errors import AngaError
from anga.parameters import TASK_NOTEBOOKS, VARIANTS, ParameterSet
from anga.runs import run_folder
from anga.study import execute, plan, reproduce
from anga.workers import run_all

CELL = """
from pathlib import Path
import pandas as pd
place = Path(outputs) / "{kind}" / Path(params).parent.name / Path(params).stem
place.mkdir(parents=True, exist_ok=True)
pd.DataFrame({{"score": [1]}}).to_csv(place / "table.csv")
from matplotlib import pyplot as plt
plt.plot([0, 1]); plt.savefig(place / "line.png"); plt.show()
"""


def write_notebook(path: Path, *cells: str) -> None:
    parameters = nbformat.v4.new_code_cell("params, outputs = '', ''", metadata={"tags": ["parameters"]})
    code = [nbformat.v4.new_code_cell(cell) for cell in cells]
    title = nbformat.v4.new_markdown_cell(f"# {path.stem[:2]} · Is it so?\n\nMore <b>text</b>.")
    notebook = nbformat.v4.new_notebook(cells=[title, parameters, *code])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, path)


@pytest.fixture
def project(binary_world, tmp_path, monkeypatch):
    """A folder with parameter files and notebooks of a tiny study: two tasks, one grid."""
    workers._remembered.cache_clear()
    knobs = tiny_config(epochs=1).to_dict()
    knobs = {name: value for name, value in knobs.items() if not name.endswith("_seed") and name != "dataset"}
    folder = tmp_path / "params" / "tiny"
    folder.mkdir(parents=True)
    for name, seeds in (("a", [0]), ("b", [0, 1])):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**knobs, "mask_seeds": seeds}))
    axes = {"use_alignment": [True, False], "missing_rate": [0.5, 0.4]}
    grid = {"knobs": {**knobs, "use_adapter": False}, "grids": {"g": {"axes": axes}}}
    (folder / "03_grid.yaml").write_text(yaml.safe_dump(grid))
    for name in (*TASK_NOTEBOOKS, "03_grid"):
        write_notebook(
            tmp_path / "notebooks" / f"{name}.ipynb", CELL.format(kind="tables"), CELL.format(kind="figures")
        )
    monkeypatch.chdir(tmp_path)
    with binary_world.replaced():
        yield tmp_path


def test_a_folder_is_read_as_tasks_and_grids(project):
    study = ParameterSet.read("params/tiny")
    assert [file.path.stem for file in study.tasks] == ["a", "b"] and [file.name for file in study.grids] == ["03_grid"]
    jobs = study.jobs()
    assert {name: len(configs) for name, configs in jobs.items()} == {"a": 4, "b": 8, "03_grid: g": 4}
    shared = set(jobs["a"]) & set(jobs["b"])
    assert len(shared) == len(VARIANTS) and len(study.configs()) == len(set().union(*jobs.values()))


def test_all_files_are_checked_before_anything_starts(project, capsys):
    Path("params/tiny/b.yaml").write_text("top_k: none")
    Path("params/tiny/c.yaml").write_text("grids: {g: {axes: {epochs: [0]}}}")
    assert main(["reproduce", "--params", "params/tiny"]) == 1
    printed = capsys.readouterr().err
    assert "top_k" in printed and "epochs" in printed and not Path("outputs").exists()


def test_reproduce_leaves_runs_notebooks_and_a_report_and_a_second_call_redoes_nothing(project, capsys, monkeypatch):
    assert main(["reproduce", "--params", "params/tiny", "--workers", "1"]) == 0
    assert "report: outputs/report/tiny/index.html" in capsys.readouterr().out
    assert all(run_folder(config, "outputs")[0].exists() for config in ParameterSet.read("params/tiny").configs())
    done = {path.relative_to("outputs/notebooks/tiny").as_posix() for path in Path("outputs").rglob("*.ipynb")}
    assert done == {f"{task}/{name}.ipynb" for task in "ab" for name in TASK_NOTEBOOKS} | {"03_grid/03_grid.ipynb"}
    index = Path("outputs/report/tiny/index.html").read_text()
    for path in Path("outputs/report/tiny").rglob("*"):
        if path.suffix in (".html", ".csv", ".png") and path.name != "index.html":
            assert f'"{path.relative_to("outputs/report/tiny").as_posix()}"' in index
    facts = json.loads(Path("outputs/report/tiny/provenance.json").read_text())
    assert facts["runs"] == len(ParameterSet.read("params/tiny").configs()) and facts["runs missing"] == 0
    assert str(project) not in "".join(path.read_text() for path in Path("outputs/report/tiny").rglob("*.html"))
    monkeypatch.setattr(workers, "run", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("executed again"))
    assert main(["reproduce", "--params", "params/tiny"]) == 0


def test_some_files_are_made_anew_and_the_others_pages_stay(project, capsys):
    report = Path("outputs/report/tiny")
    whole = ["reproduce", "--params", "params/tiny", "--workers", "1"]
    assert main([*whole, "--only", "03_grid"]) == 0
    assert [page.name for page in report.glob("notebooks/*/*")] == ["03_grid.html"]
    assert json.loads((report / "provenance.json").read_text())["runs"] == 4
    assert main(whole) == 0
    before = {path: path.stat().st_mtime_ns for path in report.rglob("*") if path.is_file()}
    runs = json.loads((report / "provenance.json").read_text())["runs"]
    write_notebook(Path("notebooks/03_grid.ipynb"), "print('anew')")
    shutil.rmtree("outputs/tables/tiny/a")  # what the others were made from may be gone
    capsys.readouterr()
    assert main([*whole, "--only", "03_grid"]) == 0
    kept = {path: path.stat().st_mtime_ns for path in before if path.exists()}
    changed = {path.relative_to(report).as_posix() for path in kept if kept[path] != before[path]}
    assert changed == {
        "index.html", "provenance.json", "notebooks/03_grid/03_grid.html", "tables/03_grid/table.csv",
        "figures/03_grid/line.png",
    } and len(kept) == len(before)  # fmt: skip
    assert "anew" in (report / "notebooks/03_grid/03_grid.html").read_text()
    facts = json.loads((report / "provenance.json").read_text())
    assert facts["runs"] == runs and list(facts["made anew"]) == ["03_grid"]
    assert (facts["made anew"]["03_grid"]["runs"], facts["made anew"]["03_grid"]["runs missing"]) == (4, 0)
    assert facts["made anew"]["03_grid"]["configs"] != facts["configs"]
    index = (report / "index.html").read_text()
    assert "03_grid, made anew: 4 training runs" in index and all(f"tables/{n}/table.csv" in index for n in "ab")


def test_only_files_that_are_there_can_be_asked_for(project, capsys):
    shutil.copytree("params/tiny", "params/other", ignore=shutil.ignore_patterns("03*"))
    sets = ["--params", "params/tiny", "params/other"]
    assert main(["plan", *sets, "--only", "03_grid"]) == 0
    assert "4 runs, 0 finished" in capsys.readouterr().out
    assert main(["reproduce", *sets, "--only", "04_grid"]) == 1
    assert "--only 04_grid" in (said := capsys.readouterr().err) and "03_grid, a, b" in said
    assert not Path("outputs").exists()


def test_several_sets_have_a_report_each_and_one_that_fails_does_not_stop_the_others(project, capsys):
    broken = Path("params/broken")
    Path("params/tiny").rename(broken)
    Path("params/tiny").mkdir()
    grid = yaml.safe_load((broken / "03_grid.yaml").read_text())
    Path("params/tiny/03_grid.yaml").write_text(yaml.safe_dump(grid))
    grid["grids"]["g"]["axes"]["top_k"] = [3, 59]  # more than the bank holds
    (broken / "03_grid.yaml").write_text(yaml.safe_dump(grid))
    for path in broken.glob("[ab].yaml"):
        path.unlink()
    assert main(["reproduce", "--params", "params/broken", "params/tiny", "--workers", "1"]) == 1
    printed = capsys.readouterr()
    assert "top_k: 59" in printed.err and "report: outputs/report/tiny/index.html" in printed.out
    for name, missing in (("broken", 4), ("tiny", 0)):
        assert json.loads(Path(f"outputs/report/{name}/provenance.json").read_text())["runs missing"] == missing
    assert main(["plan", "--params", "params/tiny", "params/broken"]) == 0
    assert "8 runs, 4 finished" in capsys.readouterr().out


def test_a_notebook_that_fails_is_kept_and_named_and_the_others_go_on(project):
    Path("params/tiny/b.yaml").unlink()
    write_notebook(Path("notebooks/02_retrieval.ipynb"), "print('so far')", "1 / 0")
    for name in ("01_data", "04_anga", "03_grid"):
        write_notebook(Path(f"notebooks/{name}.ipynb"), "1 + 1")
    with pytest.raises(AngaError, match=r"02_retrieval.ipynb: cell .* failed with ZeroDivisionError"):
        reproduce(ParameterSet.read("params/tiny"), "outputs", "notebooks", 1)
    kept = nbformat.read("outputs/notebooks/tiny/a/02_retrieval.ipynb", as_version=4)
    assert "so far" in str(kept) and Path("outputs/notebooks/tiny/03_grid/03_grid.ipynb").exists()
    assert Path("outputs/report/tiny/index.html").exists()


def test_a_changed_notebook_parameter_source_or_run_is_executed_again(project, monkeypatch):
    (params, *_), notebook, executed = ParameterSet.read("params/tiny").tasks, Path("notebooks/01_data.ipynb"), []
    monkeypatch.setattr("papermill.execute_notebook", lambda *a, **_: executed.append(a) or Path(a[1]).touch())
    for change in ("", "\n", None):
        if change is None:
            monkeypatch.setattr(study_module, "__file__", str(project / "package" / "study.py"))
            (project / "package").mkdir()
        else:
            notebook.write_text(notebook.read_text() + change)
        execute(notebook, params, "outputs")
        execute(notebook, params, "outputs")
    assert len(executed) == 3
    monkeypatch.setattr("anga.runs.RESULT_VERSION", 0)  # as other data or weights would, this gives runs other names
    execute(notebook, params, "outputs")
    assert len(executed) == 4


def test_the_plan_counts_shared_runs_once_and_follows_what_is_finished(project, capsys):
    study = ParameterSet.read("params/tiny")
    before = plan([study], "outputs")
    assert before["runs"].tolist() == [4, 4, 3] and before["finished"].sum() == 0 and (before["minutes"] > 0).all()
    run_all(study.configs(), "outputs", progress=False, workers=1)
    after = plan([study], "outputs")
    assert after["finished"].tolist() == after["runs"].tolist() and after["minutes"].sum() == 0
    assert main(["plan", "--params", "params/tiny"]) == 0
    assert "11 runs, 11 finished" in capsys.readouterr().out


def test_jobs_of_several_sets_are_told_apart(project):
    shutil.copytree("params/tiny", "params/other")
    table = plan([ParameterSet.read("params/tiny"), ParameterSet.read("params/other")], "outputs")
    assert table["job"].is_unique and table["runs"].tolist() == [4, 4, 3, 0, 0, 0]
    assert table["job"].str.split("/").str[0].tolist() == ["tiny"] * 3 + ["other"] * 3


def test_the_plan_counts_a_runs_own_kind_and_the_inputs_that_runs_share(project):
    study = ParameterSet.read("params/tiny")
    (grid,) = (configs for job, configs in study.jobs().items() if "03_grid" in job)
    for config in grid:
        if config.missing_rate == 0.5:
            folder = run_folder(config, "outputs")[0]
            folder.mkdir(parents=True)
            (folder / "metrics.json").write_text(json.dumps({"seconds": 90 if config.use_alignment else 30}))
    table = plan([study], "outputs").set_index("job")
    (row,) = (table.loc[job] for job in table.index if "03_grid" in job)
    seconds = row["minutes"] * 60 * len(workers.worker_slots(11))
    assert seconds == pytest.approx(90 + 30 + workers.SECONDS_PER_INPUTS), "one run of each kind, on one table"


def test_workers_must_be_some(capsys):
    assert main(["reproduce", "--workers", "0"]) == 1
    assert "--workers: must be at least 1" in capsys.readouterr().err
