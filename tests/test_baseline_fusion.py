"""What late-fusion methods share: a representation that is bounded and small at first, hiding that equals missing."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from tiny_world import tiny_config

from anga.baselines.fusion import START, hide, make_fusion, widen
from anga.training_state import TrainingState


@pytest.mark.parametrize("scale", [0.1, 1.0, 1e4])
def test_entries_have_the_same_size_whatever_comes_in(scale):
    torch.manual_seed(0)
    fused = make_fusion(12, 64)(scale * torch.randn(5, 3, 12))
    assert fused.shape == (5, 3, 64)
    assert torch.allclose(fused.square().mean(-1).sqrt(), torch.tensor(START), rtol=0.01)
    assert torch.allclose(fused.mean(-1), torch.zeros(5, 3), atol=1e-6)


def test_the_documented_count():
    assert sum(p.numel() for p in make_fusion(12, 64).parameters()) == 64 * (12 + 3)


def outputs_of(world, rows: np.ndarray, **knobs):
    """A batch of the backbone's outputs."""
    config = tiny_config(method="shaspec", **knobs)
    return TrainingState(config, world.inputs(config)).make_batch(rows)


def test_hiding_a_modality_of_a_complete_sample_equals_its_being_missing(world):
    rows, everywhere, nowhere = np.arange(12), torch.ones(12, dtype=torch.bool), torch.zeros(12, dtype=torch.bool)
    whole = outputs_of(world, rows, missing_rate=0.0)
    for kind, lost in {"text": (everywhere, nowhere), "image": (nowhere, everywhere)}.items():
        missing = outputs_of(world, rows, missing_rate=1.0, missing_type=kind)
        hidden = hide(whole, *lost)
        for field in fields(hidden):
            found, wanted = getattr(hidden, field.name), getattr(missing, field.name)
            assert found is wanted is None or torch.allclose(found.float(), wanted.float(), atol=1e-5), field.name


def test_only_what_is_named_is_hidden(world):
    batch = outputs_of(world, np.arange(4), missing_rate=0.0)
    text, image = torch.tensor([[True, False, False, False], [False, True, False, False]])
    view = hide(batch, text, image)
    assert view.has_text.tolist() == [False, True, True, True]
    assert view.has_image.tolist() == [True, False, True, True]
    assert not view.pooled_text[0].any() and torch.equal(view.pooled_text[1:], batch.pooled_text[1:])
    assert not view.pooled_image[1].any() and torch.equal(view.pooled_image[0], batch.pooled_image[0])
    assert torch.equal(view.pooled[0], batch.pooled_image[0])
    assert torch.equal(view.pooled[1], batch.pooled_text[1])
    assert torch.equal(view.pooled[2:], batch.pooled[2:])
    assert batch.has_text.all() and batch.has_image.all(), "the batch itself has changed"


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_numbers_are_widened_and_never_narrowed(narrow):
    x = torch.randn(3, dtype=torch.float64)
    assert widen(x.to(narrow)).dtype == widen(x.float()).dtype == torch.float32
    assert widen(x) is x
