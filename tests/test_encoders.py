"""CLIP embeddings: unit length, independent of the batch, computed once, and clear errors."""

import hashlib
import json

import numpy as np
import pytest
import torch
from hub_cache import cache_as
from PIL import Image

from anga.encoders import ClipEncoder, embed_dataset
from anga.errors import AngaError

COLOURS = ["red", "green", "blue", "yellow", "black"]


class Pictures:
    """A dataset of one-coloured squares, as far as embed_dataset looks at it."""

    texts = np.array([f"a {colour} square" for colour in COLOURS], dtype=object)
    images = COLOURS
    image_rows = np.arange(len(COLOURS))

    def __len__(self) -> int:
        return len(self.texts)

    def picture(self, number: int) -> Image.Image:
        return Image.new("RGB", (40, 30), self.images[number])

    def texts_hash(self) -> str:
        return hashlib.sha256(repr(self.texts.tolist()).encode()).hexdigest()

    def images_hash(self) -> str:
        return hashlib.sha256(repr(self.images).encode()).hexdigest()


def sample_pictures() -> list[Image.Image]:
    """The five squares."""
    return [Pictures().picture(number) for number in range(len(COLOURS))]


@pytest.fixture(scope="module")
def random_clip(tmp_path_factory) -> str:
    """A small random open_clip model as a local folder."""
    import open_clip
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    torch.manual_seed(0)
    model = open_clip.model.CLIP(**config)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return str(folder)


@pytest.fixture(params=["random", "mini-clip"])
def encoder(request, random_clip) -> ClipEncoder:
    return ClipEncoder.from_name(random_clip if request.param == "random" else request.param)


def test_embeddings_have_unit_length(encoder):
    texts = encoder.encode_texts(list(Pictures.texts), progress=False)
    images = encoder.encode_images(sample_pictures(), progress=False)
    assert texts.shape == images.shape == (5, encoder.dim)
    assert texts.dtype == images.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)


def test_batches_do_not_matter(encoder):
    images, texts = sample_pictures(), list(Pictures.texts)
    together = encoder.encode_images(images, progress=False)
    np.testing.assert_allclose(encoder.encode_images(images, 1, progress=False), together, atol=1e-5)
    together = encoder.encode_texts(texts, progress=False)
    np.testing.assert_allclose(encoder.encode_texts(texts, 2, progress=False), together, atol=1e-5)


def test_nothing_to_encode(encoder):
    assert encoder.encode_texts([], progress=False).shape == (0, encoder.dim)


def test_cache_is_written_once_and_reused(random_clip, tmp_path, monkeypatch):
    calls = []
    original = ClipEncoder.encode_images
    monkeypatch.setattr(ClipEncoder, "encode_images", lambda *a, **k: calls.append(1) or original(*a, **k))
    first = embed_dataset(Pictures(), random_clip, tmp_path / "cache")
    second = embed_dataset(Pictures(), random_clip, tmp_path / "cache")
    assert len(calls) == 1
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert len(list((tmp_path / "cache").iterdir())) == 2, "no temporary file is left"


def test_other_texts_are_encoded_anew(random_clip, tmp_path, monkeypatch):
    embed_dataset(Pictures(), random_clip, tmp_path)
    monkeypatch.setattr(Pictures, "texts", Pictures.texts[::-1])
    embed_dataset(Pictures(), random_clip, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3, "pictures are shared by all tasks on a collection"


def test_samples_may_share_a_picture(random_clip, tmp_path, monkeypatch):
    _, plain = embed_dataset(Pictures(), random_clip, tmp_path)
    rows = np.array([4, 0, 0, 3, 1])
    monkeypatch.setattr(Pictures, "image_rows", rows)
    _, shared = embed_dataset(Pictures(), random_clip, tmp_path)
    assert np.array_equal(shared, plain[rows])


def test_mini_clip_cache_is_read_without_the_model(tmp_path, monkeypatch):
    first = embed_dataset(Pictures(), "mini-clip", tmp_path)
    monkeypatch.setattr(ClipEncoder, "from_name", None)
    second = embed_dataset(Pictures(), "mini-clip", tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_unwritable_cache(random_clip, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(AngaError, match="choose a writable cache folder"):
        embed_dataset(Pictures(), random_clip, tmp_path / "file" / "cache")


@pytest.mark.parametrize("name", ["mini-clop", "ViT-B-16/nobody", "no/such/thing"])
def test_unknown_encoder(name):
    with pytest.raises(AngaError, match="Unknown encoder"):
        ClipEncoder.from_name(name)


def test_hub_out_of_reach_ends_in_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("anga.checkpoints._cached_folder", lambda repository: None)
    with pytest.raises(AngaError, match=r"ViT-B-16/openai.*connect to the network once"):
        ClipEncoder.from_name("ViT-B-16/openai")


def test_other_weights_of_the_same_repository_do_not_count_as_cached(monkeypatch, tmp_path):
    """The repository also holds weights for another library, which somebody may have cached."""
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "model.safetensors").write_bytes(b"for image classification")
    cache_as("timm/vit_base_patch16_clip_224.openai", tmp_path / "timm", tmp_path / "cache", monkeypatch)
    with pytest.raises(AngaError, match="'ViT-B-16/openai' is not on this machine and HF_HUB_OFFLINE is set"):
        ClipEncoder.from_name("ViT-B-16/openai")


def test_folder_without_a_model(tmp_path):
    with pytest.raises(AngaError, match="is no open_clip folder"):
        ClipEncoder.from_name(str(tmp_path))
