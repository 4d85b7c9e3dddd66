"""The batch maker against a slow loop over samples, and the token bank's cache."""

import errno
import os

import numpy as np
import pytest
import torch
from tiny_world import MAX_LENGTH, tiny_config

from anga.errors import AngaError
from anga.missing import MISSING_TYPES
from anga.tokens import TokenBank

VARIANTS = {
    "zero-filled": {"use_retrieval": False, "use_adapter": False},
    "retrieval": {"use_adapter": False},
    "adapter": {},
}


def some_rows(inputs, n: int = 14) -> np.ndarray:
    """Rows of all splits and all states of completeness."""
    return np.random.default_rng(0).permutation(len(inputs.dataset))[:n]


def text_of(inputs, row: int, n_t: int):
    """One text's tokens `[n_t, d]` and mask `[n_t]`, tokenised by itself."""
    ids, mask = inputs.backbone.tokenize([inputs.dataset.texts[row]], MAX_LENGTH)
    return inputs.backbone.embed_text(ids)[0, :n_t], mask[0, :n_t]


def image_of(inputs, row: int) -> torch.Tensor:
    """One picture's tokens `[n_v, d]` in the bank's half precision."""
    pixels = inputs.backbone.preprocess([inputs.dataset.image(row)])
    return inputs.backbone.embed_image(pixels)[0].half().float()


def mean_of(tokens: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(tokens).mean(0) if tokens else torch.zeros(16)


def one_by_one(inputs, row: int, n_t: int, with_pools: bool) -> dict[str, torch.Tensor]:
    """What a batch should hold of one sample; tokens are zero where the mask is False."""
    table, neighbours = inputs.table, inputs.neighbours
    text, text_mask = text_of(inputs, row, n_t)
    image, image_mask = image_of(inputs, row), torch.ones(5, dtype=torch.bool)
    if not table.has_text[row]:
        text_mask = torch.arange(n_t) == 0
        if neighbours is not None:
            lent = [text_of(inputs, other, n_t) for other in neighbours.text[row]]
            text_mask = torch.stack([mask for _, mask in lent]).any(0)
            text = torch.stack([mean_of([t[j] for t, mask in lent if mask[j]]) for j in range(n_t)])
    if not table.has_image[row]:
        image_mask = torch.zeros(5, dtype=torch.bool)
        if neighbours is not None:
            image_mask = ~image_mask
            image = torch.stack([image_of(inputs, other) for other in neighbours.image[row]]).mean(0)
    sample = {"text": text * text_mask[:, None], "text_mask": text_mask}
    sample |= {"image": image * image_mask[:, None], "image_mask": image_mask}
    if with_pools:
        pool = [text_of(inputs, other, n_t) for other in neighbours.text[row]]
        sample["text_pool_mask"] = torch.stack([mask for _, mask in pool])
        sample["text_pool"] = torch.stack([text * mask[:, None] for text, mask in pool])
        sample["image_pool"] = torch.stack([image_of(inputs, other) for other in neighbours.image[row]])
    return sample


@pytest.mark.parametrize("missing_type", MISSING_TYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_batches_equal_a_loop_over_samples(world, variant, missing_type):
    config = tiny_config(missing_type=missing_type, **VARIANTS[variant])
    inputs = world.inputs(config)
    rows = some_rows(inputs)
    batch = inputs.batch_maker(config.use_adapter)(rows)
    assert batch.rows.tolist() == rows.tolist() and len(batch) == len(rows)
    np.testing.assert_array_equal(batch.labels, inputs.dataset.labels[rows])
    for i, row in enumerate(rows):
        for name, expected in one_by_one(inputs, row, batch.text.shape[1], config.use_adapter).items():
            found = getattr(batch, name)[i]
            if name in ("text", "text_pool"):  # padding is masked; what stands there is nobody's business
                found = found * getattr(batch, f"{name}_mask")[i][..., None]
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("missing_type", MISSING_TYPES)
def test_the_integer_mask_defect_feeds_x_minus_twice_what_was_retrieved(world, missing_type):
    """But only in a modality that can be missing: nothing is recovered, and so nothing mixed in, for the other."""
    inputs = world.inputs(tiny_config(integer_mask=True, missing_type=missing_type))
    rows = some_rows(inputs)
    batch = inputs.batch_maker(True)(rows)
    n_t = batch.text.shape[1]
    for i, row in enumerate(rows):
        lent = [text_of(inputs, other, n_t) for other in inputs.neighbours.text[row]]
        lent_mask = torch.stack([mask for _, mask in lent]).any(0)
        retrieved = torch.stack([mean_of([t[j] for t, mask in lent if mask[j]]) for j in range(n_t)])
        own, own_mask = text_of(inputs, row, n_t)
        expected, mask = own, own_mask
        if missing_type != "image":
            mask = lent_mask | own_mask if inputs.table.has_text[row] else lent_mask
            expected = own - 2 * retrieved if inputs.table.has_text[row] else -retrieved
        assert batch.text_mask[i].tolist() == mask.tolist()
        torch.testing.assert_close(batch.text[i][mask], expected[mask], rtol=0, atol=1e-5)
        images = torch.stack([image_of(inputs, other) for other in inputs.neighbours.image[row]]).mean(0)
        expected = image_of(inputs, row)
        if missing_type != "text":
            expected = expected - 2 * images if inputs.table.has_image[row] else -images
        torch.testing.assert_close(batch.image[i], expected, rtol=0, atol=1e-5)
    assert batch.image_mask.all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_text_is_padded_to_the_longest_that_the_batch_reads(world, variant):
    config = tiny_config(**VARIANTS[variant])
    inputs = world.inputs(config)
    maker, lengths, lacks_text = inputs.batch_maker(config.use_adapter), inputs.bank.lengths, ~inputs.table.has_text
    for rows in np.split(np.arange(90), 30):
        read = list(lengths[rows[~lacks_text[rows]]])
        if config.use_retrieval:
            borrowing = rows if config.use_adapter else rows[lacks_text[rows]]
            read += list(lengths[inputs.neighbours.text[borrowing]].ravel())
        assert maker(rows).text.shape[1] == max(read, default=1)


def test_lost_tokens_are_zero_and_masked_and_cls_stays(binary_world):
    inputs = binary_world.inputs(tiny_config(**VARIANTS["zero-filled"]))
    rows = np.arange(90)
    batch, lost_text, lost_image = inputs.batch_maker(False)(rows), ~inputs.table.has_text, ~inputs.table.has_image
    assert not batch.text[lost_text, 1:].any() and not batch.text_mask[lost_text, 1:].any()
    assert not batch.image[lost_image].any() and not batch.image_mask[lost_image].any()
    cls, _ = text_of(inputs, 0, 1)
    torch.testing.assert_close(batch.text[:, 0], cls.expand(90, -1))
    assert batch.text_mask[:, 0].all() and batch.image_mask[~lost_image].all()


def test_selected_samples_are_a_batch_of_their_own(binary_world):
    inputs = binary_world.inputs(tiny_config())
    batch, index = inputs.batch_maker(True)(np.arange(20, 32)), torch.tensor([7, 2, 11])
    selected = vars(batch.select(index))
    assert all(selected.pop(name) is None for name in ("pooled", "pooled_text", "pooled_image"))
    for name, value in selected.items():
        assert torch.equal(value, getattr(batch, name)[[7, 2, 11]])
    zero_filled = binary_world.inputs(tiny_config(**VARIANTS["zero-filled"])).batch_maker(False)(np.arange(5))
    assert zero_filled.select(index[1:2]).text_pool is None


def test_images_are_the_stored_tokens_of_the_pictures_that_samples_show(binary_world):
    bank, rows = binary_world.inputs(tiny_config()).bank, np.arange(90).reshape(15, 6)[::-1]
    shown = torch.from_numpy(binary_world.dataset.image_rows)[torch.from_numpy(rows.copy()).flatten()]
    expected = bank.image.index_select(0, shown).float().unflatten(0, (15, 6))
    assert torch.equal(bank.images(rows), expected) and bank.placement == "mapped"


@pytest.mark.parametrize("missing_type", MISSING_TYPES)
def test_reconstructions_are_to_the_bit_the_same_with_and_without_pools(binary_world, missing_type):
    """With pools, what is put in for a lost modality is taken from them instead of being fetched again."""
    inputs, rows = binary_world.inputs(tiny_config(missing_type=missing_type)), np.arange(30)
    with_pools, without = (vars(inputs.batch_maker(pools)(rows)) for pools in (True, False))
    n_t = without["text"].shape[1]
    for name in ("image", "image_mask", "text", "text_mask"):
        found = with_pools[name][:, :n_t] if "text" in name else with_pools[name]
        assert torch.equal(found, without[name])
    assert not with_pools["text_mask"][:, n_t:].any()


# --- the cache of image tokens


@pytest.fixture
def build(binary_world, tmp_path):
    """Build the bank in an empty cache."""
    return lambda: TokenBank.build(binary_world.dataset, binary_world.backbone, MAX_LENGTH, tmp_path)


def test_images_are_embedded_once_and_kept_in_half_precision(build, binary_world, tmp_path, monkeypatch):
    first = build()
    monkeypatch.setattr(type(binary_world.backbone), "embed_image", lambda *_: pytest.fail("embedded again"))
    second = build()
    rows = np.arange(90).reshape(9, 10)
    assert first.image.dtype == torch.float16 and torch.equal(first.image, second.image)
    assert torch.equal(first.images(rows), second.images(rows)) and first.images(rows).shape == (9, 10, 5, 16)
    assert len(list(tmp_path.iterdir())) == 1, "one file, and no scratch left behind"


def test_other_pictures_or_weights_make_a_cache_of_their_own(build, binary_world, tmp_path):
    build()
    lost = np.arange(90) == 0
    other = binary_world.with_garbage(~lost & lost, lost, tmp_path)
    TokenBank.build(other.dataset, other.backbone, MAX_LENGTH, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_an_interrupted_build_leaves_no_cache(build, binary_world, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(binary_world.backbone), "embed_image", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_and_leaves_no_cache(build, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(AngaError, match=r"image-tokens-\w+\.npy: could not be made \(No space left on device\)"):
        build()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 40, 300])
def test_a_damaged_cache_is_named(build, tmp_path, keep):
    build()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(AngaError, match=f"{path.name}.*delete"):
        build()


def test_changing_a_batch_leaves_the_cache_as_it_is(build, tmp_path):
    bank = build()
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()
    bank.image[0] += 1
    assert path.read_bytes() == before
