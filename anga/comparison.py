"""Many methods on the same missing tables: all paired differences, who stands out, and the published numbers."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import average_precision_score

from anga.backbone import Backbone
from anga.baselines import build_baseline
from anga.config import Config
from anga.datasets import Dataset
from anga.errors import AngaError
from anga.evaluation import METRIC_NAMES, subsets
from anga.grids import SUBSETS, GridRuns
from anga.inputs import load_config_dataset
from anga.missing import MissingTable
from anga.model import AngaModel
from anga.published import COUNTERPARTS, NAMES, published
from anga.result import Result
from anga.statistics import check_pairs, difference_interval, paired_difference, resampled_scores, summarise

AXES = ["dataset", "missing_type", "method"]
CELL = AXES[:2]
SEEDS = ["mask_seed", "train_seed"]


def table1() -> pd.DataFrame:
    """Table 1 of the paper: method, family, data (its data set's name), missing_type, score (fractions)."""
    table = published().query("table == 'Table 1'").rename(columns={"row": "method"})
    return table.assign(data=table["dataset"].map(NAMES), score=table["percent"] / 100).drop(
        columns=["table", "dataset", "percent"]
    )


def original(dataset: str) -> str | None:
    """Name of the paper's data set that a task is, or is of the same kind as."""
    return NAMES.get(COUNTERPARTS.get(dataset, dataset))


def learnable_parameters(config: Config, backbone: Backbone, n_classes: int) -> int:
    """How many numbers a config's method learns, in all its stages together."""
    build = AngaModel if config.method == "anga" else build_baseline
    with torch.random.fork_rng(devices=[]):
        return sum(p.numel() for p in build(config, backbone, n_classes).trainable().values())


@dataclass(frozen=True)
class Comparison:
    """The runs of several grids, whose axes are dataset, missing_type and method.

    Attributes:
        table: one row per run: dataset, missing_type, method, mask_seed, train_seed; row i belongs to results[i].
        results: the runs.
    """

    table: pd.DataFrame
    results: list[Result]

    @classmethod
    def of(cls, *grids: GridRuns) -> "Comparison":
        """All runs of some grids.

        Raises:
            AngaError: a grid has other axes, or two of them have the same method, missing table and seeds.
        """
        for runs in grids:
            if sorted(runs.grid.axes) != sorted(AXES):
                found = ", ".join(runs.grid.axes)
                raise AngaError(f"{runs.grid.name}: the axes must be {', '.join(AXES)}, not {found}; mend the grid.")
        table = pd.concat([runs.table[AXES + SEEDS] for runs in grids], ignore_index=True)
        twice = table[table.duplicated()]
        if len(twice):
            raise AngaError(f"comparison: two grids have {dict(twice.iloc[0])}; name each method in one grid alone.")
        return cls(table, [result for runs in grids for result in runs.results])

    @property
    def methods(self) -> list[str]:
        """Those of the paper in its order, then the others in that of the grids."""
        found, known = self.table["method"].unique(), table1()["method"].unique()
        return [m for m in known if m in found] + [m for m in found if m not in known]

    @property
    def cells(self) -> list[tuple[str, str]]:
        """All pairs of dataset and missing_type, as columns of a table."""
        return [tuple(cell) for cell in self.table[CELL].drop_duplicates().to_numpy()]

    def at(self, dataset: str, missing_type: str, method: str) -> dict[tuple[int, int], Result]:
        """A method's runs in a cell, by (mask_seed, train_seed)."""
        mine = (self.table[AXES] == [dataset, missing_type, method]).all(axis=1)
        rows = self.table.index[mine]
        return {tuple(self.table.loc[row, SEEDS]): self.results[row] for row in rows}

    def dataset(self, name: str) -> Dataset:
        """The data of the runs on a task."""
        return load_config_dataset(self.results[self.table.index[self.table["dataset"] == name][0]].config)

    def scores(self) -> pd.DataFrame:
        """One row per run: the table's columns and score, on all test samples."""
        return self.table.assign(score=[result.score() for result in self.results])

    def summary(self) -> pd.DataFrame:
        """One row per cell and method: dataset, metric, missing_type, method, mean, low, high, runs, over."""
        rows = []
        for name, missing_type in self.cells:
            data = self.dataset(name)
            for method in self.methods:
                if runs := list(self.at(name, missing_type, method).values()):
                    where = {"dataset": name, "metric": METRIC_NAMES[data.metric], "missing_type": missing_type}
                    row = summarise(runs, data, ["all"]).iloc[0].drop("subset")
                    rows.append({**where, "method": method, **row})
        return pd.DataFrame(rows)

    def multilabel(self) -> "Comparison":
        """The runs of multi-label tasks."""
        kept = [i for i, name in enumerate(self.table["dataset"]) if self.dataset(name).task == "multilabel"]
        return Comparison(self.table.iloc[kept].reset_index(drop=True), [self.results[i] for i in kept])

    def recut(self, subset: str = "all") -> "Comparison":
        """Runs of multi-label tasks, each cut where it is best on validation samples of a subset (`Result.recut`)."""
        named = zip(self.results, self.table["dataset"], strict=True)
        return Comparison(self.table, [result.recut(self.dataset(name), subset) for result, name in named])

    def additions(self, subset: str = "all") -> pd.DataFrame:
        """What "X + GA" and "X + group means" gain over X, and "X + GA" over "X + group means", on their common seeds.

        Returns:
            dataset, missing_type, method, minus, subset, mean, low, high, runs; see `paired_difference`.
        """
        rows = []
        for cell in self.cells:
            for method in (m for m in self.methods if " + " in m):
                base = method.split(" + ")[0]
                for minus in (base, f"{base} + group means"):
                    sides = [self.at(*cell, name) for name in (minus, method)]
                    seeds = sorted(sides[0].keys() & sides[1].keys()) if minus != method else []
                    if seeds:
                        chosen = [[side[pair] for pair in seeds] for side in sides]
                        ends = paired_difference(*chosen, self.dataset(cell[0]), subset)
                        rows.append((*cell, method, minus, subset, *ends, len(seeds)))
        return pd.DataFrame(rows, columns=[*AXES, "minus", "subset", "mean", "low", "high", "runs"])

    def sureness(self) -> pd.DataFrame:
        """Runs of multi-label tasks, one row per run and subset of its test samples: the table's columns, subset, and

        - predicted: labels per sample whose sigmoid is above 0.5;
        - average_precision: micro, over all pairs of a sample and a label; it asks whether true labels are ranked above
          false ones, and needs no cut.

        Both are NaN for a subset without samples.
        """
        found = []
        for run, result in zip(self.table.to_dict("records"), self.results, strict=True):
            test = result.predictions[result.predictions["split"] == "test"]
            logits = test.filter(regex=r"^logit_\d+$").to_numpy()
            labels = self.dataset(run["dataset"]).labels[test["row"].to_numpy()]
            missing = MissingTable(test["has_text"].to_numpy(), test["has_image"].to_numpy())
            masks = subsets(missing, np.arange(len(test)))
            for subset, mask in ((name, masks[name]) for name in SUBSETS):
                predicted = precision = float("nan")
                if mask.any():
                    predicted = (logits[mask] > 0).sum(axis=1).mean()
                    precision = average_precision_score(labels[mask], logits[mask], average="micro")
                found.append({**run, "subset": subset, "predicted": predicted, "average_precision": precision})
        return pd.DataFrame(found)

    def pairs(self, n_resamples: int = 200) -> pd.DataFrame:
        """Every pair of methods in every cell, on the seeds that both have: first minus second, on all test samples.

        Returns:
            dataset, missing_type, first, second, mean, low, high, runs; the interval is that of `paired_difference`.

        Raises:
            AngaError: runs that stand under the same seeds are no pairs (`check_pairs`).
        """
        rows = []
        for cell in self.cells:
            data, drawn, partners = self.dataset(cell[0]), {}, {}
            runs = {method: found for method in self.methods if (found := self.at(*cell, method))}
            for first, second in combinations(runs, 2):
                seeds = tuple(sorted(runs[first].keys() & runs[second].keys()))
                for method in (first, second):
                    if seeds and (method, seeds) not in drawn:
                        chosen = [runs[method][key] for key in seeds]
                        check_pairs(partners.setdefault(seeds, chosen), chosen)
                        drawn[method, seeds] = resampled_scores(chosen, data, n_resamples=n_resamples)
                if seeds:
                    ends = difference_interval(drawn[second, seeds], drawn[first, seeds], [mask for mask, _ in seeds])
                    rows.append((*cell, first, second, *ends, len(seeds)))
        return pd.DataFrame(rows, columns=[*CELL, "first", "second", "mean", "low", "high", "runs"])


def both_ways(pairs: pd.DataFrame) -> pd.DataFrame:
    """Every pair twice, once from either side: its columns, first minus second."""
    turned = pairs.rename(columns={"first": "second", "second": "first"})
    turned = turned.assign(mean=-pairs["mean"], low=-pairs["high"], high=-pairs["low"])
    return pd.concat([pairs, turned], ignore_index=True)[pairs.columns]


def standings(summary: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """The summary with two columns: `mark` and `behind`.

    mark: "best" where a method's paired intervals against all others lie above zero; "second" where there is a best
    and those against all but the best do; else empty. behind: whether the interval against the method with the highest
    mean lies below zero.
    """
    wins = both_ways(pairs)
    parts = []
    for cell, rows in summary.groupby(CELL, sort=False):
        here = wins[(wins[CELL] == list(cell)).all(axis=1)]
        beaten = {m: set(here[(here["first"] == m) & (here["low"] > 0)]["second"]) for m in rows["method"]}
        everybody = set(rows["method"])
        best = [m for m in beaten if len(everybody) > 1 and beaten[m] == everybody - {m}]
        rest = everybody - set(best) if best else set()
        second = [m for m in rest if len(rest) > 1 and beaten[m] == rest - {m}]
        mark = dict.fromkeys(everybody, "") | dict.fromkeys(best, "best") | dict.fromkeys(second, "second")
        leader = best[0] if best else rows.loc[rows["mean"].idxmax(), "method"]
        behind = rows["method"].isin(beaten[leader])
        parts.append(rows.assign(mark=rows["method"].map(mark), behind=behind))
    return pd.concat(parts, ignore_index=True)


def beside_published(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table by dataset, missing_type and method that the paper has as well.

    Three columns are added: data, the paper's data set of the same kind; paper, its score; comparable, whether it is
    the same data set.
    """
    known = table1().drop(columns="family").rename(columns={"score": "paper"})
    table = table.assign(data=table["dataset"].map(original))
    merged = table.merge(known, on=["data", "missing_type", "method"])
    return merged.assign(comparable=merged["dataset"].isin(NAMES))


def orders(pairs: pd.DataFrame) -> pd.DataFrame:
    """Every published order of two methods that both have runs, and what ours say of it.

    Returns:
        data, dataset, missing_type, better, worse (by the paper), margin (its difference), mean, low, high (ours,
        better minus worse), verdict: holds (the interval lies above zero), reversed (below) or open.
    """
    known = {(r.data, r.missing_type, r.method): r.score for r in table1().itertuples()}
    rows = []
    for pair in both_ways(pairs).itertuples():
        data = original(pair.dataset)
        first, second = (known.get((data, pair.missing_type, method)) for method in (pair.first, pair.second))
        if first is not None and second is not None and first > second:
            verdict = "holds" if pair.low > 0 else "reversed" if pair.high < 0 else "open"
            where = {"data": data, "dataset": pair.dataset, "missing_type": pair.missing_type}
            names = {"better": pair.first, "worse": pair.second, "margin": first - second}
            rows.append({**where, **names, "mean": pair.mean, "low": pair.low, "high": pair.high, "verdict": verdict})
    columns = ["data", *CELL, "better", "worse", "margin", "mean", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns)
