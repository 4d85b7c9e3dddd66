"""The committed edition of the study: whole, small, and the source of every result that the README quotes."""

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from anga.grids import GridFile
from anga.parameters import TASK_NOTEBOOKS, ParameterSet
from anga.report import configs_hash

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "outputs" / "reference"
README = (ROOT / "README.md").read_text()

# Made before provenance held a hash of the parameters (54c5733), so nobody can tell from it whether they have changed.
WITHOUT_HASH = {
    "comparison": "27 November, 02:14; by the history of params/comparison only comments have changed since",
    "comparison_both": "27 November, 12:46; by the history of params/comparison_both only comments have changed since",
    "comparison_more": "27 November, 18:24; since then its grid `subsets` got `epoch_steps: all`, which 24 runs lack",
}

sys.path.insert(0, str(ROOT / "tools"))
import readme_tables  # noqa: E402


def test_the_readmes_results_are_those_of_the_reference_tables():
    texts = [path.read_text() for path in readme_tables.FILES]
    shown = [name for text in texts for _, name, _ in readme_tables.BLOCK.findall(text)]
    assert sorted(shown) == sorted(readme_tables.BLOCKS), "every table stands in one place"
    assert [readme_tables.filled(text) for text in texts] == texts, "run `python tools/readme_tables.py`"


def test_tables_are_formatted_as_they_should_be(tmp_path, monkeypatch):
    monkeypatch.setattr(readme_tables, "REFERENCE", tmp_path)
    folder = tmp_path / "clipart" / "tables" / "03_imbalance"
    folder.mkdir(parents=True)
    rows = [("clipart-pairs", rate, "complete", 0.05, low, 0.0749) for rate, low in ((0.9, -0.01), (0.1, 0.002))]
    table = pd.DataFrame(rows, columns=["dataset", "missing_rate", "subset", "mean", "low", "high"])
    table.to_csv(folder / "gaps.csv", index=False)
    table[:1].drop(columns="missing_rate").to_csv(folder / "gaps_overall.csv", index=False)
    head, _, last = readme_tables.gaps().splitlines()
    assert head == "| task | 10% | 90% | all rates |"
    cells = "**+0.050 [+0.002, +0.075]** | +0.050 [-0.010, +0.075] | +0.050 [-0.010, +0.075]"
    assert last == f"| clipart-pairs, AUROC | {cells} |"


@pytest.mark.parametrize(
    ("mark", "behind", "shown"),
    [
        ("best", False, "**50.0 [40.0, 60.0]**"),
        ("second", True, "*50.0 [40.0, 60.0]* ↓"),
        (float("nan"), True, "50.0 [40.0, 60.0] ↓"),
        (float("nan"), False, "50.0 [40.0, 60.0]"),
    ],
    ids=["best", "second", "behind", "not told from the highest"],
)
def test_a_score_is_bold_only_where_it_is_clearly_the_best(mark, behind, shown):
    row = {"mean": 0.5, "low": 0.4, "high": 0.6, "mark": mark, "behind": behind}
    assert readme_tables._marked(pd.Series(row)) == shown


@pytest.mark.parametrize("name", ["clipart", "comparison", "comparison_both", "comparison_more", "prior"])
def test_the_reference_is_the_whole_study_with_its_provenance(name):
    facts = json.loads((REFERENCE / name / "provenance.json").read_text())
    study, anew = ParameterSet.read(ROOT / "params" / name), facts.get("made anew", {})
    assert facts["parameters"] == name
    changed = "parameters have changed: run `make reference`"
    for part, own in anew.items():
        assert own["runs missing"] == 0 and own["hours of training"] > 0
        assert own["configs"] == configs_hash(study.only([part])), changed
    if study.files.keys() - anew.keys():  # the report's own numbers are of the whole set
        assert facts["runs missing"] == 0 and facts["hours of training"] > 0
        if name in WITHOUT_HASH:
            assert "configs" not in facts, f"{name} can be checked by its hash now: take it out of WITHOUT_HASH"
            assert facts["runs"] == len(study.configs()), changed
        else:
            assert facts["configs"] == configs_hash(study), changed
    else:
        assert name not in WITHOUT_HASH, f"every part of {name} has a hash now: take it out of WITHOUT_HASH"
    for file in study.files.values():
        pages = (REFERENCE / name / "notebooks" / file.path.stem).glob("*.html")
        assert {page.stem for page in pages} == ({file.name} if isinstance(file, GridFile) else set(TASK_NOTEBOOKS))


def test_the_reference_stays_small():
    assert sum(path.stat().st_size for path in REFERENCE.rglob("*") if path.is_file()) <= 12e6


@pytest.mark.parametrize("page", sorted(REFERENCE.rglob("*.html")), ids=lambda path: path.stem)
def test_links_of_a_page_lead_somewhere_and_nothing_failed(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r'(?:href|src)="(?!https?:|data:|#)([^"]+)"', text):
        assert (page.parent / link).exists(), link
    assert "Traceback (most recent call last)" not in text


def test_the_readme_shows_three_of_its_figures():
    shown = re.findall(r"!\[[^\]]+\]\((outputs/reference/[^)]+\.png)\)", README)
    assert len(shown) == 3 and all((ROOT / path).is_file() for path in shown)
