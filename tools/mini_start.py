"""What mini-vilt starts from and aims at, computed once from the teachers' features."""

import numpy as np
import torch
import torch.nn.functional as F
from mini_data import SAME_MEANING, Material, plain_pooled
from mini_teachers import TRUNK
from torch import Tensor, nn

from anga.stem import HybridStem


def start_stem(trunk: nn.Module, material: Material, width: int) -> HybridStem:
    """Stem whose projection yields the principal components of the cells, the strong ones somewhat damped."""
    stem = HybridStem(TRUNK, width)
    stem.trunk.load_state_dict(trunk.state_dict())
    cells = torch.from_numpy(material.grids[:, 0].astype(np.float32)).flatten(0, 1)
    centre, directions, spread = principal_components(cells, width)
    weights = directions / spread.sqrt()
    weights *= 0.5 / ((cells[:5000] - centre) @ weights).std()
    stem.weight.data.copy_(weights.T[..., None, None])
    stem.bias.data.copy_(-centre @ weights)
    return stem


def principal_components(rows: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """(mean [D], directions [D, count], standard deviations [count]) of rows [N, D]."""
    centre = rows.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((rows - centre).T))
    return centre, vectors.flip(1)[:, :count], values.flip(0)[:count].clamp(min=1e-8).sqrt()


def picture_targets(material: Material, count: int) -> Tensor:
    """[N, count]: principal components of the pooled features, the strong ones somewhat damped."""
    pooled = plain_pooled(material.pooled).to(material.device)
    centre, directions, spread = principal_components(pooled, count)
    return (pooled - centre) @ (directions / spread.sqrt())


def similar_pairs(pictures: Tensor, material: Material, count: int) -> np.ndarray:
    """int [N, count]: for each pair, those alike in text and picture, but for the ones that say the same."""
    texts = material.caption_vectors[[rows[0] for rows in material.wordings]]
    pictures = F.normalize(pictures.cpu(), dim=-1)
    alike = texts @ texts.T
    likeness = (alike + pictures @ pictures.T).masked_fill(alike > SAME_MEANING, -9.0)
    return likeness.topk(min(count, len(likeness) - 1)).indices.numpy()
