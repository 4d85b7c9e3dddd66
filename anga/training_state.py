"""What a run carries from epoch to epoch: model, optimiser, groups, scores, telemetry, and its checkpoint."""

import contextlib
import math
import time

import numpy as np
import pandas as pd
import torch

from anga.aligner import Alignment, GradientAligner
from anga.config import Config
from anga.curriculum import admit, anchor_ratio, prediction_entropy
from anga.errors import AngaError
from anga.evaluation import score_subsets
from anga.gradients import Group, GroupGradients, pick_form
from anga.inputs import Inputs, pick_precision
from anga.model import build_model
from anga.pooled import PooledBatches, rows_per_call
from anga.result import Result, peak_memory_mb
from anga.tokens import Batch


class TrainingState:
    """Everything a run carries from epoch to epoch."""

    def __init__(self, config: Config, inputs: Inputs):
        self.config, self.dataset, self.table = config, inputs.dataset, inputs.table
        self.identity = config.identity() + inputs.dataset.content_hash
        self.train_rows = inputs.training_rows(config.train_subset)
        self.n_training = len(inputs.training_rows("all"))
        self.model, self.device = build_model(config, inputs), inputs.bank.device
        self.precision = pick_precision(config.precision, self.device)
        self.make_batch = inputs.batch_maker(with_pools=self.model.reads == "pools")
        if self.model.reads == "pooled":
            alone = config.method != "anga"
            self.make_batch = PooledBatches(inputs, self.make_batch, self.precision, self.autocast, alone)
        self.first_epoch = self.model.pretrain_epochs  # of the stage whose models are validated
        self.last_epoch = self.first_epoch + config.epochs
        self.entropy = np.full(len(self.dataset), np.nan, np.float32)
        self.epoch, self.best_epoch, self.best_score, self.best_weights = 0, -1, -math.inf, self.model.kept()
        self.begin_stage()
        self.history: list[dict] = []
        self.telemetry: list[pd.DataFrame] = []
        self.steps: list[dict[str, torch.Tensor]] = []
        self.seen: list[tuple[np.ndarray, torch.Tensor]] = []  # rows and their entropies, of this epoch's steps
        self.seconds, self.started = 0.0, time.perf_counter()

    def begin_stage(self) -> None:
        """A fresh optimiser and schedule for what learns now; the second stage has the config's rows and epochs."""
        config, learned = self.config, list(self.model.learned(self.epoch).values())
        self.stage_rows, self.stage_epochs = self.train_rows, config.epochs
        self.epoch_samples = self.n_training if config.epoch_steps == "all" else len(self.train_rows)
        if self.epoch < self.first_epoch:
            self.stage_epochs = self.first_epoch
            if self.model.pretrain_subset == "complete":
                self.stage_rows = self.train_rows[self.table.complete[self.train_rows]]
            self.epoch_samples = len(self.stage_rows)
        if not len(self.stage_rows):
            raise AngaError(
                f"method: {config.method} first learns from complete samples, and no training sample is complete; "
                "lower missing_rate, or choose another method."
            )
        rates = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
        self.optimizer = torch.optim.AdamW(learned, **rates, fused=True)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        self.aligner = GradientAligner(learned, config.cos_threshold, config.update_base, config.update_rule)

    def _rate(self, step: int) -> float:
        """Linear warm-up over the first part of a stage's steps, then linear decay to zero."""
        total = self.stage_epochs * math.ceil(self.epoch_samples / self.config.batch_size)
        rising = max(1.0, self.config.warmup * total)
        return min(1.0, (step + 1) / rising, (total - step) / max(1.0, total - rising))

    def finished(self) -> bool:
        """All epochs done, or no better validation score for `patience` epochs."""
        waited = self.epoch - 1 - max(self.best_epoch, self.first_epoch - 1)
        return self.epoch >= self.last_epoch or (self.epoch > self.first_epoch and waited >= self.config.patience)

    def batches(self):
        """Row numbers of one epoch's batches, in an order drawn from (train_seed, epoch)."""
        generator = np.random.default_rng([self.config.train_seed, self.epoch])
        passes = math.ceil(self.epoch_samples / len(self.stage_rows))
        order = np.concatenate([generator.permutation(self.stage_rows) for _ in range(passes)])[: self.epoch_samples]
        for start in range(0, len(order), self.config.batch_size):
            yield order[start : start + self.config.batch_size]

    def autocast(self):
        """bfloat16 for the forward pass, or nothing; what is aligned is float32 either way."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def group_gradients(self, batch: Batch, group: np.ndarray) -> GroupGradients:
        """The groups' mean gradients, in the form that suits config and method (Eqs. 4 and 8)."""
        with self.autocast():
            return pick_form(self.config, self.model, self.epoch)(self.model, batch, group, self.epoch)

    # --- curriculum

    def assign_groups(self) -> np.ndarray:
        """Group code of every sample; the anchor set A_z stays the same for the whole epoch (Eq. 7)."""
        config = self.config
        group = np.where(self.table.complete, Group.COMPLETE, Group.REMAINING)
        reconstructed = self.train_rows[~self.table.complete[self.train_rows]]
        z = self.epoch - self.first_epoch
        ratio = anchor_ratio(z, config.lambda_min, config.lambda_max, config.grow_epochs)
        if not config.use_alignment or ratio == 0 or z < 0:
            return group
        if config.admission != "random" and (config.ranking == "epoch_start" or z == 0):
            self.entropy[reconstructed] = self._entropy_of(self.logits(reconstructed)).cpu().numpy()
        generator = np.random.default_rng([config.train_seed, self.epoch, 1])
        admitted = admit(self.entropy[reconstructed], ratio, config.admission, generator)
        group[reconstructed[admitted]] = Group.ADMITTED
        return group

    def _entropy_of(self, logits: torch.Tensor) -> torch.Tensor:
        multilabel = self.config.multilabel_entropy if self.dataset.task == "multilabel" else None
        return prediction_entropy(logits, multilabel)

    # --- evaluation

    @torch.no_grad()
    def logits(self, rows: np.ndarray) -> torch.Tensor:
        """Logits `[n, k]` of some rows."""
        parts = [torch.zeros(0, self.model.n_classes, device=self.device)]
        size = rows_per_call(self.device)
        for start in range(0, len(rows), size):
            with self.autocast():
                parts.append(self.model(self.make_batch(rows[start : start + size])))
        return torch.cat(parts)

    def score(self, split: str) -> tuple[dict, pd.DataFrame]:
        """Metrics by subset, and one row of predictions per sample."""
        rows = self.dataset.rows(split)
        logits = self.logits(rows).cpu().numpy()
        if not np.isfinite(logits).all():
            raise self._diverged(f"the {split} predictions after epoch {self.epoch + 1} are not finite")
        metrics = score_subsets(self.dataset.task, self.dataset.labels[rows], logits, self.table, rows)
        known = {"row": rows, "id": self.dataset.ids[rows], "split": split}
        known |= {"has_text": self.table.has_text[rows], "has_image": self.table.has_image[rows]}
        return metrics, pd.DataFrame({**known, **{f"logit_{j}": logits[:, j] for j in range(logits.shape[1])}})

    # --- bookkeeping

    def log_step(self, rows: np.ndarray, gradients, alignment: Alignment) -> None:
        """Keep the step's telemetry on the device; it is read once per epoch, so that no step waits for it."""
        names = ("complete", "admitted", "remaining", "anchor")
        logged = {"loss": gradients.losses.mean(), "case": alignment.case, "cosine": alignment.cosine}
        logged |= {"shrink": alignment.shrink} | {f"norm_{n}": v for n, v in zip(names, alignment.norms, strict=True)}
        logged |= {f"n_{n}": torch.tensor(c) for n, c in zip(names[:3], alignment.counts, strict=True)}
        logged |= {f"term_{name}": value for name, value in gradients.terms.items()}
        self.steps.append(logged)
        if self.config.use_alignment and self.config.ranking == "running":
            self.seen.append((rows, self._entropy_of(gradients.logits)))

    def end_epoch(self, group: np.ndarray) -> None:
        """Read the telemetry, validate, and remember the best model.

        Raises:
            AngaError: a loss of this epoch, or a prediction after it, is not finite.
        """
        columns = {name: torch.stack([s[name] for s in self.steps]).cpu().numpy() for name in self.steps[0]}
        telemetry, self.steps = pd.DataFrame(columns), []
        telemetry.insert(0, "epoch", self.epoch)
        for rows, entropy in self.seen:
            self.entropy[rows] = entropy.cpu().numpy()
        self.seen = []
        broken = np.flatnonzero(~np.isfinite(telemetry["loss"]))
        if len(broken):
            raise self._diverged(f"the loss is not finite from step {broken[0] + 1} of epoch {self.epoch + 1} on")
        self.telemetry.append(telemetry)
        scores = self._validate()
        validation = scores[self.config.selecting_subset]
        if validation > self.best_score:
            self.best_epoch, self.best_score, self.best_weights = self.epoch, validation, self.model.kept()
        sizes = telemetry[["n_complete", "n_admitted", "n_remaining"]].sum(axis=1)
        self.history.append(
            {
                "epoch": self.epoch,
                "loss": float(np.average(telemetry["loss"], weights=sizes)),
                "validation": validation,
                "validation_complete": scores["complete"],
                "validation_reconstructed": scores["reconstructed"],
                "admitted": float((group[self.train_rows] == Group.ADMITTED).mean()),
                "seconds": self.elapsed(),
            }
        )
        self.epoch += 1
        if self.epoch == self.first_epoch:
            self.begin_stage()

    def _validate(self) -> dict[str, float]:
        """The selecting metric of each subset; NaN in a first stage, whose model is not the one to be used."""
        if self.epoch < self.first_epoch:
            return dict.fromkeys(("all", "complete", "reconstructed"), math.nan)
        scores = {name: next(iter(part.values())) for name, part in self.score("validation")[0].items()}
        subset = self.config.selecting_subset
        if math.isnan(scores[subset]):
            raise AngaError(
                f"validation: no score can be given for {subset} samples of {self.dataset.name} (none are there, or "
                "all have one class), so no epoch is the best; change missing_rate, train_subset or select_on."
            )
        return scores

    def _diverged(self, what: str) -> AngaError:
        rate = self.config.learning_rate
        return AngaError(f"training: {what}; lower learning_rate (now {rate}); checkpoints stop at the epoch before.")

    def elapsed(self) -> float:
        """Seconds of this run, those before an interruption included."""
        return self.seconds + time.perf_counter() - self.started

    def result(self) -> Result:
        """Scores of the best-validation model; the only look at the test split."""
        self.model.load_state_dict(self.best_weights, strict=False)
        scored = {split: self.score(split) for split in ("validation", "test")}
        return Result(
            config=self.config,
            metrics={split: metrics for split, (metrics, _) in scored.items()},
            history=pd.DataFrame(self.history),
            telemetry=pd.concat(self.telemetry, ignore_index=True),
            predictions=pd.concat([predictions for _, predictions in scored.values()], ignore_index=True),
            seconds=self.elapsed(),
            peak_memory_mb=peak_memory_mb(self.device),
        )
