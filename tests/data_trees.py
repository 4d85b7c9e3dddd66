"""Small copies of the paper's data sets, file by file as people have them, warts included, from the embedded drawings.

Every builder keeps its own books while it writes: which samples a loader must find, and how many rows it must skip for
which reason. `n` good samples are written, half of them for training; the warts come on top. `side` is the pictures'
height and width in pixels.
"""

import json
from pathlib import Path

import numpy as np
from drawings import JPEG_FORMS, PNG_FORMS, SPLITS, Drawings, Sample, Tree, cut, plain

ACCENTS = "façade – 雪 🎉"
SHARES = (0.5, 0.25, 0.25)


def sizes(n: int) -> dict[str, int]:
    """n samples over the splits."""
    parts = [round(n * share) for share in SHARES[1:]]
    return dict(zip(SPLITS, (n - sum(parts), *parts), strict=True))


# --- Hateful Memes


def hatememes(root: Path, n: int = 60, warts: bool = True, older: bool = False, side: int = 128) -> Tree:
    """`img/*.png` and JSON lines; `older`: dev.jsonl and test.jsonl."""
    (root / "img").mkdir(parents=True)
    tree, drawings, number = Tree(root), Drawings("pairs", side), 0
    names = {"train": "train.jsonl", "validation": "dev_seen.jsonl", "test": "test_seen.jsonl"}
    for split, size in sizes(n).items():
        lines = []
        for _ in range(size):
            number += 1
            lines.append(_meme(tree, split, f"{number:05d}", number, drawings, PNG_FORMS if warts else (plain,)))
        if warts:
            lines += _bad_memes(tree, split, drawings)
        name = names[split].replace("_seen", "") if older else names[split]
        mark, end = ("\ufeff", "\r\n") if split == "validation" else ("", "\n")  # a copy that went through Windows
        (root / name).write_text(mark + end.join(lines) + end, encoding="utf-8", newline="")
    if warts:
        for name in ("90001.png", "90002.png"):
            plain(drawings.take("test")[2], root / "img" / name)
    return tree


def _meme(tree: Tree, split: str, name: str, number: int, drawings: Drawings, forms) -> str:
    """Write one good sample; its line."""
    text, label, picture = drawings.take(split)
    text = f"{text} {ACCENTS}" if number % 3 == 0 else text
    on_disk = f"{name}.PNG" if number % 7 == 0 and len(forms) > 1 else f"{name}.png"
    looks = forms[number % len(forms)](picture, tree.root / "img" / on_disk)
    tree.samples[name] = Sample(split, text, ("not hateful", "hateful")[label], looks)
    row = {"id": name, "img": f"img/{name}.png", "label": int(label), "text": text}
    return json.dumps(row, ensure_ascii=number % 2 == 0)


def _bad_memes(tree: Tree, split: str, drawings: Drawings) -> list[str]:
    """One line for each thing that is wrong in some copy."""
    known = next(name for name, sample in tree.samples.items() if sample.split == split)
    lines, folder = [], tree.root / "img"

    def bad(kind: str, reason: str, **changed) -> Path:
        tree.skipped[split, reason] += 1
        path = folder / f"{split}-{kind}.png"
        row = {"id": f"{split}-{kind}", "img": f"img/{path.name}", "label": 1, "text": "some words"} | changed
        lines.append(json.dumps({key: value for key, value in row.items() if value != "absent"}))
        return path

    no_label = "without label: the final release's test_seen.jsonl has it" if split == "test" else "without label"
    bad("nowhere", "image missing")
    plain(drawings.take(split)[2], cut_later := bad("cut", "image cannot be decoded"))
    cut(cut_later)
    bad("page", "image cannot be decoded").write_text("<html>not found</html>")
    bad("empty", "image cannot be decoded").write_bytes(b"")
    for kind, reason, changed in (
        ("blank", "without text", {"text": "  "}),
        ("wordless", "without text", {"text": "absent"}),
        ("unlabelled", no_label, {"label": "absent"}),
        ("null", no_label, {"label": None}),
        ("third", no_label, {"label": 2}),
        ("again", "id given before", {"id": known}),
    ):
        plain(drawings.take(split)[2], bad(kind, reason, **changed))
    tree.skipped[split, "line cannot be read"] += 3
    return [*lines, '{"id": 1, "img": ', "[1, 2]", "", '{"id": 3, "label": 1, "text": "no picture named"}']


# --- MM-IMDb

GENRES = ["Drama", "Comedy", "Romance", "Sci-Fi", "Film-Noir"]


def mmimdb(root: Path, n: int = 60, warts: bool = True, folders=("dataset", "dataset"), side: int = 128) -> Tree:
    """One description and one poster per film, in `folders`, and split.json."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
    tree, drawings, number, listed = Tree(root), Drawings("keywords", side), 0, {}
    for split, size in sizes(n).items():
        ids = listed[{"validation": "dev"}.get(split, split)] = []
        for _ in range(size):
            number += 1
            ids.append(f"{number:07d}")
            _film(tree, split, ids[-1], number, drawings, folders, JPEG_FORMS if warts else (plain,))
        if warts:
            ids += _bad_films(tree, split, drawings, folders)
    if warts:
        _write_film(tree.root, folders, "9999999", drawings.take("test")[2], {"genres": ["Drama"], "plot": ["x"]})
    (root / "split.json").write_text(json.dumps(listed))
    return tree


def _film(tree: Tree, split: str, name: str, number: int, drawings: Drawings, folders, forms) -> None:
    text, label, picture = drawings.take(split)
    text = f"{text} {ACCENTS}" if number % 3 == 0 else text
    genres = sorted({GENRES[k % len(GENRES)] for k in np.flatnonzero(label)}, key=GENRES.index)
    film = {"title": f"film {number}", "genres": genres + (["News"] if number % 4 == 0 else [])}
    plots = (
        {"plot outline": text, "plot": ["another one", "a third"]},
        {"plot": [text, "a second plot"]},
        {"plot outline": " ", "plot": ["", text]},
    )
    suffix = (".jpeg", ".jpg", ".JPEG")[number % 3]
    looks = _write_film(tree.root, folders, name, picture, film | plots[number % 3], suffix, forms[number % len(forms)])
    tree.samples[name] = Sample(split, text, genres, looks)


def _write_film(root: Path, folders, name: str, picture, film, suffix: str = ".jpeg", form=plain) -> np.ndarray:
    images, labels = (root / folder for folder in folders)
    (labels / f"{name}.json").write_text(json.dumps(film))
    return form(picture, images / f"{name}{suffix}")


def _bad_films(tree: Tree, split: str, drawings: Drawings, folders) -> list[str]:
    first = 1000 * SPLITS.index(split)
    good = {"genres": ["Drama"], "plot": ["a plot"]}
    cases = (
        ("description missing", good),
        ("description cannot be read", good),
        ("image missing", good),
        ("image cannot be decoded", good),
        ("without text", {"genres": ["Drama"], "plot": []}),
        ("without text", {"genres": ["Drama"]}),
        ("without genre", {"plot": ["a plot"]}),
        ("no genre of the paper's 23", {"plot": ["a plot"], "genres": ["News", "Adult"]}),
    )
    ids = []
    for number, (reason, film) in enumerate(cases):
        name = f"{8000000 + first + number}"
        ids.append(name)
        tree.skipped[split, reason] += 1
        _write_film(tree.root, folders, name, drawings.take(split)[2], film)
        image, description = (
            tree.root / folder / f"{name}{suffix}" for folder, suffix in zip(folders, (".jpeg", ".json"), strict=True)
        )
        if reason == "description missing":
            description.unlink()
        elif reason == "description cannot be read":
            cut(description)
        elif reason == "image missing":
            image.unlink()
        elif reason == "image cannot be decoded":
            cut(image)
    tree.skipped[split, "id given before"] += 1
    return [*ids, next(name for name, sample in tree.samples.items() if sample.split == split)]


# --- Food-101


def food101(root: Path, n: int = 60, warts: bool = True, classes: int = 5, side: int = 128) -> Tree:
    """`images/{train,test}/<class>/` and titles without header; samples of validation are among the train files."""
    tree, drawings, number = Tree(root), Drawings("folders", side), 0
    (root / "texts").mkdir(parents=True)
    counts = sizes(n)
    for part, size in (("train", counts["train"] + counts["validation"]), ("test", counts["test"])):
        lines = []
        for _ in range(size):
            number += 1
            lines.append(_dish(tree, part, number, drawings, number % classes, warts))
        if warts:
            lines += _bad_dishes(tree, part, drawings)
        mark, end = ("\ufeff", "\r\n") if part == "test" else ("", "\n")
        text = mark + end.join(lines) + end
        (root / "texts" / f"{part}_titles.csv").write_text(text, encoding="utf-8", newline="")
    if warts:
        plain(drawings.take("test")[2], root / "images" / "test" / "dish_0" / "dish_0_99999.jpg")
    return tree


def _dish(tree: Tree, part: str, number: int, drawings: Drawings, kind: int, warts: bool) -> str:
    text, _, picture = drawings.take(part)
    text = text.replace('"', "") + (f" {ACCENTS}" if number % 3 == 0 else "")
    name, label = f"dish_{kind}_{number}", f"dish_{kind}"
    folder = tree.root / "images" / part / label
    folder.mkdir(parents=True, exist_ok=True)
    forms = JPEG_FORMS if warts else (plain,)
    suffix = ".JPG" if warts and number % 6 == 0 else ".jpg"
    looks = forms[number % len(forms)](picture, folder / f"{name}{suffix}")
    written, text = _title(text, number if warts else 0)
    tree.samples[f"{part}/{name}"] = Sample(part, text, label, looks)
    return f"{name}.jpg,{written},{label}"


def _title(text: str, number: int) -> tuple[str, str]:
    """A text as the file has it, and as it is meant."""
    forms = (
        (f'"{text}"', text),
        (f'"{text}, a recipe', f"{text}, a recipe"),  # never closed
        (f'"{text} ""at home"", easy"', f'{text} "at home", easy'),
        (f'{text} 9" pan, quick', f'{text} 9" pan, quick'),
        (f'"{text}\nsecond line"', f"{text} second line"),
    )
    return forms[number % len(forms)]


def _bad_dishes(tree: Tree, part: str, drawings: Drawings) -> list[str]:
    folder = tree.root / "images" / part / "dish_0"
    known = next(name for name, sample in tree.samples.items() if sample.split == part).removeprefix(f"{part}/")
    label = known.rpartition("_")[0]
    for name in ("wordless", "bare", "cut"):
        plain(drawings.take(part)[2], folder / f"{name}-{part}.jpg")
    cut(folder / f"cut-{part}.jpg")
    reasons = ("without text", "without text", "image missing", "image cannot be decoded", "id given before")
    tree.skipped.update((part, reason) for reason in (*reasons, "line cannot be read", "line cannot be read"))
    return [
        "file,text,class",
        f"wordless-{part}.jpg,,dish_0",
        f"bare-{part}.jpg,dish_0",
        f"nowhere-{part}.jpg,some words,dish_0",
        f'cut-{part}.jpg,"some, words",dish_0',
        f"{known}.jpg,the same again,{label}",
        f"unended-{part}.jpg,a line without its class",
    ]
