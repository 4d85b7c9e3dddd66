"""Whether memory stays flat from files to scores: a generated tree of many films, each stage in a process of its own.

    python -m benchmarks.large_tree [--items 10000] [--light]

The same is done with a quarter of the items. "Own" memory is what a process cannot give back; "mapped" are pages of
files (libraries, and whatever was read of stored tokens), which the system takes back when it needs room; the peak is
of both together. Some things have to grow: texts, ids and labels, two unit vectors and one pooled output a sample.

Encoding takes most of the time (half an hour and more on a few cores). `--light` leaves the convolutional trunk of both
mini checkpoints out: random weights, but vectors and tokens of the same shapes, so that all that grows grows alike.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

from anga.backbone import Backbone
from anga.checkpoints import embedded_folder
from anga.config import Config
from anga.encoders import embed_dataset
from anga.inputs import draw_table, load_config_dataset, retrieve
from anga.tokens import TokenBank
from anga.training import train
from benchmarks.timing import ROOT, duration, machine, print_columns

KINDS = {"own": "RssAnon", "mapped": "RssFile", "peak": "VmHWM"}  # as /proc/self/status calls them
EVERY = 0.1  # seconds between two looks at them
TEXT_CFG = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}  # of the light CLIP


def make_config(folder: Path, **knobs) -> Config:
    """One epoch on the tree in `folder`, a half of it incomplete."""
    tree = {"dataset": "mmimdb", "root": str(folder / "tree"), "device": "cpu"}
    light = {knob: str(folder / knob) for knob in ("backbone", "clip") if (folder / knob).is_dir()}
    return Config(**tree, **light, missing_type="both", missing_rate=0.5, epochs=1, **knobs)


# --- stages; each is the first thing that its process does, and leaves files for the next


def load(folder: Path) -> None:
    load_config_dataset(make_config(folder))


def embed(folder: Path) -> None:
    config = make_config(folder)
    embed_dataset(load_config_dataset(config), config.clip, folder / "outputs" / "cache")


def make_tokens(folder: Path) -> None:
    config = make_config(folder)
    backbone = Backbone.from_name(config.backbone)
    TokenBank.build(load_config_dataset(config), backbone, config.max_text_length, folder / "outputs" / "cache")


def search(folder: Path) -> None:
    config = make_config(folder)
    dataset = load_config_dataset(config)
    retrieve(config, dataset, draw_table(config, dataset), folder / "outputs" / "cache")


def train_plain(folder: Path) -> None:
    train(make_config(folder, use_adapter=False), folder / "outputs", progress=False)


def train_adapter(folder: Path) -> None:
    train(make_config(folder), folder / "outputs", progress=False)


STAGES: dict[str, Callable[[Path], None]] = {
    "load, decoding all pictures": load,
    "load again": load,
    "embed": embed,
    "make tokens": make_tokens,
    "retrieve 5 neighbours": search,
    "1 epoch without adapter": train_plain,
    "1 epoch with adapter": train_adapter,
}

# --- measuring


class MemoryWatch(threading.Thread):
    """Looks at this process's memory again and again; `most` has the largest values seen, in MB, by kind."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most, self.done = dict.fromkeys(KINDS, 0.0), threading.Event()

    def run(self) -> None:
        while not self.done.wait(EVERY):
            self.look()

    def look(self) -> None:
        lines = Path("/proc/self/status").read_text().splitlines()
        values = {name: rest.split()[0] for name, _, rest in (line.partition(":") for line in lines) if rest.split()}
        self.most = {kind: max(self.most[kind], int(values[name]) / 1024) for kind, name in KINDS.items()}

    def __enter__(self) -> "MemoryWatch":
        self.start()
        return self

    def __exit__(self, *error) -> None:
        self.done.set()
        self.join()
        self.look()


def measure(stage: str, folder: Path) -> dict[str, float]:
    """Run a stage in this process: its seconds, and MB by kind."""
    with MemoryWatch() as watch:
        start = time.perf_counter()
        STAGES[stage](folder)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, **watch.most}


def measure_in_child(stage: str, folder: Path) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.large_tree", "--stage", stage, "--folder", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def make_tree(folder: Path, items: int) -> None:
    """`items` films with posters of 256 x 256 pixels, and some broken ones: the tests' tree, only larger."""
    sys.path.insert(0, str(ROOT / "tests"))  # their modules import one another by bare names
    from data_trees import mmimdb

    mmimdb(folder / "tree", n=items, side=256)


def make_light(folder: Path) -> None:
    """Random checkpoints with the shapes of mini-vilt and mini-clip; a picture is cut into cells, nothing more."""
    from open_clip.model import CLIP
    from safetensors.torch import save_file
    from transformers import ViltConfig, ViltModel

    mini = embedded_folder("mini-vilt")
    ViltModel(ViltConfig.from_pretrained(mini, hybrid_stem=None)).save_pretrained(folder / "backbone")
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copy(mini / name, folder / "backbone")
    shape = json.loads((embedded_folder("mini-clip") / "open_clip_config.json").read_text())["model_cfg"]
    vision = {"image_size": 64, "layers": 1, "width": 64, "head_width": 32, "patch_size": 32}
    config = {"embed_dim": shape["embed_dim"], "vision_cfg": vision, "text_cfg": TEXT_CFG}
    (folder / "clip").mkdir()
    (folder / "clip" / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    save_file(CLIP(**config).state_dict(), folder / "clip" / "open_clip_model.safetensors")


def measure_all(items: int, light: bool, measure: Callable = measure_in_child) -> dict[str, dict[str, float]]:
    """Stage -> what it took, on a tree that is made for it and removed afterwards."""
    folder = Path(tempfile.mkdtemp())
    try:
        make_tree(folder, items)
        if light:
            make_light(folder)
        return {stage: measure(stage, folder) for stage in tqdm(STAGES, desc=f"{items:,} items", unit="stage")}
    finally:
        shutil.rmtree(folder)


def columns(few: dict, many: dict, n_few: int, n_many: int) -> dict[str, dict[str, str]]:
    """The table: seconds and MB at both sizes, and what own memory grows by for each thousand items more."""
    table = {}
    for n, found in ((n_few, few), (n_many, many)):
        table[f"{n:,} items"] = {stage: duration(values["seconds"]) for stage, values in found.items()}
        for kind in KINDS:
            unit = f"{kind} MB" if kind == "own" else kind
            table[f"{unit}{' ' * (n == n_many)}"] = {s: f"{values[kind]:,.0f}" for s, values in found.items()}
    grown = {s: (many[s]["own"] - few[s]["own"]) / (n_many - n_few) * 1000 for s in many}
    return table | {"own MB / 1,000": {stage: f"{value:+.1f}" for stage, value in grown.items()}}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000, help="films with a poster and a plot (%(default)s)")
    parser.add_argument("--light", action="store_true", help="checkpoints of the same shapes without their trunks")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.stage:
        print(json.dumps(measure(options.stage, options.folder)))
        return
    few = options.items // 4
    print(f"From files to scores on {machine(torch.device('cpu'))}")
    found = [measure_all(n, options.light) for n in (few, options.items)]
    print_columns(list(STAGES), columns(*found, few, options.items))


if __name__ == "__main__":
    main()
