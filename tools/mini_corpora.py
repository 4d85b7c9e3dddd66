"""What the small checkpoints are trained on: clip-art training pairs, emoji with their names, WordNet's entries."""

import io
import subprocess
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PACKAGES = ("fonts-noto-color-emoji", "unicode-cldr-core", "wordnet-base")
CLIPART = Path(__file__).parent.parent / "anga" / "assets" / "clipart" / "clipart.parquet"
SIDE = 128  # pixels
GLYPH = 109  # the bitmap size, in pixels, that the emoji font holds


@dataclass
class Corpus:
    """Pairs: `texts[i]` are wordings of `images[i]`, the fullest first. `sentences` have no picture."""

    texts: list[list[str]] = field(default_factory=list)
    images: list[Image.Image] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    def add_pairs(self, source: str, pairs: list[tuple[list[str], Image.Image]]) -> None:
        """Append pairs that come from one source."""
        self.texts += [texts for texts, _ in pairs]
        self.images += [image for _, image in pairs]
        self.sources += [source] * len(pairs)


def build_corpus(cache: Path, n_sentences: int, seed: int) -> Corpus:
    """All training material; Debian packages are fetched into `cache` when they are not there yet."""
    for package in PACKAGES:
        fetch_package(package, cache)
    corpus = Corpus()
    corpus.add_pairs("clipart", clipart_pairs())
    corpus.add_pairs("emoji", emoji_pairs(cache))
    corpus.sentences = wordnet_sentences(cache, n_sentences, seed)
    return corpus


def fetch_package(package: str, cache: Path) -> Path:
    """Unpack a Debian package below `cache`; nothing is installed. SystemExit with the cure when it fails."""
    target = cache / package
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["apt-get", "download", package], cwd=cache, check=True, capture_output=True)
        archive = max(cache.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", archive.name, f"{package}.part"], cwd=cache, check=True)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise SystemExit(f"Cannot fetch Debian's package {package}: run `apt-get update`, on Debian.") from error
    return (cache / f"{package}.part").rename(target)


def clipart_pairs() -> list[tuple[list[str], Image.Image]]:
    """Text and picture of the clip-art *training* items; no keyword, no folder, no other split."""
    import pandas as pd

    table = pd.read_parquet(CLIPART, columns=["text", "title", "image", "split"])
    train = table[table["split"] == "train"]
    return [(list(dict.fromkeys(filter(None, (row.text, row.title)))), decode(row.image)) for row in train.itertuples()]


def decode(image: bytes) -> Image.Image:
    """Encoded bytes -> RGB picture."""
    return Image.open(io.BytesIO(image)).convert("RGB")


def emoji_pairs(cache: Path) -> list[tuple[list[str], Image.Image]]:
    """Single-character emoji with their English CLDR name and keywords."""
    font = ImageFont.truetype(str(next((cache / "fonts-noto-color-emoji").rglob("NotoColorEmoji.ttf"))), GLYPH)
    unknown = draw_glyph("\ue000", font).tobytes()
    pairs = []
    for character, (name, keywords) in sorted(annotations(cache).items()):
        picture = draw_glyph(character, font)
        if picture.tobytes() != unknown and picture.getextrema() != ((255, 255),) * 3:
            pairs.append(([", ".join(dict.fromkeys([name, *keywords])), name], picture))
    return pairs


def annotations(cache: Path) -> dict[str, tuple[str, list[str]]]:
    """Character -> (name, keywords) from CLDR's English annotations, symbols and pictographs only."""
    path = next((cache / "unicode-cldr-core").rglob("common/annotations/en.xml"))
    names, keywords = {}, {}
    for node in ElementTree.parse(path).iter("annotation"):
        if len(node.get("cp")) == 1 and unicodedata.category(node.get("cp")) == "So":
            if node.get("type") == "tts":
                names[node.get("cp")] = node.text
            else:
                keywords[node.get("cp")] = [word.strip() for word in node.text.split("|")]
    return {character: (name, keywords.get(character, [])) for character, name in names.items()}


def draw_glyph(character: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One glyph of a colour bitmap font on a white square."""
    canvas = Image.new("RGB", (136, 136), "white")
    ImageDraw.Draw(canvas).text((0, 4), character, font=font, embedded_color=True)
    return canvas.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def wordnet_sentences(cache: Path, count: int, seed: int) -> list[str]:
    """A sample of WordNet entries as "word, synonym: gloss" and, for as many others, as the words alone."""
    entries = []
    for path in sorted((cache / "wordnet-base").rglob("data.*")):
        entries += [entry for line in path.read_text().splitlines() if (entry := parse_synset(line))]
    order = np.random.default_rng(seed).permutation(len(entries))[:count]
    full = [f"{words}: {gloss}" for words, gloss in (entries[i] for i in order[: count // 2])]
    return full + [entries[i][0] for i in order[count // 2 :]]


def parse_synset(line: str) -> tuple[str, str] | None:
    """(words, gloss without examples) of a line of WordNet's data files; None for names and for the preamble."""
    if line.startswith(" ") or "|" not in line:
        return None
    head, _, gloss = line.partition("|")
    fields = head.split()
    words = [fields[4 + 2 * i].partition("(")[0].replace("_", " ") for i in range(int(fields[3], 16))]
    if any(word != word.lower() for word in words):
        return None
    return ", ".join(words[:3]), gloss.partition('; "')[0].strip()
