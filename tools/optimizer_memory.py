"""Is it AdamW's memory of a classifier's first steps that makes a gap? `python tools/optimizer_memory.py`

On clipart-keywords with 70 % of the texts missing and no stand-ins, joint training and its bound are trained as usual,
with AdamW's running means thrown away after two epochs, with a shorter memory of squared gradients, and from the prior;
and, for control, from the prior with the means thrown away as well. If the first steps harm by what AdamW remembers of
them, forgetting must do what the prior does, and do nothing where the prior has spared the first steps.

Writes outputs/reference/optimizer_memory/; 90 short trainings, a quarter of an hour on one core.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from anga import Config
from anga.inputs import prepare
from anga.runs import provenance
from anga.statistics import difference_interval, resampled_scores, summarise
from anga.training import finish
from anga.training_state import TrainingState

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "outputs" / "reference" / "optimizer_memory"
ALL_KEPT = {"beta2": 0.999, "forgets": False}
TREATMENTS = {  # the classifier's start, and what AdamW does
    "from one half": {"head_bias": "zero", **ALL_KEPT},
    "from one half, means thrown away": {"head_bias": "zero", **ALL_KEPT, "forgets": True},
    "from one half, β₂ = 0.99": {"head_bias": "zero", **ALL_KEPT, "beta2": 0.99},
    "from the prior": {"head_bias": "prior", **ALL_KEPT},
    "from the prior, means thrown away": {"head_bias": "prior", **ALL_KEPT, "forgets": True},
}
TRAININGS = {"joint": {}, "bound": {"train_subset": "complete"}}
KEPT_EPOCHS = 2  # whose means are thrown away; there are 20
SEEDS = range(9)


class Forgetting(TrainingState):
    """A run whose AdamW has another memory of squared gradients, and may lose its running means early."""

    def __init__(self, config: Config, inputs, beta2: float, forgets: bool):
        super().__init__(config, inputs)
        self.forgets = forgets
        for group in self.optimizer.param_groups:
            group["betas"] = (group["betas"][0], beta2)

    def batches(self) -> Iterator[np.ndarray]:
        if self.forgets and self.epoch == KEPT_EPOCHS:
            self.optimizer.state.clear()
        yield from super().batches()


def main() -> None:
    torch.set_num_threads(1)
    results = {}
    with tqdm(total=len(SEEDS) * len(TREATMENTS) * len(TRAININGS), unit="run") as bar:
        for seed in SEEDS:
            knobs = {"dataset": "clipart-keywords", "missing_type": "text", "missing_rate": 0.7, "epochs": 20}
            knobs |= {"mask_seed": seed, "train_seed": seed, "epoch_steps": "all"}
            knobs |= dict.fromkeys(("use_retrieval", "use_alignment", "use_adapter"), False)
            inputs = prepare(Config.from_dict(knobs), ROOT / "outputs")
            for treatment, how in TREATMENTS.items():
                for training, subset in TRAININGS.items():
                    config = Config.from_dict({**knobs, **subset, "head_bias": how["head_bias"]})
                    state = Forgetting(config, inputs, how["beta2"], how["forgets"])
                    results.setdefault((treatment, training), []).append(finish(state, progress=False))
                    bar.update()
    FOLDER.mkdir(parents=True, exist_ok=True)
    _table(results, inputs.dataset).to_csv(FOLDER / "table.csv", index=False, float_format="%.6g")
    facts = provenance(Config.from_dict(knobs), inputs.dataset.content_hash) | {"runs": sum(map(len, results.values()))}
    (FOLDER / "provenance.json").write_text(json.dumps(facts, indent=1) + "\n")


def _table(results: dict, dataset) -> pd.DataFrame:
    """Per treatment: test scores of joint training, and the imbalance gap on complete test samples; as it is and with
    each run cut where it is best on validation samples."""
    rows = []
    for treatment in TREATMENTS:
        joint, bound = (results[treatment, training] for training in TRAININGS)
        for row in summarise(joint, dataset, ["all", "complete"]).itertuples():
            rows.append((treatment, "joint", row.subset, row.mean, row.low, row.high))
        for kind, cut in (("gap", list), ("gap, own cut", lambda runs: [r.recut(dataset, "complete") for r in runs])):
            sides = [resampled_scores(cut(runs), dataset, "complete") for runs in (joint, bound)]
            ends = difference_interval(*sides, [result.config.mask_seed for result in joint])
            rows.append((treatment, kind, "complete", *ends))
    return pd.DataFrame(rows, columns=["treatment", "what", "subset", "mean", "low", "high"])


if __name__ == "__main__":
    main()
