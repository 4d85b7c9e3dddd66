"""The command line: scores on success, one line and exit code 1 for what a user can put right."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_world import tiny_config

from anga import runs
from anga.__main__ import _config, main, parser
from anga.errors import AngaError
from anga.result import Result
from anga.runs import run_folder

ROOT = Path(__file__).parents[1]


@pytest.fixture
def params(binary_world, tmp_path):
    """A parameter file of the tiny world, which is read while a test uses this."""
    path = tmp_path / "tiny.yaml"
    knobs = tiny_config(epochs=1).to_dict()
    path.write_text("\n".join(f"{name}: {'null' if value is None else value}" for name, value in knobs.items()))
    with binary_world.replaced():
        yield path


def call(params, tmp_path, *arguments) -> int:
    return main(["run", str(params), "--outputs", str(tmp_path / "outputs"), *arguments])


def test_run_prints_the_scores_of_every_subset_and_trains_once(params, tmp_path, capsys, monkeypatch):
    assert call(params, tmp_path) == 0
    printed = capsys.readouterr().out
    result = Result.load(run_folder(tiny_config(epochs=1), tmp_path / "outputs")[0])
    for subset in ("all", "complete", "reconstructed", "text_missing", "image_missing"):
        (line,) = [line for line in printed.splitlines() if line.startswith(f"{subset} ")]
        assert f"{result.score(subset):.3f}" in line
    assert "best epoch 1 of 1" in printed
    monkeypatch.setattr(runs, "train", lambda *_, **__: pytest.fail("trained again"))
    assert call(params, tmp_path) == 0 and capsys.readouterr().out == printed


def test_the_best_epoch_is_counted_after_a_first_stage(params, tmp_path, capsys):
    options = ["--set", "method=corrkd", "--set", "use_adapter=false", "--set", "use_retrieval=false"]
    assert call(params, tmp_path, *options, "--set", "use_alignment=false") == 0
    assert "best epoch 1 of 1" in capsys.readouterr().out


def test_set_changes_single_knobs(params, tmp_path):
    assert call(params, tmp_path, "--set", "top_k=2", "--set", "learning_rate=1e-3", "--set", "root=null") == 0
    changed = tiny_config(epochs=1, top_k=2, learning_rate=1e-3)
    assert Result.load(run_folder(changed, tmp_path / "outputs")[0]).config == changed


def test_a_parameter_file_runs_with_its_first_pair_of_seeds(params, tmp_path):
    lines = [line for line in params.read_text().splitlines() if not line.startswith(("mask_seed", "train_seed"))]
    params.write_text("\n".join([*lines, "mask_seeds: [3, 4]", "train_seeds: [5]"]))
    assert call(params, tmp_path) == 0
    config = tiny_config(epochs=1, mask_seed=3, train_seed=5)
    assert Result.load(run_folder(config, tmp_path / "outputs")[0]).config == config


@pytest.mark.parametrize("file", [[], [str(ROOT / "params" / "quick" / "clipart-pairs.yaml")]])
def test_another_method_brings_its_own_defaults(file):
    """As README has it: no knob of ANGA's need be switched off by hand."""
    words = ["--set", "method=maps", "--set", "method_options={form: attention}"]
    config = _config(parser().parse_args(["run", *file, *words]))
    assert config.method == "maps" and dict(config.method_options) == {"form": "attention"}
    assert not (config.use_adapter or config.use_alignment or config.use_retrieval)
    assert _config(parser().parse_args(["run", *file, *words, "--set", "use_alignment=true"])).use_alignment


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--set", "topk=3"], "unknown key topk"),
        (["--set", "top_k=many"], "top_k: must be of type int"),
        (["--set", "missing_rate=1.5"], "missing_rate: must be"),
        (["--set", "top_k"], "KNOB=VALUE"),
        (["--set", "top_k=[1"], "no valid YAML"),
        (["--set", "top_k=59"], "top_k: 59 neighbours"),
        (["--set", "missing_rate=1.0"], "memory bank holds 0 samples"),
        (["--set", "prompt_layer=4"], "prompt_layer: 4"),
        (["--set", "device=gpu"], "device: 'gpu'"),
        (["--set", "learning_rate=1e30"], "not finite"),
        (["--outputs", __file__], "choose another outputs folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_user_errors_are_one_line_and_exit_code_1(params, tmp_path, capsys, arguments, complaint):
    assert call(params, tmp_path, *arguments) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("anga: ") and complaint in message
    with pytest.raises(AngaError):
        call(params, tmp_path, *arguments, "--debug")


def test_all_mistakes_of_set_are_listed_at_once(params, tmp_path, capsys):
    words = [word for pair in ("top_k=x", "epochs=0", "foo=1", "lambda_min", "a=[1") for word in ("--set", pair)]
    assert call(params, tmp_path, *words) == 1
    first, *others = capsys.readouterr().err.splitlines()
    both = f"{params} and --set: "
    starts = ["--set a=[1: the value is no valid YAML", f"{both}unknown key foo", f"{both}top_k: ", f"{both}epochs: "]
    assert first.startswith("anga: --set lambda_min: expected KNOB=VALUE")
    assert all(line.startswith(start) for line, start in zip(others, starts, strict=True)), others
    assert main(["run", "absent.yaml", "--set", "epochs=0"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_mistakes_of_all_sets_are_listed_before_anything_begins(tmp_path, capsys):
    for name, text in {"one": "epochs: 0\ntop_k: 0", "two": "top_k: 5", "three": "misssing_rate: 0.5"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "task.yaml").write_text(text)
    sets = [str(tmp_path / name) for name in ("one", "two", "three", "four")]
    assert main(["plan", "--params", *sets]) == 1
    error = capsys.readouterr().err.removeprefix("anga: ").splitlines()
    starts = [f"{sets[0]}/task.yaml: top_k: ", f"{sets[0]}/task.yaml: epochs: "]
    starts += [f"{sets[2]}/task.yaml: unknown key misssing_rate", f"{sets[3]}: holds no parameter file"]
    assert all(line.startswith(start) for line, start in zip(error, starts, strict=True)), error
    assert main(["plan", "--params", sets[1], "--only", "task", "a", "b"]) == 1
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["anga", "--only b"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "absent.yaml"], "absent.yaml: cannot be read"),
        (["run", "--set", "dataset=clipart-birds"], "clipart-birds"),
        (["demo", "--params", "no-such-folder"], "no-such-folder: holds no parameter file"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, capsys, monkeypatch, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("anga: ") and complaint in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


def test_a_damaged_result_is_one_line(params, tmp_path, capsys):
    call(params, tmp_path)
    (run_folder(tiny_config(epochs=1), tmp_path / "outputs")[0] / "metrics.json").write_text("{")
    capsys.readouterr()
    assert call(params, tmp_path) == 1
    error = capsys.readouterr().err
    assert "delete this folder" in error and error.count("\n") == 1


def test_an_interruption_is_told_apart(params, tmp_path, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "train", interrupt)
    assert call(params, tmp_path) == 130
    assert "go on where it stopped" in capsys.readouterr().err


def test_errors_of_the_program_itself_are_not_hidden(params, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise KeyError("a defect")

    monkeypatch.setattr(runs, "train", broken)
    with pytest.raises(KeyError):
        call(params, tmp_path)


@pytest.mark.parametrize("arguments", [[], ["train"], ["run", "--sett", "a=1"]])
def test_a_command_that_does_not_exist_is_a_usage_error(arguments):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)


def test_from_the_shell_an_error_is_one_line_without_traceback(tmp_path):
    command = [sys.executable, "-m", "anga", "run", "--set", "mising_rate=0.5"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("anga: ") and done.stderr.count("\n") == 1
    assert "did you mean missing_rate" in done.stderr
