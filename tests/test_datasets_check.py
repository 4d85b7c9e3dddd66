"""The check from the command line, and the three ways to say where data are: parameter, ANGA_DATA, --root."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from data_trees import food101, hatememes

from anga import Config
from anga.__main__ import main as anga
from anga.datasets import LAYOUTS, LOADERS, data_root
from anga.datasets.__main__ import main
from anga.datasets.report import LoadReport
from anga.errors import AngaError
from anga.inputs import load_config_dataset

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    """No data but those that a test points at."""
    monkeypatch.delenv("ANGA_DATA", raising=False)
    monkeypatch.delenv("ANGA_CACHE", raising=False)


def test_check_prints_counts_reasons_and_first_names_and_exits_0(tmp_path, capsys):
    tree = hatememes(tmp_path)
    assert main(["check", "hatememes", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    counts = {line.split()[0]: line.split()[1:] for line in printed.splitlines()[1:5]}
    skipped = {split: sum(n for (part, _), n in tree.skipped.items() if part == split) for split in tree.counts()}
    expected = {"train": 8500, "validation": 500, "test": 1000}
    for split, n in tree.counts().items():
        assert counts[split] == [str(n), str(expected[split]), str(skipped[split])]
    assert counts["all"] == [str(len(tree.samples)), "10000", str(sum(tree.skipped.values()))]
    for line in ("img/train-cut.png (image file is truncated", "train.jsonl:41, train.jsonl:42, train.jsonl:44"):
        assert line in printed
    assert "binary, 2 classes" in printed and "the paper has 8500" in printed


def test_check_leaves_the_warnings_to_others(tmp_path, capsys, caplog):
    hatememes(tmp_path)
    main(["check", "hatememes", str(tmp_path)])
    assert not caplog.records
    load_config_dataset(Config(dataset="hatememes", root=str(tmp_path)))
    assert len(caplog.records) == 1


def test_check_of_an_unusable_set_prints_what_it_found_and_exits_1(tmp_path, capsys):
    hatememes(tmp_path, older=True)
    (tmp_path / "test.jsonl").write_text("")
    assert main(["check", "hatememes", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "test            0      1000        0" in out and "image cannot be decoded (3)" in out
    assert err.splitlines()[-1].startswith("anga: hatememes") and "the test split is empty" in err


def test_check_without_pictures_exits_1(tmp_path, capsys):
    hatememes(tmp_path, warts=False)
    for path in (tmp_path / "img").iterdir():
        path.unlink()
    assert main(["check", "hatememes", str(tmp_path)]) == 1
    assert "image missing (30)" in capsys.readouterr().out


def test_check_of_embedded_data_needs_no_path(capsys):
    assert main(["check", "clipart-pairs"]) == 0
    assert "clipart-pairs: binary" in capsys.readouterr().out


@pytest.mark.parametrize("name", LAYOUTS)
def test_check_without_any_path_says_how_to_give_one(name, capsys):
    assert main(["check", name]) == 1
    error = capsys.readouterr().err
    assert f"{name}: no folder given" in error and "Expected:" in error and "ANGA_DATA" in error


@pytest.mark.parametrize("arguments", [[], ["check"], ["check", "hatememe"], ["chek", "hatememes"]])
def test_a_wrong_call_is_a_usage_error(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: python -m anga.datasets" in capsys.readouterr().err


def test_check_from_the_shell(tmp_path):
    food101(tmp_path / "food101", n=40)
    command = [sys.executable, "-m", "anga.datasets", "check", "food101"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "ANGA_DATA": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "food101: multiclass, 5 classes" in done.stdout, done.stderr


# --- where data are


def test_the_parameter_goes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ANGA_DATA", str(tmp_path / "all"))
    assert data_root("mmimdb") == tmp_path / "all" / "mmimdb"
    assert data_root("mmimdb", "elsewhere") == Path("elsewhere")
    assert data_root("mmimdb", "~/films") == Path.home() / "films"
    for name in LOADERS.keys() - LAYOUTS.keys():
        assert data_root(name) is None, "the package has its own copy"


def test_another_anga_data_is_other_data_in_the_same_process(tmp_path, monkeypatch):
    sizes = []
    for n in (40, 60):
        hatememes(tmp_path / str(n) / "hatememes", n=n, warts=False)
        monkeypatch.setenv("ANGA_DATA", str(tmp_path / str(n)))
        sizes.append(len(load_config_dataset(Config(dataset="hatememes"))))
    assert sizes == [40, 60]


def test_root_is_anga_data_for_one_call(tmp_path, monkeypatch):
    seen = []

    def note(config, *_, **__):
        seen.append((os.environ["ANGA_DATA"], len(load_config_dataset(config))))
        raise AngaError("enough")

    hatememes(tmp_path / "sets" / "hatememes", n=40, warts=False)
    monkeypatch.setattr("anga.__main__.run", note)
    monkeypatch.chdir(tmp_path)
    for before in (None, "before"):
        if before:
            monkeypatch.setenv("ANGA_DATA", before)
        assert anga(["run", "--set", "dataset=hatememes", "--root", "sets"]) == 1
        assert os.environ.get("ANGA_DATA") == before
    assert seen == [(str(tmp_path / "sets"), 40)] * 2, "absolute, since notebooks run in a folder of their own"


@pytest.mark.parametrize("command", ["run", "demo", "reproduce", "plan"])
def test_a_root_that_is_no_folder_is_refused_by_every_command(tmp_path, capsys, command):
    assert anga([command, "--root", str(tmp_path / "absent")]) == 1
    assert "--root" in (error := capsys.readouterr().err) and "is no folder" in error and error.count("\n") == 1


def test_data_that_are_nowhere_show_the_expected_tree(tmp_path, capsys):
    assert anga(["run", "--set", "dataset=food101", "--outputs", str(tmp_path)]) == 1
    assert "texts/train_titles.csv" in capsys.readouterr().err


def test_a_name_of_bytes_that_are_no_text_can_be_printed_and_stored():
    report = LoadReport("table", "root \udcff")
    report.skip("train", "image missing", "a\udcff.png")
    report.note("others", ["b\udcff.png"] * 5)
    report.found = {"train": 1, "validation": 1, "test": 1}
    for text in (str(report), report.summary(), str(report.to_dict())):
        assert text.encode()
    assert "others (5): b?.png, b?.png, b?.png, ..." in str(report)
