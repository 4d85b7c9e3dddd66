"""The committed edition of the study: whole, small, and the source of every result that the README quotes."""

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from anga.grids import GridFile
from anga.parameters import TASK_NOTEBOOKS, ParameterSet, variant_configs

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "outputs" / "reference"
README = (ROOT / "README.md").read_text()

sys.path.insert(0, str(ROOT / "tools"))
import readme_tables  # noqa: E402


def test_the_readmes_results_are_those_of_the_reference_tables():
    assert {name for _, name, _ in readme_tables.BLOCK.findall(README)} == set(readme_tables.BLOCKS)
    assert readme_tables.filled(README) == README, "run `python tools/readme_tables.py`"


def test_tables_are_formatted_as_they_should_be(tmp_path, monkeypatch):
    monkeypatch.setattr(readme_tables, "TABLES", tmp_path)
    (tmp_path / "03_imbalance").mkdir()
    rows = [("clipart-pairs", rate, "complete", 0.05, low, 0.0749) for rate, low in ((0.9, -0.01), (0.1, 0.002))]
    table = pd.DataFrame(rows, columns=["dataset", "missing_rate", "subset", "mean", "low", "high"])
    table.to_csv(tmp_path / "03_imbalance" / "gaps.csv", index=False)
    last = readme_tables.gaps().splitlines()[-1]
    assert last == "| clipart-pairs, AUROC | **+0.050 [+0.002, +0.075]** | +0.050 [-0.010, +0.075] |"


def file_configs(file) -> list:
    return file.configs if isinstance(file, GridFile) else variant_configs(file)


def test_the_reference_is_the_whole_clipart_study_with_its_provenance():
    facts = json.loads((REFERENCE / "provenance.json").read_text())
    assert facts["parameters"] == "clipart" and facts["runs missing"] == 0 and facts["hours of training"] > 0
    study = ParameterSet.read(ROOT / "params" / "clipart")
    covered, absent = [], []
    for file in (*study.tasks, *study.grids):
        folder = REFERENCE / "notebooks" / file.path.stem
        (covered if folder.exists() else absent).append(file)
        names = [file.name] if isinstance(file, GridFile) else TASK_NOTEBOOKS
        assert not folder.exists() or {path.stem for path in folder.glob("*.html")} == set(names)
    configs = {config for file in covered for config in file_configs(file)}
    assert facts["runs"] == len(configs), "parameters have changed: run `make reference`"
    for file in absent:  # a reader must not look for it in vain
        assert f"without `{file.path.stem}`" in README


def test_the_reference_stays_small():
    assert sum(path.stat().st_size for path in REFERENCE.rglob("*") if path.is_file()) <= 12e6


@pytest.mark.parametrize("page", sorted(REFERENCE.rglob("*.html")), ids=lambda path: path.stem)
def test_links_of_a_page_lead_somewhere_and_nothing_failed(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r'(?:href|src)="(?!https?:|data:|#)([^"]+)"', text):
        assert (page.parent / link).exists() or page.name != "index.html", link
    assert "Traceback (most recent call last)" not in text


def test_the_readme_shows_three_of_its_figures():
    shown = re.findall(r"!\[[^\]]+\]\((outputs/reference/[^)]+\.png)\)", README)
    assert len(shown) == 3 and all((ROOT / path).is_file() for path in shown)
