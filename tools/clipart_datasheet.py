"""Write DATASHEET.md: the text below, with every count taken from the table just built."""

from collections import Counter
from pathlib import Path

import numpy as np
import PIL
import pyarrow as pa
from clipart_groups import LARGE, SHARES
from clipart_metadata import words
from PIL import features

from anga.datasets import SPLITS, Dataset, clipart, load_dataset

TEXT = """# Datasheet: `clipart`

*Written by `tools/build_clipart.py`; the counts below are those of the file beside it.*

## What it is
{n} drawings of the Open Clip Art Library, each with one picture (128 x 128 pixels, RGB on white, WebP) and one short
text, for three tasks that need no download:

{tasks}

## Where it comes from
Debian's packages `openclipart-svg` and `openclipart-png`, version {version} (`dfsg`: Debian's own selection), made
from release 0.18 of the Open Clip Art Library. Title, description, keywords, creator and licence are read from the RDF
block inside each SVG file; the picture is the package's own rendering of that file.

**Licence.** Only files whose own metadata tag them as public domain are kept: {licences}.
Each row names its source file, creator and licence tag. The tags are the contributors' own statements; the packages'
copyright file carries the Creative Commons Public Domain Dedication for the whole. Logos and flags among the drawings
may be protected by other rights than copyright.

## What was selected
Of {files} SVG files were left out: {dropped}.
Generated stars and gradients, `unsorted` (no folder to predict) and whole icon themes (one title for hundreds of icons)
say little about pictures and texts. Debian files a drawing under several folders, partly by links: each drawing is kept
once, in its most deeply nested folder, with the keywords of all its copies.

## What was changed
- **Picture**: composed on white, blank margins trimmed, fitted into the square with a margin of 4 %, padded with white.
- **Text**: title and description, joined unless one holds all words of the other. Removed: markup, web and mail
  addresses, import notes ("EPS converted from ..."), `HASH(0x...)`, "Clipart by NAME -", notes on the public domain,
  underscores; entities and UTF-8 that had been read as Latin-1 are repaired.
- **Series titles**: {completed} titles describe the series ("AIGA Symbol Signs", "card") or were copied from another
  file ("Clipart by N. B. - pear" on cherries). To the first the words of the file name are added ("AIGA Symbol Signs:
  escalator down"), the second are replaced by them.
- **Keywords**: lower case, one form of plural pairs; import debris, creators' names and `unsorted` removed.

## Known noise
- The texts are short (median {median_words} words) and uneven: {shared_texts} drawings share theirs with another one.
  Besides English there is Italian and French; some texts are typed carelessly; some describe how the drawing was made.
- Keywords were given by hand and unevenly: an absent keyword is weak evidence. The keyword list is not part of the
  text, but a keyword can occur in it by nature ("flag of ..."): {keyword_in_text} of the task's positive labels do.
- A folder is where somebody filed a drawing; a drawing often fits several.
- `clipart-pairs` is a constructed task. A text taken from another drawing can fit by chance ("tree" on another tree).
- Faces, body outlines, weapons, religious and political symbols (flags of historic states) occur, as in any
  collection of its time; people are often drawn as stereotypes. Nothing here identifies a private person,
  except the contributors, who signed their drawings.

## Splits
Fixed in the file: {splits}.
Drawings are linked if they share a file-name stem (numbers, colours, directions and `bw` taken off), a title
(likewise), a text, or a long description, or if their 16 x 16 pictures are nearly equal; a connected component is a
*group*, and no group straddles a split. There are {groups} groups; the largest have
{largest} drawings. Groups of more than {large} drawings (playing cards, AIGA signs, ...) are all in the training split;
the others are dealt in the order of size and of a seeded hash, each to the split most in want of its folders
(aim {shares}).

## The tasks
**`clipart-keywords`** (multi-label, F1-micro): the {n_keywords} keywords that are frequent enough in every split;
drawings with none of them are left out of the task.
**`clipart-folders`** (multi-class, accuracy): the {n_folders} folders with enough drawings in every split; a folder
holds what is filed directly in it, not in its subfolders.
**`clipart-pairs`** (binary, AUROC): does the text belong to the picture? Label 1 (`belongs`): its own text. Label 0
(`swapped`): the text of another drawing of the same top folder and split, of another group. Exactly half of each split
and top folder is swapped by a permutation without fixed points; half of each group too (within one), so that neither
picture, text nor series alone tells. `seed` (default 0) draws it. A few drawings are left out (odd one out; a group of
more than half its cell). `unimodal_cue` = c in [0, 1] plants a cue in the text: for c > 0 every text begins with
"picture:" or "drawing:"; "drawing:" goes with label 1 and "picture:" with label 0 with probability (1 + c) / 2.

## Columns
`id` · `image` (WebP bytes) · `text` · `title` (as found) · `keywords` (list) · `folder` (below the package's `svg`) ·
`group` · `split` · `source` (path in the package) · `creator` · `licence`. The class lists are in the file's metadata.

## Integrity
Content hash (SHA-256 over all columns and class lists): `{hash}`.
The loader checks it. Built with Pillow {pillow}, libwebp {webp}; another encoder may give other bytes, so another hash.

## Keywords: training / validation / test
{keywords}

## Folders: training / validation / test
{folders}
"""


def write_datasheet(table: pa.Table, dropped: Counter, completed: int, version: str, folder: Path) -> None:
    """DATASHEET.md beside the parquet file in `folder`."""
    keywords, folders, pairs = (load_dataset(f"clipart-{task}", folder) for task in ("keywords", "folders", "pairs"))
    texts, groups = (table.column(c).to_pylist() for c in ("text", "group"))
    sizes = [size for _, size in Counter(groups).most_common(4)]
    values = {
        "n": f"{len(table):,}",
        "tasks": _task_table([keywords, folders, pairs]),
        "version": version,
        "licences": ", ".join(
            f"`{tag}` ({n:,})" for tag, n in Counter(table.column("licence").to_pylist()).most_common()
        ),
        "files": f"{len(table) + dropped.total():,}",
        "dropped": "; ".join(f"{n:,} {reason}" for reason, n in dropped.most_common()),
        "completed": completed,
        "median_words": int(np.median([len(words(text)) for text in texts])),
        "shared_texts": sum(n for n in Counter(text.lower() for text in texts).values() if n > 1),
        "keyword_in_text": f"{_share_in_text(keywords):.0%}",
        "splits": ", ".join(f"{part} {texts_in(table, part):,}" for part in SPLITS),
        "groups": f"{len(set(groups)):,}",
        "largest": ", ".join(map(str, sizes)),
        "large": LARGE,
        "shares": " / ".join(f"{share:.0%}" for share in SHARES.values()),
        "n_keywords": len(keywords.classes),
        "n_folders": len(folders.classes),
        "hash": clipart.CONTENT_HASH,
        "pillow": PIL.__version__,
        "webp": features.version("webp"),
        "keywords": _class_counts(keywords),
        "folders": _class_counts(folders),
    }
    (folder / "DATASHEET.md").write_text(TEXT.format(**values), encoding="utf-8")


def texts_in(table: pa.Table, part: str) -> int:
    return table.column("split").to_pylist().count(part)


def _task_table(datasets: list[Dataset]) -> str:
    lines = ["| task | kind, metric | classes | train | validation | test |", "|---|---|---|---|---|---|"]
    for dataset in datasets:
        counts = " | ".join(f"{len(dataset.rows(part)):,}" for part in SPLITS)
        lines.append(f"| `{dataset.name}` | {dataset.task}, {dataset.metric} | {len(dataset.classes)} | {counts} |")
    return "\n".join(lines)


def _share_in_text(dataset: Dataset) -> float:
    """Share of the positive labels whose keyword stands in the text as words."""
    found = [
        set(words(dataset.classes[k])) <= set(words(dataset.texts[row])) for row, k in np.argwhere(dataset.labels > 0)
    ]
    return float(np.mean(found))


def _class_counts(dataset: Dataset) -> str:
    """`name n/n/n` for every class, in label order."""
    labels = dataset.labels if dataset.labels.ndim == 2 else np.eye(len(dataset.classes), dtype=int)[dataset.labels]
    counts = np.stack([labels[dataset.rows(part)].sum(0) for part in SPLITS], 1).astype(int)
    return " · ".join(f"{name} {'/'.join(map(str, row))}" for name, row in zip(dataset.classes, counts, strict=True))
