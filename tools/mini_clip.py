"""Train mini-clip: an open_clip model of a frozen EfficientNet-Lite0 and a small text transformer."""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mini_data import (
    CLIP_SIDE,
    SAME_MEANING,
    SEP,
    Material,
    contrast,
    distance,
    draw_limit,
    drop_words,
    plain_pooled,
    trim,
)
from mini_teachers import TRUNK
from mini_training import Schedule, fit
from torch import Tensor, nn

DIM, WIDTH, LAYERS, CONTEXT = 256, 192, 3, 32
BATCH, SENTENCES = 256, 192
RIDGE = 300.0


def configuration(n_words: int) -> dict:
    """The content of open_clip_config.json."""
    vision = {
        "timm_model_name": TRUNK,
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "timm_proj_bias": True,
        "image_size": CLIP_SIDE,
    }
    text = {
        "context_length": CONTEXT,
        "vocab_size": n_words,
        "hf_tokenizer_name": "mini-clip",
        "width": WIDTH,
        "heads": WIDTH // 64,
        "layers": LAYERS,
        "pool_type": "eos",
        "eos_id": SEP,
    }
    half = [0.5, 0.5, 0.5]
    return {
        "model_cfg": {"embed_dim": DIM, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {"mean": half, "std": half, "interpolation": "bicubic", "resize_mode": "squash"},
    }


class ClipTrainer(nn.Module):
    """The open_clip model together with what its losses need."""

    def __init__(self, material: Material, trunk: nn.Module, words: Tensor):
        super().__init__()
        import open_clip

        self.clip = open_clip.model.CLIP(**configuration(len(words))["model_cfg"])
        self.clip.visual.trunk.load_state_dict(trunk.state_dict())
        self.clip.visual.lock()
        self.clip.token_embedding.weight.data.copy_(words)
        self.material = material
        self.register_buffer("basis", principal_directions(material.sentence_vectors, DIM))
        start_projection(self.clip.visual.head.proj, material, self.basis)

    def losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Contrast of pictures and captions, and the text teacher's vectors as targets for both towers."""
        data = self.material
        rows = rng.choice(len(data.wordings), min(BATCH, len(data.wordings)), replace=False)
        captions = data.draw_captions(rows, rng)
        picture = F.dropout(data.draw_views(data.pooled, rows, rng).mean(1), 0.5)
        image = F.normalize(self.clip.visual.head(picture).float(), dim=-1)
        ids = trim(data.caption_ids[captions], min(CONTEXT, draw_limit(rng)))
        text = self.encode(drop_words(ids, 0.1, rng))
        taught = self.target(data.caption_vectors[captions])
        same = taught @ taught.T > SAME_MEANING
        scale = self.clip.logit_scale.exp().clamp(max=50)
        lone_ids, lone_taught = data.draw_sentences(SENTENCES, rng)
        return {
            "contrast": contrast(image, text, same, scale),
            "taught": contrast(image, taught, same, scale),
            "captions": 5 * distance(text, taught),
            "sentences": 5 * distance(self.encode(lone_ids), self.target(lone_taught)),
        }

    def encode(self, ids: Tensor) -> Tensor:
        """Token ids [B, L] -> unit vectors [B, DIM]: open_clip's encode_text, for texts shorter than its context.

        Attention is causal, so the padding that is left out has no influence.
        """
        clip, ids = self.clip, ids.to(self.material.device)
        hidden = clip.token_embedding(ids) + clip.positional_embedding[: ids.shape[1]]
        hidden = clip.transformer(hidden, attn_mask=clip.attn_mask[: ids.shape[1], : ids.shape[1]])
        last = clip.ln_final(hidden)[torch.arange(len(ids)), (ids == SEP).int().argmax(1)]
        return F.normalize((last @ clip.text_projection).float(), dim=-1)

    def target(self, vectors: Tensor) -> Tensor:
        """Teacher vectors [B, 384] -> unit vectors [B, DIM] in the space of their principal directions."""
        return F.normalize(vectors.to(self.basis.device) @ self.basis, dim=-1)


def principal_directions(vectors: Tensor, count: int) -> Tensor:
    """[D, count]: directions of most spread, the mean not taken out so that cosines are kept."""
    return torch.linalg.eigh(vectors.T @ vectors)[1].flip(1)[:, :count].contiguous()


def start_projection(projection: nn.Linear, material: Material, basis: Tensor) -> None:
    """Ridge regression from pooled picture features to the caption's teacher vector."""
    features = plain_pooled(material.pooled)
    targets = F.normalize(material.caption_vectors[[w[0] for w in material.wordings]] @ basis.cpu(), dim=-1)
    centre, middle = features.mean(0), targets.mean(0)
    spread = (features - centre).T @ (features - centre)
    weights = torch.linalg.solve(
        spread + RIDGE * spread.diagonal().mean() / 100 * torch.eye(len(spread)),
        (features - centre).T @ (targets - middle),
    )
    projection.weight.data.copy_(weights.T)
    projection.bias.data.copy_(middle - centre @ weights)


def train_clip(material: Material, trunk: nn.Module, words: Tensor, schedule: Schedule, state: Path):
    """Train; returns (open_clip model, minutes)."""
    trainer = ClipTrainer(material, trunk, words).to(schedule.device)
    minutes = fit(trainer, trainer.losses, schedule, state)
    return trainer.clip.eval(), minutes


def save_clip(clip: nn.Module, n_words: int, folder: Path) -> None:
    """Write config and weights: half precision, but the normalisation statistics, which need the range."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.float() if "running_" in name else value.half() if value.is_floating_point() else value
        for name, value in clip.state_dict().items()
    }
    save_file({name: value.contiguous().cpu() for name, value in state.items()}, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(configuration(n_words), indent=2) + "\n")
