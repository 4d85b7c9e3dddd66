"""The fused representation of late-fusion methods: bounded beside the backbone's output, and small at first."""

import pytest
import torch

from anga.baselines.fusion import START, make_fusion


@pytest.mark.parametrize("scale", [0.1, 1.0, 1e4])
def test_entries_have_the_same_size_whatever_comes_in(scale):
    torch.manual_seed(0)
    fused = make_fusion(12, 64)(scale * torch.randn(5, 3, 12))
    assert fused.shape == (5, 3, 64)
    assert torch.allclose(fused.square().mean(-1).sqrt(), torch.tensor(START), rtol=0.01)
    assert torch.allclose(fused.mean(-1), torch.zeros(5, 3), atol=1e-6)


def test_the_documented_count():
    assert sum(p.numel() for p in make_fusion(12, 64).parameters()) == 64 * (12 + 3)
