"""README, make targets, pins and parameter files say what is so."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from anga.config import Config
from anga.parameters import ParameterSet

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = [
    "help",
    "setup",
    "demo",
    "plan",
    "reproduce",
    "reference",
    "test",
    "lint",
    "notebooks",
    "lab",
    "bench",
    "clean",
]

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*words, **environment):
    # Variables of an outer `make test` would otherwise reach this one.
    inherited = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON")}
    return subprocess.run(
        ["make", *words], cwd=ROOT, env={**inherited, **environment}, capture_output=True, text=True, timeout=60
    )


# --- README


def test_the_readmes_loop_runs_and_learns():
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(compile(snippet, "README.md", "exec"), names)
    assert names["stats"].counts == tuple((names["group"] == code).sum() for code in range(3))
    assert all(parameter.grad.abs().sum() > 0 for parameter in names["model"].parameters())


@pytest.mark.parametrize("page", ["README.md", "notebooks/README.md", "outputs/reference/README.md"])
def test_links_lead_to_files_and_headings(page):
    links = [link for link in re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text()) if not link.startswith("http")]
    assert links
    for link in links:
        path, _, heading = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        assert not heading or heading in _anchors(target.read_text()), link


def _anchors(markdown: str) -> set[str]:
    """What a link to a heading is called: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_figures_that_the_readme_names_are_drawn():
    named = set(re.findall(r"`(\d\d_[a-z]+_\w+)`", README))
    drawn = {path.stem for path in (ROOT / "outputs" / "reference").glob("*/figures/**/*.png")}
    assert named and named <= drawn, named - drawn


def test_readme_names_only_make_targets_parameter_sets_and_knobs_that_exist():
    code = "\n".join(re.findall(r"```.*?```|`[^`]+`", README, re.DOTALL))
    targets, sets = re.findall(r"\bmake\s+([a-z]+)", code), re.findall(r"\bPARAMS=([a-z]\w*)", code)
    assert targets and set(targets) <= set(TARGETS)
    assert sets and all((ROOT / "params" / name).is_dir() for name in sets)
    knobs = re.findall(r"--set (\w+)=", README) + re.findall(r"`(\w+): \w", README)
    assert knobs and set(knobs) <= set(Config().to_dict())


def test_readme_quotes_the_commands_options_as_they_are():
    from anga.__main__ import parser

    commands = re.findall(r"^python -m anga (.+?)(?:\s+#.*)?$", README, re.MULTILINE)
    assert commands
    for command in commands:
        parser().parse_args(command.split())


# --- pins, ranges, conda


def pins():
    lines = (line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    return {canonicalize_name(r.name): r for r in map(Requirement, filter(None, lines))}


def test_every_pin_is_exact():
    loose = [str(r) for r in pins().values() if not re.fullmatch(r"==[\d.]+", str(r.specifier))]
    assert not loose


@pytest.mark.parametrize("group", ["dependencies", "cpu", "hdf5", "notebooks", "test"])
def test_pins_lie_in_the_accepted_ranges(group):
    wanted = PROJECT["dependencies"] if group == "dependencies" else PROJECT["optional-dependencies"][group]
    for requirement in map(Requirement, wanted):
        version = str(pins()[canonicalize_name(requirement.name)].specifier).removeprefix("==")
        assert requirement.specifier.contains(version), requirement


def test_the_two_builds_of_faiss_never_meet():
    extras = PROJECT["optional-dependencies"]
    assert not any(r.startswith("faiss") for r in PROJECT["dependencies"])
    assert [r.split(">")[0] for r in extras["cpu"] + extras["gpu"]] == ["faiss-cpu", "faiss-gpu"]
    assert "faiss-gpu" not in pins()
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert [d.split()[0] for d in conda if d.startswith("faiss")] == ["faiss-gpu"]


def test_conda_environment_asks_for_the_same_ranges():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    lowest = {d.split()[0].replace("_", "-"): d.split(">=")[1] for d in conda if ">=" in d and "python" not in d}
    names = {"pytorch-gpu": "torch", "matplotlib-base": "matplotlib", "seaborn-base": "seaborn"}
    lowest = {names.get(name, name): version for name, version in lowest.items()}
    extras = PROJECT["optional-dependencies"]
    wanted = PROJECT["dependencies"] + extras["hdf5"] + extras["notebooks"] + extras["test"]
    for requirement in map(Requirement, wanted):
        assert str(requirement.specifier) == f">={lowest[requirement.name.lower()]}", requirement


# --- environment checks


def test_an_environment_without_the_packages_is_told_what_to_do(tmp_path):
    venv.create(tmp_path / "bare", with_pip=False)
    bare = tmp_path / "bare" / "bin" / "python"
    done = subprocess.run([bare, ROOT / "tools" / "check_environment.py"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(r"\S+ lacks filelock, .+ and \d+ more: run `make setup PYTHON=\.\.\.`, .+\.\n", done.stderr)


def test_this_environment_lacks_nothing():
    subprocess.run([sys.executable, ROOT / "tools" / "check_environment.py"], check=True)


@pytest.mark.parametrize(
    ("fake", "complaint"),
    [
        ('case "$2" in *print*) echo 3.9;; *) exit 1;; esac', "Python 3.11 or newer is needed (found: python3=3.9)"),
        ('case "$2" in *print*) echo 3.12;; *ensurepip*) exit 1;; esac', "python3 lacks the module venv"),
    ],
)
def test_an_unfit_python_is_refused_in_one_line(tmp_path, fake, complaint):
    (tmp_path / "python3").write_text(f"#!/bin/sh\n{fake}\n")
    (tmp_path / "python3").chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "tools/find_python.sh"], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stdout == ""
    assert complaint in done.stderr and done.stderr.count("\n") == 1


# --- make and continuous integration


@needs_make
def test_help_lists_every_target_and_is_the_default():
    listed = re.findall(r"^  make (\w+) +\S", make("help").stdout, re.MULTILINE)
    assert listed == TARGETS
    assert make().stdout == make("help").stdout


@needs_make
@pytest.mark.parametrize("target", TARGETS)
def test_targets_are_well_formed(target):
    for words in ([target], [target, f"PYTHON={sys.executable}"]):
        done = make("--dry-run", *words)
        assert done.returncode == 0, done.stderr


@needs_make
def test_a_given_python_is_used_and_nothing_is_created():
    planned = make("--dry-run", "demo", "PYTHON=my-python").stdout
    assert "my-python -m anga demo" in planned
    assert ".venv" not in planned and "pip install" not in planned


@needs_make
def test_some_files_of_some_sets_can_be_chosen():
    planned = make("--dry-run", "reproduce", "PYTHON=my-python", "PARAMS=clipart", "ONLY=03_imbalance").stdout
    assert "my-python -m anga reproduce --params params/clipart --only 03_imbalance\n" in planned


@needs_make
def test_some_files_of_an_edition_are_made_anew_in_a_copy_of_it_and_a_first_edition_in_none(tmp_path):
    page = tmp_path / "outputs" / "reference" / "kept" / "index.html"
    page.parent.mkdir(parents=True)
    page.touch()
    (tmp_path / "outputs" / "report" / "first").mkdir(parents=True)
    done = make("--directory", tmp_path, "--file", ROOT / "Makefile", "edition", "PARAMS=kept first")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "outputs" / "report").rglob("*")] == ["kept", "index.html"]


def tree(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@needs_make
@pytest.mark.parametrize(
    ("target", "source", "copy"), [("reference", "report", "reference"), ("edition", "reference", "report")]
)
def test_a_copy_that_fails_stops_make_and_costs_no_edition(tmp_path, target, source, copy):
    """`cp` copies half of the middle set's folder, and fails."""
    outputs, programs = tmp_path / "outputs", tmp_path / "programs"
    for name in ("one", "two", "three"):
        for kind, text in ((source, "new"), (copy, "old")):
            (outputs / kind / name).mkdir(parents=True)
            (outputs / kind / name / "index.html").write_text(text)
    programs.mkdir()
    cp = shutil.which("cp")
    (programs / "cp").write_text(f'#!/bin/sh\n{cp} "$@"\ncase "$*" in *two*) exit 1;; esac\n')
    (programs / "cp").chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    words = ["--directory", tmp_path, "--file", ROOT / "Makefile", target, "PYTHON=true", "PARAMS=one two three"]
    assert make(*words, PATH=path).returncode != 0
    assert tree(outputs / copy) == {"one/index.html": "new", "two/index.html": "old", "three/index.html": "old"}
    done = make(*words)
    assert done.returncode == 0, done.stderr
    assert tree(outputs / copy) == tree(outputs / source)


@needs_make
def test_the_first_edition_needs_no_folder_to_be_there(tmp_path):
    page = tmp_path / "outputs" / "report" / "first" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("new")
    done = make("--directory", tmp_path, "--file", ROOT / "Makefile", "reference", "PYTHON=true", "PARAMS=first")
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "outputs" / "reference") == {"first/index.html": "new"}


def test_ci_runs_lint_and_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.findall(r"^make (\w+)", script.read_text(), re.MULTILINE) == ["lint", "test"]


# --- parameter files, citation, paths


STUDY = ["clipart", "comparison", "comparison_both", "comparison_more", "prior"]


@pytest.mark.parametrize("folder", ["quick", *STUDY, "table1"])
def test_parameter_files_load_and_name_their_task(folder):
    study = ParameterSet.read(ROOT / "params" / folder)
    tasks = ["clipart-folders", "clipart-keywords", "clipart-pairs"] if folder in ("quick", "clipart") else []
    assert [params.path.stem for params in study.tasks] == tasks
    assert all(params.config.dataset == params.path.stem for params in study.tasks)
    for file in study.files.values():
        assert re.search(r"^# Hardware: ", file.path.read_text(), re.MULTILINE), file.path
    for file in study.grids:
        assert (ROOT / "notebooks" / f"{file.name}.ipynb").is_file()


def test_citation_names_this_project_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["version"] == PROJECT["version"]
    assert citation["authors"] == [{"name": "The ANGA study maintainers"}]
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Guan", "Huang", "Yang"]


def test_licence_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == "Apache-2.0" and (ROOT / "NOTICE").is_file()


def tracked_files():
    command = ["git", "ls-files", "-z"]
    listed = shutil.which("git") and subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if not listed or listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]


def tracked_texts():
    for name in tracked_files():
        with contextlib.suppress(UnicodeDecodeError):  # pictures and weights
            yield name, (ROOT / name).read_text(encoding="utf-8")


def test_no_file_names_a_machine_or_a_package_registry():
    folders = "|".join(["work", "root", "tmp", r"home/\w+", r"Users/\w+"])
    hosts = "|".join([r"pypi\.", r"pythonhosted\.", r"download\.pytorch\."])
    pattern = re.compile(rf"(?<![\w.~$}}-])/(?:{folders})/|(?:{hosts})(?:org)")
    found = {name: hit.group() for name, text in tracked_texts() if (hit := pattern.search(text))}
    assert not found


def test_tracked_files_stay_small():
    assert sum((ROOT / name).stat().st_size for name in tracked_files()) < 60e6
