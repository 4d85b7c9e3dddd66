"""A study: a folder of parameter files in; runs, executed notebooks, a plan and a report out, whatever fails."""

import errno
import itertools
import json
import multiprocessing
import os
import pkgutil
import re
import shutil
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import nbformat
import pandas as pd
import pytest
import yaml
from tiny_world import make_world, tiny_config

from anga import study as study_module
from anga import workers
from anga.__main__ import main
from anga.config import Config
from anga.errors import AngaError
from anga.parameters import TASK_NOTEBOOKS, VARIANTS, ParameterSet
from anga.runs import run_folder
from anga.study import execute, plan, reproduce
from anga.workers import run_all

# Processes that import once and share nothing else with this one, above all not its kernels.
PROCESSES = multiprocessing.get_context("forkserver")
VILT = [f"transformers.models.{name}" for name in ("vilt.modeling_vilt", "vilt.image_processing_pil_vilt", "bert")]
PROCESSES.set_forkserver_preload(["anga.__main__", "papermill", "pytest", *VILT])
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
    workers._remembered.clear()
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
    assert str(project) not in "".join(path.read_text() for path in Path("outputs/report").rglob("*.html"))
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

    def times() -> int:
        execute(notebook, params, "outputs")
        execute(notebook, params, "outputs")
        return len(executed)

    assert times() == 1
    notebook.write_text(notebook.read_text() + "\n")
    assert times() == 2
    monkeypatch.setattr(study_module, "PACKAGE", project / "package")
    for number, name in enumerate(("aligner.py", "datasets/report.py", "report.py"), start=3):  # reports read the last
        file = project / "package" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        assert times() == min(number, 4)
    monkeypatch.setattr("anga.runs.RESULT_VERSION", 0)  # as other data or weights would, this gives runs other names
    assert times() == 5


def of_runs(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["what"] == "runs"].drop(columns="what")


def of_notebooks(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["what"] == "notebook"].set_index("job")


def test_the_plan_counts_shared_runs_once_and_follows_what_is_finished(project, capsys):
    study = ParameterSet.read("params/tiny")
    before = of_runs(plan([study], "outputs"))
    assert before["number"].tolist() == [4, 4, 3] and before["finished"].sum() == 0 and (before["minutes"] > 0).all()
    assert set(before["time from"]) == {"a first guess"}
    run_all(study.configs(), "outputs", progress=False, workers=1)
    after = of_runs(plan([study], "outputs"))
    assert after["finished"].tolist() == after["number"].tolist() and after["minutes"].sum() == 0
    assert main(["plan", "--params", "params/tiny"]) == 0
    assert "11 runs, 11 finished; training takes about 0 more minutes" in capsys.readouterr().out


def test_jobs_of_several_sets_are_told_apart(project):
    shutil.copytree("params/tiny", "params/other")
    table = plan([ParameterSet.read("params/tiny"), ParameterSet.read("params/other")], "outputs")
    assert table["job"].is_unique and of_runs(table)["number"].tolist() == [4, 4, 3, 0, 0, 0]
    assert table["job"].str.split("/").str[0].tolist() == ["tiny"] * 10 + ["other"] * 10


def finish_half_of_the_grid(study: ParameterSet) -> list[Config]:
    """Of those with one missing rate, aligned ones took 90 s each, the others 30. The grid's configs."""
    (grid,) = (configs for job, configs in study.jobs().items() if "03_grid" in job)
    for config in grid:
        if config.missing_rate == 0.5:
            folder = run_folder(config, "outputs")[0]
            folder.mkdir(parents=True)
            (folder / "metrics.json").write_text(json.dumps({"seconds": 90 if config.use_alignment else 30}))
    return grid


def test_the_plan_counts_a_runs_own_kind_and_the_inputs_that_runs_share(project):
    study = ParameterSet.read("params/tiny")
    finish_half_of_the_grid(study)
    row = of_runs(plan([study], "outputs")).set_index("job").loc["03_grid: g"]
    seconds = row["minutes"] * 60 * len(workers.worker_slots(11))
    assert seconds == pytest.approx(90 + 30 + workers.SECONDS_PER_INPUTS), "one run of each kind, on one table"
    assert row["time from"] == "finished runs"


def test_the_plan_shares_out_only_the_runs_that_are_left(project, monkeypatch):
    """However many are finished, one run keeps one core busy."""
    monkeypatch.setattr(workers, "cores", lambda: 4)
    monkeypatch.setattr(workers, "host_bytes", lambda: 64 * 2**30)
    keep_one_grid()
    study = ParameterSet.read("params/tiny")
    *_, last = (config for config in finish_half_of_the_grid(study) if config.missing_rate != 0.5)
    shutil.copytree(next(Path("outputs/runs").iterdir()), run_folder(last, "outputs")[0])
    (row,) = of_runs(plan([study], "outputs")).to_dict("records")
    assert (row["number"], row["finished"]) == (4, 3)
    assert row["minutes"] * 60 == pytest.approx(90 + workers.SECONDS_PER_INPUTS)


def test_the_plan_counts_notebooks_and_what_their_execution_takes(project, capsys, monkeypatch):
    def executed(source, target, *_, **__):
        notebook = nbformat.read(source, as_version=4)
        notebook.metadata["papermill"] = {"duration": 150.0, "exception": None}
        nbformat.write(notebook, target)

    monkeypatch.setattr("papermill.execute_notebook", executed)
    study = ParameterSet.read("params/tiny")
    before = of_notebooks(plan([study], "outputs"))
    assert before.index.tolist() == [f"{task}/{n}.ipynb" for task in "ab" for n in TASK_NOTEBOOKS] + [
        "03_grid/03_grid.ipynb"
    ]
    assert before["finished"].sum() == 0 and set(before["time from"]) == {"a first guess"}
    assert before.loc["b/04_anga.ipynb", "minutes"] > before.loc["a/04_anga.ipynb", "minutes"] > 0, "reads more runs"
    execute(Path("notebooks/03_grid.ipynb"), study.grids[0], "outputs")
    after = of_notebooks(plan([study], "outputs"))
    assert after["finished"].tolist() == [0] * 6 + [1] and after["minutes"].tolist()[-1] == 0
    assert main(["plan", "--params", "params/tiny", "--only", "03_grid"]) == 0
    assert "1 notebooks, 1 up to date; executing the others takes about 0 more" in capsys.readouterr().out
    write_notebook(Path("notebooks/03_grid.ipynb"), "print('anew')")
    again = of_notebooks(plan([study], "outputs")).loc["03_grid/03_grid.ipynb"]
    assert (again["finished"], again["minutes"], again["time from"]) == (0, 2.5, "its last execution")


def test_a_notebook_that_failed_does_not_tell_the_plan_how_long_it_takes(project):
    keep_one_grid()
    target = Path("outputs/notebooks/tiny/03_grid/03_grid.ipynb")
    target.parent.mkdir(parents=True)
    for content in ("", json.dumps({"metadata": {"papermill": {"duration": 1.0, "exception": True}}})):
        target.write_text(content)
        (row,) = of_notebooks(plan([ParameterSet.read("params/tiny")], "outputs")).to_dict("records")
        assert row["time from"] == "a first guess" and row["minutes"] > 0.5


def test_workers_must_be_some(capsys):
    assert main(["reproduce", "--workers", "0"]) == 1
    assert "--workers: must be at least 1" in capsys.readouterr().err


# --- a full disk, a kill, two at once


def keep_one_grid(*names: str) -> None:
    """Leave sets of one grid file each, and so of one notebook."""
    for name in names:
        Path("params", name).mkdir(exist_ok=True)
        shutil.copy("params/tiny/03_grid.yaml", f"params/{name}/03_grid.yaml")
    for path in Path("params/tiny").glob("[ab].yaml"):
        path.unlink()


def contents(folder: str, pattern: str = "*") -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob(pattern) if p.is_file()}


@pytest.fixture
def unexecuted(monkeypatch):
    """Notebooks are copied, not executed."""
    monkeypatch.setattr("papermill.execute_notebook", lambda source, target, *_, **__: shutil.copy(source, target))


def fill_the_disk(monkeypatch, *, under: str) -> None:
    """No file can be written any more, below one folder."""
    write = Path.write_text

    def full(path, *arguments, **knobs):
        if path.is_relative_to(under):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, *arguments, **knobs)

    monkeypatch.setattr(Path, "write_text", full)


def test_a_full_disk_is_named_at_the_end_after_the_other_sets(project, unexecuted, capsys, monkeypatch):
    keep_one_grid("other")
    fill_the_disk(monkeypatch, under="outputs/notebooks/tiny")
    assert main(["reproduce", "--params", "params/tiny", "params/other", "--workers", "1"]) == 1
    said = capsys.readouterr()
    place = "outputs/notebooks/tiny/03_grid/03_grid.ipynb"
    assert f"{place}: could not be made (No space left on device); make room" in said.err
    assert "report: outputs/report/other/index.html" in said.out and "Traceback" not in said.err


@pytest.mark.parametrize("only", [[], ["--only", "03_grid"]], ids=["a whole set", "some files"])
def test_a_full_disk_costs_no_report_that_was_there(project, unexecuted, capsys, monkeypatch, only):
    keep_one_grid("other")
    if only:
        shutil.copy("params/tiny/03_grid.yaml", "params/tiny/05_grid.yaml")
        shutil.copy("notebooks/03_grid.ipynb", "notebooks/05_grid.ipynb")
    assert main(["reproduce", "--params", "params/tiny", "--workers", "1"]) == 0
    before = contents("outputs/report/tiny")
    with monkeypatch.context() as patch:
        fill_the_disk(patch, under="outputs/report/tiny.saving")
        assert main(["reproduce", "--params", "params/tiny", "params/other", "--workers", "1", *only]) == 1
    said = capsys.readouterr()
    assert "outputs/report/tiny: could not be made (No space left on device); make room" in said.err
    assert "report: outputs/report/other/index.html" in said.out and "Traceback" not in said.err
    assert contents("outputs/report/tiny") == before and before
    assert {path.name for path in Path("outputs/report").iterdir() if path.is_dir()} == {"tiny", "other"}


def test_a_kernel_that_dies_is_named_and_the_report_is_written(project, monkeypatch, capsys):
    def dead(*_, **__):
        raise RuntimeError("Kernel died before replying to kernel_info")

    keep_one_grid()
    monkeypatch.setattr("papermill.execute_notebook", dead)
    assert main(["reproduce", "--params", "params/tiny", "--workers", "1"]) == 1
    assert "03_grid.ipynb: its kernel died (Kernel died before" in capsys.readouterr().err
    assert Path("outputs/report/tiny/index.html").exists()


def reproduce_tiny(name: str | None = None, call: int = 0) -> None:
    """In a process of its own: the study, ended by SIGKILL at the n-th call of a function."""
    with ExitStack() as stack:
        stack.enter_context(make_world("binary", Path("world")).replaced())
        if name is not None:
            stack.enter_context(mock.patch(name, killing(name, call)))
        sys.exit(main(["reproduce", "--params", "params/tiny", "--workers", "1"]))


def killing(name: str, call: int):
    original, calls = pkgutil.resolve_name(name), itertools.count(1)

    def called(*arguments, **knobs):
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **knobs)

    return called


def in_processes(*studies: tuple) -> list[int | None]:
    """Exit codes of studies at once, each in a process of its own."""
    started = [PROCESSES.Process(target=reproduce_tiny, args=arguments) for arguments in studies]
    for process in started:
        process.start()
    for process in started:
        process.join(240)
    return [process.exitcode for process in started]


READ_RUNS = """
import json, os, signal
from pathlib import Path
import pandas as pd
place = Path(outputs) / "tables" / "tiny" / "03_grid"
place.mkdir(parents=True, exist_ok=True)
runs = sorted(path.parent for path in Path(outputs).glob("runs/*/metrics.json"))
metrics = [json.loads((run / "metrics.json").read_text())["metrics"]["test"]["all"] for run in runs]
scores = pd.DataFrame(metrics, index=[run.name for run in runs])
if Path("kill").exists():
    Path("kill").unlink()
    (place / "scores.csv").write_text(scores.to_csv()[:50])
    for process in (os.getppid(), os.getpid()):
        os.kill(process, signal.SIGKILL)
scores.to_csv(place / "scores.csv")
pd.concat([pd.read_parquet(run / "predictions.parquet") for run in runs]).to_csv(place / "predictions.csv")
"""


def test_a_study_killed_anywhere_and_called_again_ends_with_the_same_tables(project):
    keep_one_grid()
    grid = Path("params/tiny/03_grid.yaml")
    grid.write_text(grid.read_text().replace("epochs: 1\n", "epochs: 2\n"))
    write_notebook(Path("notebooks/03_grid.ipynb"), READ_RUNS)
    assert main(["reproduce", "--params", "params/tiny", "--workers", "1", "--outputs", "undisturbed"]) == 0
    expected = contents("undisturbed/tables")
    assert expected.keys() == {"tiny/03_grid/scores.csv", "tiny/03_grid/predictions.csv"}

    killed = [-signal.SIGKILL]
    steps = 2 * 4  # of a run
    assert in_processes(("anga.training_state.TrainingState.log_step", steps + steps // 2 + 2)) == killed
    assert len(list(Path("outputs/runs").glob("*.partial/checkpoint.pt"))) == 1, "in the second epoch of the second run"
    assert in_processes(("pandas.DataFrame.to_parquet", 2 + 2)) == killed
    (half,) = Path("outputs/runs").glob("*.saving")
    assert "metrics.json" in (left := {path.name for path in half.iterdir()}) and "predictions.parquet" not in left
    Path("notebooks/kill").touch()
    assert in_processes(()) == killed
    table = Path("outputs/tables/tiny/03_grid/scores.csv")
    assert len(table.read_bytes()) == 50 < len(expected["tiny/03_grid/scores.csv"])
    assert in_processes(("anga.report._write_page", 1)) == killed
    assert not Path("outputs/report/tiny").exists()
    assert in_processes(()) == [0]
    assert contents("outputs/tables") == expected
    assert contents("outputs/report/tiny/tables") == contents("undisturbed/report/tiny/tables")
    assert not Path("outputs/report/tiny.saving").exists()


def test_two_studies_at_once_execute_a_notebook_once_and_leave_one_whole_report(project):
    keep_one_grid()
    note = "with open('executed', 'a') as file:\n    file.write('once ')"
    cells = [CELL.format(kind="tables"), CELL.format(kind="figures"), note]
    write_notebook(Path("notebooks/03_grid.ipynb"), *cells)
    assert in_processes((), ()) == [0, 0]
    assert Path("notebooks/executed").read_text() == "once "
    assert contents("outputs/report/tiny").keys() == {
        "index.html", "provenance.json", "notebooks/03_grid/03_grid.html", "tables/03_grid/table.csv",
        "figures/03_grid/line.png",
    }  # fmt: skip
    assert json.loads(Path("outputs/report/tiny/provenance.json").read_text())["runs missing"] == 0
    assert {path.name for path in Path("outputs/report").iterdir()} == {".lock", "index.html", "tiny"}


def test_a_report_counts_runs_by_processor_and_says_which_did_not_record_it(project, unexecuted):
    keep_one_grid()
    assert main(["reproduce", "--params", "params/tiny", "--workers", "1"]) == 0
    old, *others = sorted(Path("outputs/runs").glob("*/provenance.json"))
    facts = json.loads(old.read_text())
    name = facts.pop("processor")
    old.write_text(json.dumps(facts))
    assert main(["reproduce", "--params", "params/tiny"]) == 0
    counted = json.loads(Path("outputs/report/tiny/provenance.json").read_text())["runs by processor"]
    assert counted == {name: len(others), "not recorded": 1} and len(others) == 3
    assert name in Path("outputs/report/tiny/index.html").read_text()


# --- the overview, and whose numbers a report shows


def test_the_overview_links_every_report_and_says_of_how_many_runs_and_when(project, unexecuted):
    keep_one_grid("other")
    overview, reports = Path("outputs/report/index.html"), Path("outputs/report")
    assert main(["reproduce", "--params", "params/tiny", "--workers", "1"]) == 0
    assert 'href="tiny/index.html"' in (text := overview.read_text()) and "other" not in text
    (reports / "tiny.saving").mkdir()  # of another process that writes, or was killed
    shutil.copy(reports / "tiny" / "provenance.json", reports / "tiny.saving")
    assert main(["reproduce", "--params", "params/other"]) == 0
    linked = re.findall(r'href="([^"]+)"', text := overview.read_text())
    assert linked == ["other/index.html", "tiny/index.html"] and all((reports / link).exists() for link in linked)
    made = json.loads((reports / "tiny" / "provenance.json").read_text())["report made by"]["finished"]
    assert text.count("4 training runs (0 missing)") == 2 and made[:10] in text


def test_once_every_file_was_made_anew_a_report_tells_of_these_alone(project, unexecuted):
    keep_one_grid()
    values = yaml.safe_load(Path("params/tiny/03_grid.yaml").read_text())
    values["grids"]["g"]["axes"]["missing_rate"] = [0.5]
    Path("params/tiny/05_grid.yaml").write_text(yaml.safe_dump(values))  # two of the four runs
    shutil.copy("notebooks/03_grid.ipynb", "notebooks/05_grid.ipynb")
    whole = ["reproduce", "--params", "params/tiny", "--workers", "1"]
    provenance, index = Path("outputs/report/tiny/provenance.json"), Path("outputs/report/tiny/index.html")

    def told() -> list[str]:
        return re.findall(r"<p>(.*?)(?:, [\d.]+ hours of training)?\.</p>", index.read_text())

    assert main(whole) == 0
    assert told() == ["4 training runs (0 missing)"]
    assert main([*whole, "--only", "05_grid"]) == 0
    of_05 = "05_grid, made anew: 2 training runs (0 missing)"
    assert told() == ["4 training runs (0 missing)", of_05]
    assert main([*whole, "--only", "03_grid"]) == 0
    of_03 = "03_grid, made anew: 4 training runs (0 missing)"
    alone = "Every file was made on its own; a run that several share counts in each of them"
    assert told() == [alone, of_05, of_03]
    facts = json.loads(provenance.read_text())
    assert facts.keys() == {"parameters", "made anew"} and facts["made anew"].keys() == {"03_grid", "05_grid"}
    overview = Path("outputs/report/index.html").read_text()
    assert "03_grid: 4 training runs" in overview and "05_grid: 2 training runs" in overview
    assert main([*whole, "--only", "05_grid"]) == 0
    assert told() == [alone, of_05, of_03]
    assert main(whole) == 0
    assert told() == ["4 training runs (0 missing)"] and json.loads(provenance.read_text())["runs"] == 4
