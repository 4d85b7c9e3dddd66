"""Hybrid stem of mini-vilt: a frozen convolutional trunk in the place of ViLT's linear patch projection."""

from pathlib import Path

import torch
from torch import Tensor, nn

from anga.errors import AngaError


class HybridStem(nn.Conv2d):
    """Pixels -> grid features of a timm trunk -> learned 1x1 projection to the width of the transformer.

    It is a Conv2d, as the projection it replaces, so that transformers' ViltModel runs with it unchanged.
    """

    def __init__(self, architecture: str, width: int):
        import timm

        trunk = timm.create_model(architecture, pretrained=False, num_classes=0)
        super().__init__(trunk.num_features, width, kernel_size=1)
        self.trunk = trunk.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> "HybridStem":
        """Follow `mode`, but keep the trunk's normalisation statistics frozen."""
        super().train(mode)
        self.trunk.eval()
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] in [-1, 1] -> [N, width, S/32, S/32]."""
        blocks = pixels.contiguous(memory_format=torch.channels_last).split(block_size(pixels.device))
        return super().forward(torch.cat([self.trunk.forward_features(block) for block in blocks]))


def block_size(device: torch.device) -> int:
    """Pictures that a convolutional trunk takes at once: few on a CPU, whose caches hold no more of its maps."""
    return 8 if device.type == "cpu" else 256


def load_trunk(stem: HybridStem, weights: Path, prefix: str) -> None:
    """Fill the trunk from the entries of a safetensors file whose names start with `prefix`."""
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (not a dict)
        state = {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    stem.trunk.load_state_dict(state)


def install_stem(vilt: nn.Module, stem: HybridStem) -> None:
    """Replace the patch projection of a ViltModel, whose pixels then pass the trunk first."""
    vilt.embeddings.patch_embeddings.projection = stem.to(torch.float32)


def load_hybrid(vilt: nn.Module, folder: Path, recipe: dict) -> nn.Module:
    """Give `vilt` a hybrid stem after `recipe` (architecture, weights, prefix); load the folder's weights."""
    from safetensors.torch import load_file

    stem = HybridStem(recipe["architecture"], vilt.config.hidden_size)
    load_trunk(stem, folder / recipe["weights"], recipe["prefix"])
    install_stem(vilt, stem)
    stored = load_file(folder / "model.safetensors")
    state = {key.removeprefix("vilt."): value for key, value in stored.items() if key.startswith("vilt.")}
    report = vilt.load_state_dict(state, strict=False)
    absent = [key for key in report.missing_keys if ".projection.trunk." not in key]
    if report.unexpected_keys or absent:
        raise AngaError(f"The weights in {folder} do not fit its config.json: install the package again.")
    return vilt
