"""CLIP embeddings for retrieval: a unit vector per text and per picture, computed once (Eq. 3)."""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anga.checkpoints import checkpoint_hash, content_hash, embedded_folder, hub_folder
from anga.errors import AngaError
from anga.stem import block_size

PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
Arrays = tuple[np.ndarray, np.ndarray]


class ClipEncoder:
    """An open_clip model in evaluation mode, with its own preprocessing and tokenizer."""

    def __init__(self, model, preprocess, tokenizer, name: str, content_hash: str, device: str = "cpu"):
        self.model = model.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
        self.preprocess, self.tokenizer = preprocess, tokenizer
        self.name, self.content_hash, self.device = name, content_hash, torch.device(device)
        self.dim = self._encode_tokens([""]).shape[1]

    @classmethod
    def from_name(cls, name: str, device: str = "cpu") -> "ClipEncoder":
        """Load "mini-clip", a local open_clip folder, or "<architecture>/<tag>" such as "ViT-B-16/openai".

        Raises AngaError when embedded files are corrupted, or a hub checkpoint is unknown or cannot be had.
        """
        if name == "mini-clip":
            return _load_folder(embedded_folder(name), name, device)
        if Path(name).is_dir():
            return _load_folder(Path(name), name, device)
        return _load_hub(name, device)

    def encode_texts(self, texts: list[str], batch_size: int = 256, progress: bool = True) -> np.ndarray:
        """Texts -> float32 [N, D], rows of unit length."""
        return self._in_batches(list(texts), self._encode_tokens, batch_size, "texts", progress)

    def encode_images(self, images: list, batch_size: int | None = None, progress: bool = True) -> np.ndarray:
        """PIL images (anything with a length and items 0 .. N-1) -> float32 [N, D], rows of unit length."""
        size = batch_size or block_size(self.device)
        return self._in_batches(images, self._encode_pixels, size, "images", progress)

    def _in_batches(self, items, encode, batch_size: int, what: str, progress: bool) -> np.ndarray:
        from tqdm import tqdm

        n = len(items)
        bar = tqdm(range(0, n, batch_size), desc=f"{self.name}: {what}", unit="batch", disable=not progress)
        with torch.inference_mode():
            rows = torch.empty(n, self.dim, device=self.device)
            for start in bar:
                stop = min(start + batch_size, n)
                rows[start:stop] = encode([items[i] for i in range(start, stop)])
        return rows.cpu().numpy()

    def _encode_tokens(self, texts: list[str]) -> Tensor:
        return F.normalize(self.model.encode_text(self.tokenizer(texts).to(self.device)).float(), dim=-1)

    def _encode_pixels(self, images: list) -> Tensor:
        pixels = torch.stack([self.preprocess(image.convert("RGB")) for image in images])
        pixels = pixels.to(self.device, memory_format=torch.channels_last)
        return F.normalize(self.model.encode_image(pixels).float(), dim=-1)


def embed_dataset(dataset, encoder_name: str, cache: str | Path, device: str = "cpu") -> Arrays:
    """(text, image) embeddings of all samples, each float32 [N, D]; read from `cache` if made before.

    The file names carry hashes of what was encoded and of the encoder's weights, so a stale file is never read.
    Pictures are encoded once for all tasks on their collection.
    """
    encoder_hash = _known_hash(encoder_name)
    if encoder_hash and (found := _read_cached(_cache_paths(dataset, encoder_hash, cache), dataset.image_rows)):
        return found
    encoder = ClipEncoder.from_name(encoder_name, device)
    paths = _cache_paths(dataset, encoder.content_hash, cache)
    makers = (lambda: encoder.encode_texts(list(dataset.texts)), lambda: encoder.encode_images(_Pictures(dataset)))
    for path, make in zip(paths, makers, strict=True):
        if not path.is_file():
            _save_atomically(path, make())
    return _read_cached(paths, dataset.image_rows)


class _Pictures:
    """The pictures of a data set's collection as a sequence that decodes each when it is asked for."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset.images)

    def __getitem__(self, number: int):
        return self.dataset.picture(number)


def _known_hash(encoder_name: str) -> str | None:
    """Content hash of an encoder if it can be told without loading the model."""
    return content_hash([_weights(embedded_folder(encoder_name))]) if encoder_name == "mini-clip" else None


def _cache_paths(dataset, encoder_hash: str, cache: str | Path) -> list[Path]:
    content = {"text": dataset.texts_hash(), "image": dataset.images_hash()}
    return [Path(cache) / f"clip-{kind}-{content[kind][:16]}-{encoder_hash[:16]}.npy" for kind in content]


def _read_cached(paths: list[Path], image_rows: np.ndarray) -> Arrays | None:
    """The texts' embeddings, and those of the pictures by sample; None if a file is not there."""
    if not all(path.is_file() for path in paths):
        return None
    text, image = map(_load, paths)
    return np.array(text), image[image_rows]


def _load(path: Path) -> np.ndarray:
    """Mapped, not yet read."""
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise AngaError(f"{path}: the cached embeddings cannot be read ({error}); delete this file.") from None


def _save_atomically(path: Path, array: np.ndarray) -> None:
    """Write beside the target, then rename: a killed process leaves no half file under the final name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            np.save(file, array)
        os.replace(file.name, path)
    except OSError as error:
        raise AngaError(f"Cannot write {path} ({error.strerror}): choose a writable cache folder.") from error


def _weights(folder: Path) -> Path:
    """The weights file of a local open_clip folder."""
    found = [path for pattern in ("*.safetensors", "*.bin", "*.pt") for path in sorted(folder.glob(pattern))]
    if not found or not (folder / "open_clip_config.json").is_file():
        raise AngaError(f"{folder} is no open_clip folder: it needs open_clip_config.json and weights.")
    return found[0]


def _load_folder(folder: Path, name: str, device: str) -> ClipEncoder:
    import open_clip

    weights = _weights(folder)
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    return ClipEncoder(model, preprocess, tokenizer, name, checkpoint_hash(name, [weights]), device)


def _load_hub(name: str, device: str) -> ClipEncoder:
    """Load open_clip's "<architecture>/<tag>"; the tag settles activation and preprocessing too."""
    import open_clip

    architecture, _, tag = name.partition("/")
    recipe = open_clip.get_pretrained_cfg(architecture, tag)
    if not recipe or not recipe.get("hf_hub"):
        raise AngaError(f"Unknown encoder {name!r}: use mini-clip, or a name such as ViT-B-16/openai.")
    weights = _hub_weights(recipe["hf_hub"], name)
    model, _, preprocess = open_clip.create_model_and_transforms(
        architecture,
        pretrained=str(weights),
        force_quick_gelu=recipe.get("quick_gelu", False),
        **{f"image_{key}": recipe[key] for key in PREPROCESSING if key in recipe},
    )
    tokenizer = open_clip.get_tokenizer(architecture)
    return ClipEncoder(model, preprocess, tokenizer, name, content_hash([weights]), device)


def _hub_weights(entry: str, name: str) -> Path:
    """The weights file of open_clip's hub entry "owner/repository/file"; without a file, the usual names."""
    repository, _, file = entry.rpartition("/")
    files = [file] if file else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]

    def found(folder: Path) -> list[Path]:
        return [folder / file for file in files if (folder / file).is_file()]

    return found(hub_folder(repository, [[file] for file in files], found, name))[0]
