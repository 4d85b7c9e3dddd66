"""The loop that pretrains the small checkpoints, and what it feeds on; the tools are no package, so by their path."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from mini_corpora import parse_synset
from mini_data import contrast, trim
from mini_training import Schedule, fit
from mini_vocabulary import SEP

SCHEDULE = Schedule(steps=200, learning_rate=0.1, weight_decay=0.0, seed=3, device="cpu")


class Interrupted(Exception):
    """Stands for a killed process."""


def train(state: Path, stop_at: int | None = None) -> torch.Tensor:
    """Fit a linear map to noisy targets; returns its weights. Raises Interrupted in the step `stop_at`."""
    torch.manual_seed(0)
    model, calls = torch.nn.Linear(4, 2), []

    def losses(rng: np.random.Generator) -> dict[str, torch.Tensor]:
        calls.append(1)
        if stop_at == len(calls):
            raise Interrupted
        inputs = torch.from_numpy(rng.normal(size=(16, 4))).float()
        return {"fit": (model(inputs) - inputs[:, :2]).float().pow(2).mean()}

    fit(model, losses, SCHEDULE, state)
    return model.weight.detach()


def test_resumed_equals_uninterrupted(tmp_path):
    whole = train(tmp_path / "whole.pt")
    with pytest.raises(Interrupted):
        train(tmp_path / "stopped.pt", stop_at=150)
    assert torch.equal(train(tmp_path / "stopped.pt"), whole)
    torch.testing.assert_close(whole, torch.eye(2, 4), atol=0.1, rtol=0)


def test_state_of_another_schedule_is_not_resumed(tmp_path, monkeypatch):
    train(tmp_path / "state.pt")
    monkeypatch.setattr(sys.modules[__name__], "SCHEDULE", Schedule(100, 0.1, 0.0, 4, "cpu"))
    with pytest.raises(Interrupted):
        train(tmp_path / "state.pt", stop_at=1)


def test_cut_texts_end_in_the_separator():
    ids = torch.tensor([[2, 9, 9, 9, 9, 3, 0, 0], [2, 9, 3, 0, 0, 0, 0, 0]])
    assert trim(ids).tolist() == [[2, 9, 9, 9, 9, 3], [2, 9, 3, 0, 0, 0]]
    assert trim(ids, 4).tolist() == [[2, 9, 9, SEP], [2, 9, 3, 0]]


def test_contrast_spares_pairs_that_say_the_same():
    vectors = torch.eye(3)
    vectors[2] = vectors[1]
    same = vectors @ vectors.T > 0.9
    assert contrast(vectors, vectors, same, 50.0) < 1e-6
    assert contrast(vectors, vectors, torch.eye(3, dtype=torch.bool), 50.0) > 0.4


def test_wordnet_entries():
    line = '02121808 05 n 02 domestic_cat 0 house_cat 0 001 @ 02120997 n 0000 | any kept cat; "a cat slept"  '
    assert parse_synset(line) == ("domestic cat, house cat", "any kept cat")
    assert parse_synset(line.replace("domestic", "Domestic")) is None
    assert parse_synset("  1 This software and database is provided") is None
