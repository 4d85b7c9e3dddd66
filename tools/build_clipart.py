"""Build anga/assets/clipart/clipart.parquet and its datasheet from Debian's openclipart packages (public domain)."""

import argparse
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from clipart_datasheet import write_datasheet
from clipart_groups import connect, deal, name_groups
from clipart_metadata import ICON_FOLDER, Record, read_record, refusal, series_titles, with_text
from clipart_pictures import encode, ink_vectors, load_picture
from tqdm import tqdm

from anga.datasets import clipart

PACKAGES = ("openclipart-svg", "openclipart-png")
VERSION = "1:0.18+dfsg-19"
SEED = 0
MIN_KEYWORD = {"train": 19, "validation": 2, "test": 4}  # drawings that carry it
MIN_FOLDER = {"train": 8, "validation": 1, "test": 2}
NO_KEYWORD = {"unsorted", "signs and symbols", "clip art", "clipart", "image", "externalsource", "public domain"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--debs", type=Path, help="folder with both .deb files (default: download them)")
    source.add_argument("--root", type=Path, help="folder of the unpacked packages, holding usr/share/openclipart")
    parser.add_argument("--cache", type=Path, default=Path("build/openclipart"), help="where to download and unpack")
    parser.add_argument("--out", type=Path, default=clipart.FOLDER / clipart.FILE, help="parquet file to write")
    return parser.parse_args()


def unpack(debs: Path | None, cache: Path) -> Path:
    """The folder that holds the unpacked packages; they are downloaded first if `debs` is None."""
    cache.mkdir(parents=True, exist_ok=True)
    wanted = [f"{name}={VERSION}" for name in PACKAGES]
    if debs is None and not all(list(cache.glob(f"{name}_*.deb")) for name in PACKAGES):
        _run(["apt-get", "download", *wanted], cache)
    for name in PACKAGES:
        found = sorted((debs or cache).glob(f"{name}_*.deb"))
        if not found:
            sys.exit(f"no {name}_*.deb in '{debs or cache}': put it there, or leave --debs out to download it")
        _run(["dpkg-deb", "-x", str(found[-1].resolve()), "unpacked"], cache)
    return cache / "unpacked"


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"'{' '.join(command)}' failed ({error}): run it on Debian or Ubuntu, or give --debs or --root")


def select(root: Path, dropped: Counter) -> list[Record]:
    """All drawings that stay, by path; `dropped` counts the others by reason."""
    svg, png = (root / "usr/share/openclipart" / kind for kind in ("svg", "png"))
    if not svg.is_dir() or not png.is_dir():
        sys.exit(f"no usr/share/openclipart/svg and png under '{root}': give the folder both packages were unpacked in")
    files = sorted(p for p in svg.rglob("*.svg") if p.is_file() and not p.is_symlink())
    dropped["symbolic link to another drawing"] = sum(p.is_symlink() for p in svg.rglob("*.svg"))
    records = []
    for file in tqdm(files, desc="metadata", unit="file"):
        record = read_record(file, svg)
        if reason := refusal(record):
            dropped[reason] += 1
        else:
            records.append(record)
    series = series_titles(records)
    records = [with_text(record, series) for record in records]
    dropped["no usable text"] = sum(not record.text for record in records)
    return unite_copies([record for record in records if record.text], png, dropped)


def picture_path(png: Path, record: Record) -> Path:
    return png / f"{record.path.removesuffix('.svg')}.png"


def unite_copies(records: list[Record], png: Path, dropped: Counter) -> list[Record]:
    """One record per PNG file content: the most deeply filed copy, with the keywords of all."""
    copies = defaultdict(list)
    for record in records:
        copies[hashlib.sha256(picture_path(png, record).read_bytes()).digest()].append(record)
    kept = []
    for same in copies.values():
        best = max(same, key=lambda r: (not r.folder.startswith(ICON_FOLDER), r.path.count("/"), r.path))
        kept.append(replace(best, keywords=tuple(sorted({word for r in same for word in r.keywords}))))
    dropped["copy of another drawing"] = len(records) - len(kept)
    return sorted(kept, key=lambda record: record.path)


def merge_keywords(records: list[Record]) -> list[list[str]]:
    """[N] keyword lists: one form of plural pairs (the commoner), no creators, no import debris."""
    count = Counter(word for record in records for word in record.keywords)
    other = {w: w + "s" for w in count if w + "s" in count}
    other |= {plural: word for word, plural in other.items()}
    creators = {record.creator.lower() for record in records} | NO_KEYWORD
    merged = []
    for record in records:
        kept = [w for w in record.keywords if w not in creators and not re.fullmatch(r"[\d\W]+", w)]
        merged.append(sorted({max(w, other.get(w, w), key=lambda v: (count[v], v)) for w in kept}))
    return merged


def frequent(values: list[list[str]], split: list[str], least: dict[str, int]) -> list[str]:
    """Sorted names that occur at least so often in every split."""
    count = {part: Counter() for part in least}
    for names, part in zip(values, split, strict=True):
        count[part].update(names)
    return sorted(name for name in count["train"] if all(count[part][name] >= n for part, n in least.items()))


def build_table(records: list[Record], pictures: list) -> pa.Table:
    """The table of the parquet file, class lists in its metadata."""
    groups = name_groups(records, connect(records, ink_vectors(pictures)))
    folders = [record.folder for record in records]
    split = deal(groups, folders, SEED)
    keywords = merge_keywords(records)
    classes = {
        "keywords": frequent(keywords, split, MIN_KEYWORD),
        "folders": frequent([[folder] for folder in folders], split, MIN_FOLDER),
    }
    columns = {
        "id": [record.path.removesuffix(".svg") for record in records],
        "image": [encode(picture) for picture in pictures],
        "text": [record.text for record in records],
        "title": [record.title for record in records],
        "keywords": keywords,
        "folder": folders,
        "group": groups,
        "split": split,
        "source": [f"usr/share/openclipart/svg/{record.path}" for record in records],
        "creator": [record.creator for record in records],
        "licence": [record.licence for record in records],
    }
    return pa.table(columns).replace_schema_metadata({"classes": json.dumps(classes)})


def main() -> None:
    """Build, write, report, and compare the content hash with the committed one."""
    arguments = parse_arguments()
    root = arguments.root or unpack(arguments.debs, arguments.cache)
    dropped: Counter = Counter()
    records, pictures = [], []
    png = root / "usr/share/openclipart/png"
    for record in tqdm(select(root, dropped), desc="pictures", unit="picture"):
        picture = load_picture(picture_path(png, record))
        if picture is None:
            dropped["nothing visible on white"] += 1
        else:
            records.append(record)
            pictures.append(picture)
    table = build_table(records, pictures)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, arguments.out, compression="zstd", row_group_size=1024)
    report(table, dropped, records, arguments.out)


def report(table: pa.Table, dropped: Counter, records: list[Record], out: Path) -> None:
    """Print counts and content hash, write the datasheet beside the parquet file."""
    found = clipart.table_hash(table)
    print(
        f"{len(table)} drawings in {len(set(table.column('group').to_pylist()))} groups, "
        f"{out.stat().st_size / 1e6:.1f} MB: {dict(Counter(table.column('split').to_pylist()))}"
    )
    print("left out:", ", ".join(f"{n} {reason}" for reason, n in dropped.most_common()))
    print(f"content hash {found}")
    if found != clipart.CONTENT_HASH:
        sys.exit(
            f"differs from the committed {clipart.CONTENT_HASH}: to accept this build, set CONTENT_HASH in "
            "anga/datasets/clipart.py and run again, which also writes the datasheet"
        )
    print("equal to the committed one")
    write_datasheet(table, dropped, sum(r.completed for r in records), VERSION, out.parent)


if __name__ == "__main__":
    main()
