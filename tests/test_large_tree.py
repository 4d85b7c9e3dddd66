"""The memory benchmark runs its stages one upon the other, and sees what memory they take."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anga.backbone import Backbone
from anga.encoders import ClipEncoder
from anga.tokens import TokenBank
from benchmarks import large_tree
from benchmarks.large_tree import KINDS, STAGES, columns, make_light, make_tree, measure
from benchmarks.timing import print_columns

ROOT = Path(__file__).parents[1]


def test_stages_run_in_order_on_a_small_tree(tmp_path):
    make_tree(tmp_path, 24)
    make_light(tmp_path)
    found = {stage: measure(stage, tmp_path) for stage in STAGES}
    assert all(values["seconds"] > 0 and values["peak"] >= values["own"] > 0 for values in found.values())
    cached = [path.name for path in (tmp_path / "outputs" / "cache").glob("*.npy")]
    assert len(cached) == 3, "texts, pictures and tokens were made once"


def test_light_checkpoints_have_the_shapes_of_the_mini_ones(tmp_path):
    make_light(tmp_path)
    light, mini = (Backbone.from_name(name) for name in (str(tmp_path / "backbone"), "mini-vilt"))
    picture = [Image.new("RGB", (90, 60))]
    shapes = [b.embed_image(b.preprocess(picture)).shape for b in (light, mini)]
    assert shapes[0] == shapes[1] and (light.dim, light.n_layers) == (mini.dim, mini.n_layers)
    assert ClipEncoder.from_name(str(tmp_path / "clip")).dim == ClipEncoder.from_name("mini-clip").dim


WATCHED = """
import sys, numpy as np
from benchmarks.large_tree import MemoryWatch
with MemoryWatch() as before:
    pass
with MemoryWatch() as own:
    held = np.ones(200 * 2**20 // 8)
with MemoryWatch() as mapped:
    pages = np.memmap(sys.argv[1], np.uint8, "r")
    assert pages[::4096].sum() == 0 and held[0] == 1
print(own.most["own"] - before.most["own"], mapped.most["mapped"] - own.most["mapped"])
"""


def test_own_and_mapped_memory_are_told_apart(tmp_path):
    (tmp_path / "file").write_bytes(bytes(200 * 2**20))
    # a process of its own, where nothing else is freed meanwhile
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, tmp_path / "file"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert [float(word) for word in done.stdout.split()] == pytest.approx([200, 200], abs=20)


def test_the_table_shows_both_sizes_and_growth(capsys):
    few, many = ({s: {"seconds": 1.0, **dict.fromkeys(KINDS, mb)} for s in STAGES} for mb in (400.0, 415.0))
    print_columns(list(STAGES), columns(few, many, 2500, 10_000))
    heading, *lines = capsys.readouterr().out.splitlines()
    assert "2,500 items" in heading and "10,000 items" in heading and len(lines) == len(STAGES)
    assert all(re.search(r"1.00 s +400 +400 +400 +1.00 s +415 +415 +415 +\+2.0$", line) for line in lines)


def test_the_tree_goes_when_a_stage_fails(monkeypatch, tmp_path):
    monkeypatch.setattr(large_tree.tempfile, "mkdtemp", lambda: str(tmp_path / "tree"))
    monkeypatch.setattr(large_tree, "make_tree", lambda folder, items: folder.mkdir())

    def fails(*_):
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        large_tree.measure_all(10, light=False, measure=fails)
    assert not (tmp_path / "tree").exists()


# --- what keeps memory flat changes nothing


def test_tokens_made_block_by_block_are_those_made_at_once(binary_world, tmp_path, monkeypatch):
    backbone, dataset = binary_world.backbone, binary_world.dataset
    for name in ("TEXTS_PER_CALL", "IMAGES_PER_CALL"):
        monkeypatch.setattr(f"anga.tokens.{name}", 7)
    bank = TokenBank.build(dataset, backbone, 9, tmp_path)
    ids, mask = backbone.tokenize(list(dataset.texts), 9)
    assert torch.equal(bank.ids, ids) and torch.equal(bank.mask, mask)
    (path,) = tmp_path.iterdir()
    pixels = backbone.preprocess([dataset.picture(number) for number in range(len(dataset.images))])
    with torch.no_grad():
        expected = backbone.embed_image(pixels)
    np.testing.assert_allclose(np.load(path), expected, rtol=2e-3, atol=1e-3)
    np.save(tmp_path / "again.npy", np.load(path))
    assert (tmp_path / "again.npy").read_bytes() == path.read_bytes(), "a file as numpy writes it"
