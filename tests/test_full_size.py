"""Checkpoints of the paper's size, with random weights: files as the hub has them, a few training steps, embeddings.

Weights are written in half precision, which halves the time and the disk that a test takes; the real ones are float32.
"""

import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from data_trees import hatememes
from hub_cache import cache_as
from PIL import Image
from safetensors.torch import save_file
from transformers import ViltConfig, ViltForMaskedLM

from anga.checkpoints import embedded_folder
from anga.config import Config
from anga.encoders import ClipEncoder
from anga.inputs import prepare
from anga.training import train

# Knobs of params/paper that concern the model; the words of the texts below fill more than ViLT's 40 positions.
KNOBS = {"max_text_length": 128, "use_adapter": True, "missing_type": "text", "missing_rate": 0.5, "top_k": 2}
LONG = 50


def write_vilt(folder) -> None:
    """What the repository dandelin/vilt-b32-mlm holds: a model for masked words, as older libraries wrote it."""
    folder.mkdir()
    torch.manual_seed(0)
    model = ViltForMaskedLM(ViltConfig(architectures=["ViltForMaskedLM"]))
    model.config.save_pretrained(folder)
    weights = {name: value.half() for name, value in model.state_dict().items()}
    weights["vilt.embeddings.text_embeddings.position_ids"] = torch.arange(40)[None]  # no longer part of the model
    torch.save(weights, folder / "pytorch_model.bin")
    settings = {"do_normalize": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    settings |= {"resample": 3, "size": 384, "size_divisor": 32, "feature_extractor_type": "ViltFeatureExtractor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    for name in ("tokenizer.json", "tokenizer_config.json"):  # 7,000 words instead of 30,522
        shutil.copy(embedded_folder("mini-vilt") / name, folder)


def lengthen_texts(root) -> None:
    """Give every meme a text of about LONG words, but for each third."""
    for path in root.glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8-sig").splitlines()]
        for number, row in enumerate(rows):
            row["text"] = " ".join((row["text"].split() * LONG)[: LONG if number % 3 else 5])
        path.write_text("\n".join(map(json.dumps, rows)) + "\n")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A config on 24 memes, and its inputs with the full-size backbone."""
    folder = tmp_path_factory.mktemp("full")
    write_vilt(folder / "vilt-b32-mlm")
    hatememes(folder / "hatememes", n=24, warts=False)
    lengthen_texts(folder / "hatememes")
    config = Config(dataset="hatememes", root=str(folder / "hatememes"), backbone=str(folder / "vilt-b32-mlm"))
    config = config.with_(**KNOBS, epochs=1, batch_size=8, device="cpu")
    return config, prepare(config, folder / "outputs")


def test_the_checkpoint_is_loaded_whole_in_full_precision(prepared):
    config, inputs = prepared
    stored = torch.load(f"{config.backbone}/pytorch_model.bin", mmap=True)
    loaded = inputs.backbone.vilt.state_dict()
    assert len(loaded) > 200 and loaded["embeddings.position_embeddings"].shape == (1, 145, 768)
    for name, value in loaded.items():
        assert value.dtype == torch.float32 and torch.equal(value, stored[f"vilt.{name}"].float())


def test_a_text_s_tokens_do_not_depend_on_its_batch(prepared):
    inputs = prepared[1]
    make_batch, lengths = inputs.batch_maker(with_pools=False), inputs.bank.lengths
    rows = np.flatnonzero(inputs.table.has_text)
    short, longest = rows[lengths[rows].argmin()], rows[lengths[rows].argmax()]
    assert lengths[short] < 40 < lengths[longest]
    alone, together = make_batch(np.array([short])), make_batch(np.array([short, longest]))
    n_t = alone.text.shape[1]
    assert n_t < together.text.shape[1]
    assert torch.equal(alone.text[0], together.text[0, :n_t])


def test_a_few_training_steps_at_full_size(prepared):
    config, inputs = prepared
    result = train(config, progress=False, inputs=inputs)
    assert len(result.telemetry) == 2 and (result.telemetry[["n_complete", "n_remaining"]].sum() > 0).all()
    present = result.telemetry["n_complete"] > 0
    for name in ("loss", "norm_complete"):
        values = result.telemetry.loc[present, name]
        assert np.isfinite(values).all() and (values > 0).all()
    assert np.isfinite(result.predictions.filter(like="logit_")).all(axis=None) and 0 <= result.score() <= 1


def write_clip(folder) -> None:
    """What timm/vit_base_patch16_clip_224.openai holds for open_clip."""
    folder.mkdir()
    torch.manual_seed(0)
    shape = open_clip.get_model_config("ViT-B-16")
    model = open_clip.model.CLIP(**shape, quick_gelu=True)
    save_file(
        {name: value.half() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    colours = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    known = {"model_cfg": {**shape, "quick_gelu": True}, "preprocess_cfg": colours}
    (folder / "open_clip_config.json").write_text(json.dumps(known))


def test_clip_is_the_same_from_a_folder_and_from_the_hub_s_cache(tmp_path, monkeypatch):
    """By name the library's own settings of activation and preprocessing count, from a folder the file's."""
    write_clip(tmp_path / "clip")
    picture = Image.effect_mandelbrot((300, 200), (-2, -1.5, 1, 1.5), 100).convert("RGB")
    texts = ["a red bird", "two blue cars on a hill"]

    def embeddings(name: str) -> tuple[np.ndarray, np.ndarray]:
        encoder = ClipEncoder.from_name(name)
        return encoder.encode_texts(texts), encoder.encode_images([picture])

    local = embeddings(str(tmp_path / "clip"))
    cache_as("timm/vit_base_patch16_clip_224.openai", tmp_path / "clip", tmp_path / "cache", monkeypatch)
    cached = embeddings("ViT-B-16/openai")
    assert local[0].shape == (2, 512) and local[1].shape == (1, 512)
    for one, other in zip(local, cached, strict=True):
        np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(one, other, atol=1e-5)
