"""The frozen vision-language transformer (ViLT): embedding, and encoding with prompts at layer b (Eq. 1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anga.checkpoints import EMBEDDED, checkpoint_hash, embedded_folder, hub_folder
from anga.errors import AngaError
from anga.layer import apply_layer, rows_to_pack
from anga.stem import load_hybrid

HUB_FILES = [["*.json", "*.txt", weights] for weights in ("*.safetensors", "pytorch_model.bin")]
NEEDED = {
    "config.json": ["config.json"],
    "preprocessor_config.json": ["preprocessor_config.json"],
    "a tokenizer (tokenizer.json or vocab.txt)": ["tokenizer.json", "vocab.txt"],
    "weights (*.safetensors or *.bin)": ["*.safetensors", "*.bin"],
}


@dataclass
class LayerPrompts:
    """Prompts of several layers, as the compared methods use them.

    Attributes:
        by_layer: layer number (from 1) -> prompts `[B, n_p, d]`.
        form: "input": they join the layer's input, visible to all tokens, and stay to the end; "deep": likewise, but
            those of the layer before leave; "attention": the first half are more keys, the second half more values.
    """

    by_layer: dict[int, Tensor]
    form: str = "input"


@dataclass
class Crossing:
    """One pass through the backbone, cut off from what is computed before and after it.

    Attributes:
        entered: tokens and prompts that depend on what learns, `[B, ...]` each.
        inside: the same as leaves, on which `output` depends and nothing else does.
        output: `[B, d]`.
        left: the same as a leaf, which was handed on.
    """

    entered: list[Tensor]
    inside: list[Tensor]
    output: Tensor
    left: Tensor


class Backbone(nn.Module):
    """A frozen ViltModel whose two halves, embedding and encoding, are called apart.

    d is the width, n_t the number of text tokens, n_v = 1 + grid cells (the image's own [CLS] first), n_p the
    number of prompts. All methods are deterministic: patches keep their raster order, and dropout stays off.
    """

    def __init__(self, vilt: nn.Module, tokenizer, image_processor, name: str, content_hash: str):
        super().__init__()
        self.vilt = vilt.eval().requires_grad_(False)
        self.tokenizer, self.image_processor = tokenizer, image_processor
        self.name, self.content_hash = name, content_hash
        self.dim, self.n_layers = vilt.config.hidden_size, vilt.config.num_hidden_layers
        self.pooler = nn.Sequential(vilt.pooler.dense, nn.Tanh())
        self._compiled, self._crossings = None, None

    def compile_layers(self) -> "Backbone":
        """Let torch compile its layers on first use, one graph for all lengths; needs a C++ or CUDA compiler."""
        self._compiled = torch.compile(apply_layer, dynamic=True)
        return self

    @contextmanager
    def cut_off(self) -> Iterator[list[Crossing]]:
        """Within, each call of `encode` is a `Crossing` of the list, so that gradients can be taken piece by piece."""
        self._crossings = []
        try:
            yield self._crossings
        finally:
            self._crossings = None

    def apply_layer(self, layer: nn.Module, hidden: Tensor, mask: Tensor, **options) -> Tensor:
        """A layer's output `[B, L or len(rows), d]`; see `anga.layer.apply_layer`."""
        return (self._compiled or apply_layer)(layer, hidden, mask, packed=rows_to_pack(mask), **options)

    @classmethod
    def from_name(cls, name: str) -> "Backbone":
        """Load "mini-vilt", a local folder, or a hub checkpoint such as "dandelin/vilt-b32-mlm".

        Raises AngaError when embedded files are corrupted or a hub checkpoint cannot be had.
        """
        from transformers import AutoTokenizer, ViltImageProcessorPil

        folder = _folder(name)
        vilt, weights = _load_vilt(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        image_processor = ViltImageProcessorPil.from_pretrained(folder, local_files_only=True)
        return cls(vilt, tokenizer, image_processor, name, checkpoint_hash(name, weights))

    def train(self, mode: bool = True) -> "Backbone":
        """Stay in evaluation mode, whatever a surrounding model is told: the backbone is frozen."""
        return super().train(False)

    def tokenize(self, texts: list[str], max_length: int) -> tuple[Tensor, Tensor]:
        """Texts -> ids int64 ([CLS] .. [SEP], cut or padded) and mask bool, both [N, max_length]."""
        batch = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=max_length, return_tensors="pt"
        )
        return batch["input_ids"], batch["attention_mask"].bool()

    def preprocess(self, images: list) -> Tensor:
        """PIL images -> float32 [N, 3, S, S]: resized to a square, so that all have the same grid."""
        size = self.vilt.config.image_size
        squares = [image.convert("RGB").resize((size, size), resample=3) for image in images]
        batch = self.image_processor(squares, do_resize=False, do_pad=False, return_tensors="pt")
        return batch["pixel_values"].float()

    def embed_text(self, ids: Tensor, max_length: int | None = None) -> Tensor:
        """Token ids [.., n_t] -> [.., n_t, d]: word + position + type, normalised, + modality type 0.

        `max_length`: to what texts are cut and padded, if `ids` were shortened since (None: they were not). It decides
        how far positions are stretched, so that a text's tokens do not depend on what else is in its batch.
        """
        text, n_t = self.vilt.embeddings.text_embeddings, ids.shape[-1]
        fixed = self._text_positions(max_length or n_t)[:n_t] + text.token_type_embeddings.weight[0]
        return text.LayerNorm(text.word_embeddings(ids) + fixed) + self.vilt.embeddings.token_type_embeddings.weight[0]

    def _text_positions(self, length: int) -> Tensor:
        """Position embeddings [length, d]; stretched linearly if the checkpoint knows fewer positions."""
        table = self.vilt.embeddings.text_embeddings.position_embeddings.weight
        if length <= len(table):
            return table[:length]
        return F.interpolate(table.T[None], size=length, mode="linear", align_corners=True)[0].T

    def embed_image(self, pixels: Tensor) -> Tensor:
        """Pixels [N, 3, S, S] -> [N, n_v, d]: [CLS], cells in raster order; + position + modality type 1."""
        return self.embed_cells(self.vilt.embeddings.patch_embeddings(pixels))

    def embed_cells(self, cells: Tensor) -> Tensor:
        """Projected grid [N, d, h, w] -> image tokens [N, 1 + h * w, d], as in `embed_image`."""
        embeddings = self.vilt.embeddings
        tokens = torch.cat([embeddings.cls_token.expand(len(cells), -1, -1), cells.flatten(2).mT], dim=1)
        return tokens + self._grid_positions(*cells.shape[-2:]) + embeddings.token_type_embeddings.weight[1]

    def _grid_positions(self, height: int, width: int) -> Tensor:
        """Position embeddings [1, 1 + height * width, d]; stretched bilinearly to grids of another size."""
        table = self.vilt.embeddings.position_embeddings
        side = round((table.shape[1] - 1) ** 0.5)
        if (height, width) == (side, side):
            return table
        grid = table[:, 1:].mT.unflatten(2, (side, side))
        grid = F.interpolate(grid, size=(height, width), mode="bilinear", align_corners=True)
        return torch.cat([table[:, :1], grid.flatten(2).mT], dim=1)

    def encode(
        self,
        text: Tensor,
        text_mask: Tensor,
        image: Tensor,
        image_mask: Tensor,
        prompts: Tensor | LayerPrompts | None = None,
        prompt_layer: int = 1,
    ) -> Tensor:
        """Final text [CLS] [B, d] of tokens [B, n_t, d] and [B, n_v, d], with prompts [B, n_p, d] (Eq. 1).

        Prompts join the input of layer `prompt_layer` (1 .. n_layers), are visible to all tokens and stay to
        the end; `LayerPrompts` say otherwise. Tokens whose mask is False are seen by no token, so the mask of the
        text's [CLS] is best left True. The last layer is computed for [CLS] alone: exact, since nothing reads its
        other outputs.
        """
        prompts = self._by_layer(prompts, prompt_layer)
        if self._crossings is None:
            return self._encode(text, text_mask, image, image_mask, prompts)
        entered = [x for x in (text, image, *prompts.by_layer.values()) if x.requires_grad]
        inside = [x.detach().requires_grad_() for x in entered]
        leaves = dict(zip(map(id, entered), inside, strict=True))
        text, image = (leaves.get(id(x), x) for x in (text, image))
        prompts = LayerPrompts({number: leaves.get(id(x), x) for number, x in prompts.by_layer.items()}, prompts.form)
        output = self._encode(text, text_mask, image, image_mask, prompts)
        self._crossings.append(Crossing(entered, inside, output, output.detach().requires_grad_()))
        return self._crossings[-1].left

    def _encode(self, text, text_mask, image, image_mask, prompts: LayerPrompts) -> Tensor:
        hidden, mask, start, prefix = self._run_layers(text, text_mask, image, image_mask, prompts, 1)
        layer, cls = self.vilt.encoder.layer[-1], slice(start, start + 1)
        return self.vilt.layernorm(self.apply_layer(layer, hidden, mask, rows=cls, prefix=prefix)[:, 0])

    def encode_tokens(
        self,
        text: Tensor,
        text_mask: Tensor,
        image: Tensor,
        image_mask: Tensor,
        prompts: Tensor | LayerPrompts | None = None,
        prompt_layer: int = 1,
    ) -> Tensor:
        """All final outputs [B, n_p + n_t + n_v, d], in the order prompts, text, image; else as `encode`.

        Those of tokens whose mask is False mean nothing.
        """
        prompts = self._by_layer(prompts, prompt_layer)
        hidden, _, _, _ = self._run_layers(text, text_mask, image, image_mask, prompts, 0)
        return self.vilt.layernorm(hidden)

    def _run_layers(self, text, text_mask, image, image_mask, prompts: LayerPrompts, leave: int):
        """Run all but the last `leave` layers: hidden states, key mask, position of [CLS], the last layer's prefix."""
        hidden = torch.cat([text, image], dim=1).to(self.vilt.layernorm.weight.dtype)
        mask = torch.cat([text_mask, image_mask], dim=1).bool()
        start, prefix = 0, None
        for number, layer in enumerate(self.vilt.encoder.layer, start=1):
            own = prompts.by_layer.get(number)
            prefix = own if prompts.form == "attention" else None
            if own is not None and prefix is None:
                leaving = start if prompts.form == "deep" else 0
                hidden = torch.cat([own.to(hidden.dtype), hidden[:, leaving:]], dim=1)
                mask = F.pad(mask[:, leaving:], (own.shape[1], 0), value=True)
                start += own.shape[1] - leaving
            if number <= self.n_layers - leave:
                hidden = self.apply_layer(layer, hidden, mask, prefix=prefix)
        return hidden, mask, start, prefix

    def _by_layer(self, prompts: Tensor | LayerPrompts | None, prompt_layer: int) -> LayerPrompts:
        if prompts is None:
            return LayerPrompts({})
        if isinstance(prompts, Tensor):
            prompts = LayerPrompts({prompt_layer: prompts})
        for number in prompts.by_layer:
            if not 1 <= number <= self.n_layers:
                raise AngaError(f"prompt_layer is {number}: {self.name} has layers 1 to {self.n_layers}.")
        return prompts


def _folder(name: str) -> Path:
    """Resolve a checkpoint name to a folder of files."""
    if name in EMBEDDED:
        embedded_folder("mini-clip")  # mini-vilt borrows its trunk: both are checked
        return embedded_folder(name)
    if Path(name).is_dir():
        if lacking := _lacking(Path(name)):
            raise AngaError(
                f"{name} lacks {', '.join(lacking)}: give a folder in which transformers saved a ViLT model, its "
                "tokenizer and its image processor."
            )
        return Path(name)
    if name.count("/") != 1 or name[0] in "./~":
        raise AngaError(f"Unknown backbone {name!r}: use mini-vilt, an existing folder or a hub's owner/repository.")
    return hub_folder(name, HUB_FILES, lambda folder: not _lacking(folder))


def _lacking(folder: Path) -> list[str]:
    """What a checkpoint's folder would need and has not."""
    return [what for what, names in NEEDED.items() if not any(next(folder.glob(name), None) for name in names)]


def _load_vilt(folder: Path) -> tuple[nn.Module, list[Path]]:
    """The ViltModel of a folder, float32, and the weights files that it came from."""
    from transformers import ViltConfig, ViltModel

    config = ViltConfig.from_pretrained(folder, local_files_only=True)
    recipe = getattr(config, "hybrid_stem", None)
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])
    if recipe is None:
        return _load_plain(folder), weights
    return load_hybrid(ViltModel(config), folder, recipe), [*weights, folder / recipe["weights"]]


def _load_plain(folder: Path) -> nn.Module:
    """transformers' own loading, quiet about heads that are not needed, but not about weights that are absent."""
    from transformers import ViltModel
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model, report = ViltModel.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    finally:
        logging.set_verbosity(verbosity)
    if report["missing_keys"]:
        raise AngaError(
            f"{folder} is no complete ViLT: {min(report['missing_keys'])} is absent; use another checkpoint."
        )
    return model
