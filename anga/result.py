"""What a run leaves behind, in memory and on disk."""

import json
import resource
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from anga.config import Config
from anga.datasets import Dataset
from anga.errors import AngaError
from anga.evaluation import best_cut, score_subsets, subsets
from anga.missing import MissingTable


@dataclass
class Result:
    """What a run leaves behind.

    Attributes:
        config: its knobs.
        metrics: `metrics[split][subset][metric]` of the best-validation model; splits validation and test.
        history: one row per epoch: mean loss, validation score, share of admitted samples, seconds so far.
        telemetry: one row per step: loss, case, cosine, shrink, norms and sizes of the groups.
        predictions: one row per validation and test sample: row, id, split, what it has, and its logits.
        seconds: wall time of training, evaluation included. What is made before the first epoch is not in it: tokens,
            retrieval and, without an adapter, the frozen backbone's output for all samples.
        peak_memory_mb: on a GPU, the most that its allocator held in this run, shared inputs included; on a CPU, peak
            resident memory of the process so far, whatever it did before this run.
        provenance: versions, commit, device, hashes; filled in by `anga.run`.
    """

    config: Config
    metrics: dict
    history: pd.DataFrame
    telemetry: pd.DataFrame
    predictions: pd.DataFrame
    seconds: float
    peak_memory_mb: float
    provenance: dict = field(default_factory=dict)

    def score(self, subset: str = "all", split: str = "test") -> float:
        """The task's own metric on one subset: all, complete, reconstructed, text_missing or image_missing."""
        return next(iter(self.metrics[split][subset].values()))

    def recut(self, dataset: Dataset, subset: str = "all") -> "Result":
        """The same run of a multi-label task, with its logits cut where F1-micro is best on validation samples.

        Logits are shifted so that the cut lies at 0, where all scores cut. The selected epoch stays what it was.

        Args:
            dataset: of the run.
            subset: which validation samples choose the cut: those of the kind that is to be scored.

        Raises:
            AngaError: the task is not a multi-label one.
        """
        if dataset.task != "multilabel":
            raise AngaError(f"recut: {dataset.name} is {dataset.task}; only multi-label tasks cut their logits.")
        columns = self.predictions.filter(regex=r"^logit_\d+$").columns
        known = self.predictions[self.predictions["split"] == "validation"]
        known = known[subsets(_table(known), np.arange(len(known)))[subset]]
        cut = best_cut(dataset.labels[known["row"]], known[columns].to_numpy())
        predictions = self.predictions.assign(**(self.predictions[columns] - cut))
        metrics = {}
        for split, part in predictions.groupby("split", sort=False):
            labels, logits = dataset.labels[part["row"]], part[columns].to_numpy()
            metrics[split] = score_subsets(dataset.task, labels, logits, _table(part), np.arange(len(part)))
        return replace(self, predictions=predictions, metrics=metrics)

    def save(self, folder: str | Path) -> None:
        """Write config.yaml, metrics.json, provenance.json, history.csv, telemetry.parquet, predictions.parquet."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(self.config.to_dict(), sort_keys=False))
        cost = {"seconds": self.seconds, "peak_memory_mb": self.peak_memory_mb}
        (folder / "metrics.json").write_text(json.dumps({"metrics": self.metrics, **cost}, indent=1))
        (folder / "provenance.json").write_text(json.dumps(self.provenance, indent=1))
        self.history.to_csv(folder / "history.csv", index=False)
        self.telemetry.to_parquet(folder / "telemetry.parquet", index=False)
        self.predictions.to_parquet(folder / "predictions.parquet", index=False)

    @classmethod
    def load(cls, folder: str | Path) -> "Result":
        """Read what `save` wrote.

        Raises:
            AngaError: a file is missing or broken.
        """
        folder = Path(folder)
        try:
            return cls(
                config=Config.from_yaml(folder / "config.yaml"),
                **json.loads((folder / "metrics.json").read_text()),
                provenance=json.loads((folder / "provenance.json").read_text()),
                history=pd.read_csv(folder / "history.csv"),
                telemetry=pd.read_parquet(folder / "telemetry.parquet"),
                predictions=pd.read_parquet(folder / "predictions.parquet"),
            )
        except (OSError, ValueError, TypeError) as error:
            raise AngaError(f"{folder}: the stored result cannot be read ({error}); delete this folder.") from None


def _table(predictions: pd.DataFrame) -> MissingTable:
    return MissingTable(predictions["has_text"].to_numpy(), predictions["has_image"].to_numpy())


def forget_peak_memory(device: torch.device) -> None:
    """At a run's start, let `peak_memory_mb` begin anew; on a CPU, whose peak is the process's, this does nothing."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory in MB: of the GPU's allocator since `forget_peak_memory`, or of the process so far, resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
