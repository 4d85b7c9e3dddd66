"""The frozen backbone against transformers' own ViltModel, and the properties that the study relies on."""

import json
import shutil
import time

import pytest
import torch
from hub_cache import cache_as
from PIL import Image

from anga.backbone import Backbone
from anga.checkpoints import content_hash, embedded_folder, require_hub, verify
from anga.errors import AngaError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "green", "bird", "car", "on", "a", "hill"]


def write_random_vilt(folder, layers: int = 3) -> None:
    """A small random ViLT as a folder that from_pretrained reads: 2x2 cells, 12 words, 8 text positions."""
    from transformers import BertTokenizerFast, ViltConfig, ViltImageProcessorPil, ViltModel

    torch.manual_seed(0)
    config = ViltConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=8,
        image_size=64,
        patch_size=32,
        pad_token_id=0,
        initializer_range=0.3,
    )
    model = ViltModel(config)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
    ViltImageProcessorPil(size={"shortest_edge": 64}).save_pretrained(folder)


@pytest.fixture(scope="module")
def random_backbone(tmp_path_factory) -> Backbone:
    folder = tmp_path_factory.mktemp("vilt")
    write_random_vilt(folder)
    return Backbone.from_name(str(folder))


@pytest.fixture(scope="module")
def mini_vilt() -> Backbone:
    return Backbone.from_name("mini-vilt")


@pytest.fixture(params=["random_backbone", "mini_vilt"])
def backbone(request) -> Backbone:
    return request.getfixturevalue(request.param)


def make_batch(backbone: Backbone, max_length: int = 8):
    """Two samples with texts of different length: (ids, text mask, pixels)."""
    ids, mask = backbone.tokenize(["a red bird on a hill", "car"], max_length)
    size = backbone.vilt.config.image_size
    generator = torch.Generator().manual_seed(1)
    noise = torch.randint(0, 256, (2, size, size, 3), generator=generator, dtype=torch.uint8)
    return ids, mask, backbone.preprocess([Image.fromarray(array.numpy()) for array in noise])


def embed(backbone: Backbone):
    """The four tensors that `encode` takes."""
    ids, mask, pixels = make_batch(backbone)
    image = backbone.embed_image(pixels)
    return backbone.embed_text(ids), mask, image, torch.ones(image.shape[:2], dtype=torch.bool)


def test_equals_transformers(backbone):
    ids, mask, pixels = make_batch(backbone)
    assert not mask.all(), "the second text must be padded"
    reference = backbone.vilt(input_ids=ids, attention_mask=mask.long(), pixel_values=pixels)
    ours = backbone.encode(*embed(backbone))
    torch.testing.assert_close(ours, reference.last_hidden_state[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(backbone.pooler(ours), reference.pooler_output, atol=1e-5, rtol=1e-5)


def test_text_outputs_equal_transformers(backbone):
    ids, mask, pixels = make_batch(backbone)
    reference = backbone.vilt(input_ids=ids, attention_mask=mask.long(), pixel_values=pixels)
    ours = backbone.encode_tokens(*embed(backbone))
    n_t = ids.shape[1]
    torch.testing.assert_close(ours[:, :n_t], reference.last_hidden_state[:, :n_t], atol=1e-5, rtol=1e-5)


def test_cls_only_last_layer_is_exact(backbone):
    inputs = embed(backbone)
    full = backbone.encode_tokens(*inputs)[:, 0]
    torch.testing.assert_close(backbone.encode(*inputs), full, atol=1e-5, rtol=1e-5)


def test_deterministic(backbone):
    assert torch.equal(backbone.encode(*embed(backbone)), backbone.encode(*embed(backbone)))


def test_masked_tokens_have_no_influence(backbone):
    text, text_mask, image, image_mask = embed(backbone)
    image_mask = image_mask.clone()
    image_mask[1] = False
    before = backbone.encode(text, text_mask, image, image_mask)
    text, image = text.clone(), image.clone()
    text[1, ~text_mask[1]] = 100.0
    image[1] = -100.0
    torch.testing.assert_close(backbone.encode(text, text_mask, image, image_mask), before, atol=0, rtol=0)


@pytest.mark.parametrize("prompt_layer", [1, 2, 3])
def test_prompts_equal_a_plain_loop(random_backbone, prompt_layer):
    text, text_mask, image, image_mask = embed(random_backbone)
    prompts = torch.randn(2, 3, text.shape[-1], generator=torch.Generator().manual_seed(2))
    hidden, mask = torch.cat([text, image], 1), torch.cat([text_mask, image_mask], 1)
    for number, layer in enumerate(random_backbone.vilt.encoder.layer, start=1):
        if number == prompt_layer:
            hidden = torch.cat([prompts, hidden], 1)
            mask = torch.cat([torch.ones(2, 3, dtype=torch.bool), mask], 1)
        bias = torch.where(mask, 0.0, torch.finfo(torch.float32).min)[:, None, None]
        hidden = layer(hidden, bias)[0]
    expected = random_backbone.vilt.layernorm(hidden)
    inputs = (text, text_mask, image, image_mask, prompts, prompt_layer)
    torch.testing.assert_close(random_backbone.encode_tokens(*inputs), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(random_backbone.encode(*inputs), expected[:, 3], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prompt_layer", [0, 4])
def test_prompt_layer_out_of_range(random_backbone, prompt_layer):
    inputs = embed(random_backbone)
    with pytest.raises(AngaError, match="layers 1 to 3"):
        random_backbone.encode(*inputs, torch.zeros(2, 1, 32), prompt_layer)


def test_gradients_reach_the_prompts_only(backbone):
    inputs = embed(backbone)
    prompts = torch.zeros(2, 1, backbone.dim, requires_grad=True)
    backbone.train()
    assert not backbone.training and not backbone.vilt.training
    backbone.encode(*inputs, prompts, 2).sum().backward()
    assert prompts.grad.abs().max() > 0
    assert all(not p.requires_grad and p.grad is None for p in backbone.parameters())


def test_more_text_positions_than_the_checkpoint_has(random_backbone):
    long_ids, _ = random_backbone.tokenize(["bird"], 15)
    table = random_backbone.vilt.embeddings.text_embeddings.position_embeddings.weight
    stretched = random_backbone._text_positions(15)
    torch.testing.assert_close(stretched[::2], table)
    torch.testing.assert_close(stretched[1], (table[0] + table[1]) / 2)
    assert random_backbone.embed_text(long_ids).shape == (1, 15, random_backbone.dim)


@pytest.mark.parametrize("max_length", [8, 15])
def test_a_shortened_text_keeps_its_positions(random_backbone, max_length):
    """Batches are cut to their longest text; what a text becomes must not depend on the others, stretched or not."""
    ids, mask = random_backbone.tokenize(["a red bird", "car"], max_length)
    whole, short = random_backbone.embed_text(ids), random_backbone.embed_text(ids[:, :5], max_length)
    assert not mask[:, 5:].any() and torch.equal(short, whole[:, :5])
    if max_length == 15:
        assert not torch.allclose(short, random_backbone.embed_text(ids[:, :5]), atol=1e-3), "stretched, or not at all"


def test_leading_dimensions_of_text(backbone):
    ids, _, _ = make_batch(backbone)
    nested = backbone.embed_text(ids[:, None].expand(-1, 5, -1))
    assert torch.equal(nested[:, 3], backbone.embed_text(ids))


def test_tokens_have_a_start_an_end_and_padding(backbone):
    ids, mask = backbone.tokenize(["", "a red bird on a hill a red bird on a hill"], 6)
    tokenizer = backbone.tokenizer
    assert ids.shape == (2, 6) and mask.dtype == torch.bool
    assert ids[:, 0].tolist() == [tokenizer.cls_token_id] * 2
    assert ids[0, 1] == ids[1, 5] == tokenizer.sep_token_id
    assert mask.sum(1).tolist() == [2, 6]


def test_pictures_become_squares(backbone):
    wide, grey = Image.new("RGB", (300, 40), "white"), Image.new("L", (10, 20))
    pixels = backbone.preprocess([wide, grey])
    size = backbone.vilt.config.image_size
    assert pixels.shape == (2, 3, size, size) and pixels.dtype == torch.float32
    torch.testing.assert_close(pixels[0], torch.ones(3, size, size))
    torch.testing.assert_close(pixels[1], -torch.ones(3, size, size))


def test_autocast(random_backbone):
    inputs = embed(random_backbone)
    with torch.autocast("cpu", torch.bfloat16):
        half = random_backbone.encode(*inputs)
    torch.testing.assert_close(half.float(), random_backbone.encode(*inputs), atol=0.1, rtol=0.1)


def test_corrupted_weights(tmp_path):
    folder = tmp_path / "mini-vilt"
    shutil.copytree(embedded_folder("mini-vilt"), folder)
    verify(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\1")
    with pytest.raises(AngaError, match=r"model\.safetensors is corrupted .*git checkout"):
        verify(folder)
    weights.unlink()
    with pytest.raises(AngaError, match="is missing"):
        verify(folder)


def test_manifest_names_the_weights():
    for name, file in (("mini-vilt", "model.safetensors"), ("mini-clip", "open_clip_model.safetensors")):
        assert file in json.loads((embedded_folder(name) / "manifest.json").read_text())["sha256"]


def test_hub_out_of_reach_ends_in_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    start = time.monotonic()
    with pytest.raises(AngaError, match=r"somebody/no-such-vilt.*connect to the network once") as caught:
        Backbone.from_name("somebody/no-such-vilt")
    assert time.monotonic() - start < 10 and "\n" not in str(caught.value)


def test_offline_by_choice_is_said(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(AngaError, match="HF_HUB_OFFLINE is set"):
        require_hub("somebody/no-such-vilt", "no-such-vilt")


def test_a_checkpoint_in_the_hub_s_cache_needs_no_connection(tmp_path, monkeypatch, random_backbone):
    write_random_vilt(tmp_path / "vilt")
    folder = cache_as("dandelin/vilt-b32-mlm", tmp_path / "vilt", tmp_path / "cache", monkeypatch)
    cached = Backbone.from_name("dandelin/vilt-b32-mlm")
    assert cached.name == "dandelin/vilt-b32-mlm"
    assert cached.content_hash == content_hash([folder / "model.safetensors"]), "the weights say it all"
    assert torch.equal(cached.encode(*embed(cached)), random_backbone.encode(*embed(random_backbone)))


LEFT_OUT = ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"]


@pytest.mark.parametrize("file", LEFT_OUT)
def test_a_checkpoint_cached_in_part_is_not_there(tmp_path, monkeypatch, file):
    """Other programs cache what they need, which may be the weights alone."""
    write_random_vilt(tmp_path / "vilt")
    (tmp_path / "vilt" / file).unlink()
    cache_as("dandelin/vilt-b32-mlm", tmp_path / "vilt", tmp_path / "cache", monkeypatch)
    with pytest.raises(AngaError, match="vilt-b32-mlm' is not on this machine and HF_HUB_OFFLINE is set"):
        Backbone.from_name("dandelin/vilt-b32-mlm")


@pytest.mark.parametrize("file", LEFT_OUT)
def test_a_folder_that_lacks_a_file_is_told_which(tmp_path, file):
    write_random_vilt(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(AngaError, match=f"lacks [^,]*{file.removeprefix('model')}") as caught:
        Backbone.from_name(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["mini-vlit", "/no/such/folder", "./nothing"])
def test_unknown_backbone(name):
    with pytest.raises(AngaError, match="Unknown backbone"):
        Backbone.from_name(name)


def test_heads_that_are_not_needed_are_left_out(tmp_path, random_backbone, capsys):
    from transformers import ViltForMaskedLM

    write_random_vilt(tmp_path)
    ViltForMaskedLM(random_backbone.vilt.config).save_pretrained(tmp_path)
    loaded = Backbone.from_name(str(tmp_path))
    assert loaded.n_layers == 3 and "UNEXPECTED" not in "".join(capsys.readouterr())


def test_incomplete_checkpoint(tmp_path, random_backbone):
    from transformers import ViltModel

    write_random_vilt(tmp_path)
    ViltModel(random_backbone.vilt.config, add_pooling_layer=False).save_pretrained(tmp_path)
    with pytest.raises(AngaError, match="no complete ViLT"):
        Backbone.from_name(str(tmp_path))
