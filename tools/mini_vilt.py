"""Train mini-vilt: transformers' ViltModel on grid features, with ViLT's objectives and the teachers' vectors."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mini_data import (
    CLS,
    MAX_LENGTH,
    PAD,
    SAME_MEANING,
    SEP,
    Material,
    contrast,
    distance,
    draw_limit,
    drop_words,
    trim,
)
from mini_start import picture_targets, similar_pairs, start_stem
from mini_teachers import TRUNK
from mini_training import Schedule, fit
from mini_vocabulary import MASK
from torch import Tensor, nn

from anga.backbone import Backbone
from anga.stem import HybridStem, install_stem

WIDTH, LAYERS, GRID = 256, 4, 4
BATCH = 28  # rows of each of the four kinds below
MATCH, SWAPPED, TEXT_ONLY, PICTURE_ONLY = range(4)
SENTENCES = 256  # texts without a picture, per step
NEIGHBOURS = 100  # half of the wrong texts come from that many most similar pairs, half from anywhere
HIDE, DROP_CELLS, DROP_CHANNELS = 0.15, 0.15, 0.3  # shares of masked words, unseen cells, features set to 0
PICTURE_DIM = 256  # principal components of the pooled picture features that are to be recovered


def configuration(n_words: int):
    """The ViltConfig; `hybrid_stem` says where the trunk of the stem is stored."""
    from transformers import ViltConfig

    trunk = {"architecture": TRUNK, "weights": "../mini-clip/open_clip_model.safetensors", "prefix": "visual.trunk."}
    return ViltConfig(
        vocab_size=n_words,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=WIDTH // 64,
        intermediate_size=4 * WIDTH,
        max_position_embeddings=MAX_LENGTH,
        image_size=32 * GRID,
        patch_size=32,
        pad_token_id=PAD,
        architectures=["ViltForImageAndTextRetrieval"],
        hybrid_stem=trunk,
    )


class ViltTrainer(nn.Module):
    """The ViltModel and the heads that only pretraining needs (all but the matching head `rank_output`)."""

    def __init__(self, material: Material, trunk: nn.Module, words: Tensor):
        super().__init__()
        from transformers import ViltModel

        self.material = material
        vilt = ViltModel(configuration(len(words)))
        vilt.embeddings.text_embeddings.word_embeddings.weight.data.copy_(words)
        install_stem(vilt, start_stem(trunk, material, WIDTH))
        self.backbone = Backbone(vilt, None, None, "mini-vilt", "")
        vilt.requires_grad_(True)
        self.stem.trunk.requires_grad_(False)
        self.rank_output = nn.Linear(WIDTH, 1)
        self.word_head = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.LayerNorm(WIDTH))
        self.text_head, self.text_mean_head = nn.Linear(WIDTH, 384), nn.Linear(WIDTH, 384)
        self.picture_head, self.cells_head = nn.Linear(WIDTH, PICTURE_DIM), nn.Linear(WIDTH, PICTURE_DIM)
        self.register_buffer("pictures", picture_targets(material, PICTURE_DIM), persistent=False)
        self.similar = similar_pairs(self.pictures, material, NEIGHBOURS)

    @property
    def stem(self) -> HybridStem:
        return self.backbone.vilt.embeddings.patch_embeddings.projection

    def losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Masked words, matching and teachers' vectors on pairs; words and vectors on lone sentences."""
        parts = self.pair_losses(rng)
        ids, taught = self.material.draw_sentences(SENTENCES, rng)
        shown = drop_words(ids, HIDE, rng)
        text = self.encode(shown, None, None)
        parts["sentences"] = self.text_loss(text, shown, taught)
        parts["words"] = parts["words"] + 0.5 * self.word_loss(text, ids, shown)
        return parts

    def pair_losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """The losses of a batch of pairs: matching, swapped, text only and picture only."""
        data = self.material
        pictures, texts, kinds = self.draw_rows(rng)
        captions = data.draw_captions(texts, rng)
        ids = trim(data.caption_ids[captions], draw_limit(rng)).to(data.device)
        shown = drop_words(ids, HIDE, rng)
        shown[kinds == PICTURE_ONLY] = empty_text(shown.shape[1]).to(shown.device)
        seen = torch.from_numpy(rng.random((len(kinds), GRID * GRID)) >= DROP_CELLS)
        seen[kinds == TEXT_ONLY] = False
        grids = data.draw_views(data.grids, pictures, rng)
        grids = grids * F.dropout(torch.ones_like(grids[:, :1]), DROP_CHANNELS)
        hidden = self.encode(shown, grids, seen.to(shown.device))
        taught = data.caption_vectors[captions].to(hidden.device)
        has_text, has_picture = (torch.from_numpy(kinds != k) for k in (PICTURE_ONLY, TEXT_ONLY))
        readable = torch.from_numpy(np.isin(kinds, [MATCH, TEXT_ONLY]))
        return {
            "words": self.word_loss(hidden[readable], ids[readable], shown[readable]),
            "texts": self.text_loss(hidden[has_text], shown[has_text], taught[has_text]),
            "pictures": self.picture_loss(hidden[has_picture], pictures[has_picture.numpy()]),
            "match": self.match_loss(hidden, kinds),
            "across": self.cross_loss(hidden, kinds, taught, pictures),
        }

    def draw_rows(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pair numbers of the pictures and of the texts, and the kind of each row, [4 * BATCH] each."""
        n = min(BATCH, len(self.similar) // 2)
        whole, split = np.split(rng.choice(len(self.similar), 2 * n, replace=False), 2)
        near = self.similar[whole, rng.integers(self.similar.shape[1], size=n)]
        wrong = np.where(rng.random(n) < 0.5, near, rng.permutation(whole))
        kinds = np.repeat([MATCH, SWAPPED, TEXT_ONLY, PICTURE_ONLY], n)
        kinds[n : 2 * n][wrong == whole] = MATCH
        return np.concatenate([whole, whole, split, split]), np.concatenate([whole, wrong, split, split]), kinds

    def encode(self, ids: Tensor, grids: Tensor | None, seen: Tensor | None) -> Tensor:
        """Final outputs [B, n_t (+ 1 + cells), d]; without `grids`, of the text alone."""
        text = self.backbone.embed_text(ids)
        if grids is None:
            image, image_mask = text[:, :0], torch.zeros(len(ids), 0, dtype=torch.bool, device=ids.device)
        else:
            cells = F.linear(grids, self.stem.weight.flatten(1), self.stem.bias)
            image = self.backbone.embed_cells(cells.mT.unflatten(2, (GRID, GRID)))
            image_mask = torch.cat([seen.any(1, keepdim=True), seen], dim=1)
        return self.backbone.encode_tokens(text, ids != PAD, image, image_mask)

    def word_loss(self, hidden: Tensor, ids: Tensor, shown: Tensor) -> Tensor:
        """Cross entropy of the masked words; the output matrix is the input one."""
        masked = (shown == MASK) & (ids != MASK)
        words = self.backbone.vilt.embeddings.text_embeddings.word_embeddings.weight
        logits = self.word_head(hidden[:, : ids.shape[1]][masked]) @ words.T
        return 0.3 * F.cross_entropy(logits.float() * 2.0, ids[masked])

    def text_loss(self, hidden: Tensor, shown: Tensor, taught: Tensor) -> Tensor:
        """Recover the text teacher's vector from [CLS] and from the mean of the text outputs."""
        mean = masked_mean(hidden[:, : shown.shape[1]], shown != PAD)
        return 2 * (distance(self.text_head(hidden[:, 0]), taught) + distance(self.text_mean_head(mean), taught))

    def picture_loss(self, hidden: Tensor, rows: np.ndarray) -> Tensor:
        """Recover the picture teacher's vector from [CLS] and from the mean of the image outputs."""
        target, mean = self.pictures[rows], hidden[:, -(GRID * GRID) - 1 :].mean(1)
        return 2 * (distance(self.picture_head(hidden[:, 0]), target) + distance(self.cells_head(mean), target))

    def match_loss(self, hidden: Tensor, kinds: np.ndarray) -> Tensor:
        """Binary cross entropy of matching against swapped pairs, from ViLT's pooler."""
        whole = torch.from_numpy(kinds <= SWAPPED)
        score = self.rank_output(self.backbone.pooler(hidden[whole, 0])).float().squeeze(-1)
        target = torch.from_numpy(kinds[kinds <= SWAPPED] == MATCH).to(score)
        return F.binary_cross_entropy_with_logits(score, target)

    def cross_loss(self, hidden: Tensor, kinds: np.ndarray, taught: Tensor, pictures: np.ndarray) -> Tensor:
        """From one modality alone, find the other's teacher vector among those of the batch."""
        rows = torch.from_numpy(kinds == PICTURE_ONLY)
        texts = F.normalize(taught[rows], dim=-1)
        same = texts @ texts.T > SAME_MEANING
        from_picture = F.normalize(self.text_head(hidden[rows, 0]).float(), dim=-1)
        from_text = F.normalize(self.picture_head(hidden[torch.from_numpy(kinds == TEXT_ONLY), 0]).float(), dim=-1)
        seen = F.normalize(self.pictures[pictures[kinds == PICTURE_ONLY]], dim=-1)
        return 0.3 * (contrast(from_picture, texts, same, 15.0) + contrast(from_text, seen, same, 10.0))


def empty_text(length: int) -> Tensor:
    """[CLS] [SEP] and padding."""
    ids = torch.full((length,), PAD)
    ids[:2] = torch.tensor([CLS, SEP])
    return ids


def masked_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean of [B, L, d] over the positions where `mask` is True."""
    weights = mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def train_vilt(material: Material, trunk: nn.Module, words: Tensor, schedule: Schedule, state: Path):
    """Train; returns (the trainer, which holds the model and its matching head; minutes)."""
    trainer = ViltTrainer(material, trunk, words).to(schedule.device)
    minutes = fit(trainer, trainer.losses, schedule, state)
    return trainer.eval(), minutes


def save_vilt(trainer: ViltTrainer, folder: Path) -> None:
    """Write config, image processor and weights in half precision; the trunk's lie with mini-clip."""
    from safetensors.torch import save_file
    from transformers import ViltImageProcessorPil

    vilt = trainer.backbone.vilt
    vilt.config.save_pretrained(folder)
    ViltImageProcessorPil(size={"shortest_edge": 32 * GRID}).save_pretrained(folder)
    state = {f"vilt.{name}": value for name, value in vilt.state_dict().items() if ".projection.trunk." not in name}
    state |= {f"rank_output.{name}": value for name, value in trainer.rank_output.state_dict().items()}
    save_file({name: value.half().contiguous().cpu() for name, value in state.items()}, folder / "model.safetensors")
