"""Group drawings that must not straddle a split, and deal the groups to training, validation and test."""

import hashlib
import re
from collections import Counter, defaultdict

import numpy as np
from clipart_metadata import Record, file_words, words
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
NEAR = 0.985  # cosine of two ink vectors from which pictures count as the same
LARGE = 15  # drawings: a larger series would fill a small split with one kind of picture, so it goes to training
LONG_TEXT = 30  # characters: a shared description so long marks a series
VARIANTS = {"bw", "b", "w", "and", "black", "white", "red", "green", "blue", "yellow", "left", "right", "up", "down"}


def group_keys(record: Record) -> list[tuple[str, str]]:
    """Whatever two drawings of a series share: the file name, the title, the text, a long description."""
    name = _series(file_words(record))
    title = _series(words(re.sub(r"\(.*?\)", " ", record.title.replace("_", " "))))
    keys = [("text", record.text.lower()), ("name", name), ("title", title)]
    if len(record.description) >= LONG_TEXT:
        keys.append(("description", record.description.lower()))
    return [(kind, value) for kind, value in keys if value]


def _series(found: list[str]) -> str:
    """Words without numbers, single letters and the variants' colours and directions."""
    return " ".join(w for w in found if len(w) > 1 and not w.isdigit() and w not in VARIANTS)


def connect(records: list[Record], ink: np.ndarray) -> np.ndarray:
    """[N] component number of each drawing: linked by a shared key or by nearly the same picture."""
    holders = defaultdict(list)
    for row, record in enumerate(records):
        for key in group_keys(record):
            holders[key].append(row)
    links = [(rows[0], row) for rows in holders.values() for row in rows[1:]]
    near = np.argwhere(np.triu(ink @ ink.T > NEAR, k=1))
    a, b = np.concatenate([np.array(links, int).reshape(-1, 2), near]).T
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(len(records), len(records)))
    return connected_components(graph, directed=False)[1]


def name_groups(records: list[Record], component: np.ndarray) -> list[str]:
    """A readable, unique name for each component: the path of its first drawing, without the ending."""
    first: dict[int, str] = {}
    for record, number in zip(records, component, strict=True):
        stem = record.path.removesuffix(".svg")
        first[number] = min(first.get(number, stem), stem)
    return [first[number] for number in component]


def deal(groups: list[str], folders: list[str], seed: int) -> list[str]:
    """Split of each drawing: large groups first, each to the split most in want of its folders.

    Groups of one size come in the order of a seeded hash of their names, so that the result depends on nothing else.
    """
    members = defaultdict(Counter)
    for group, folder in zip(groups, folders, strict=True):
        members[group][folder] += 1
    wanted = {f: {s: share * n for s, share in SHARES.items()} for f, n in Counter(folders).items()}
    chosen = {}
    for group in sorted(members, key=lambda g: (-members[g].total(), seeded_hash(g, seed))):
        need = {s: sum(n * wanted[f][s] / SHARES[s] ** 0.5 for f, n in members[group].items()) for s in SHARES}
        fits = list(SHARES) if members[group].total() <= LARGE else ["train"]
        chosen[group] = max(fits, key=lambda s: (round(need[s], 6), SHARES[s]))
        for folder, n in members[group].items():
            wanted[folder][chosen[group]] -= n
    return [chosen[group] for group in groups]


def seeded_hash(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
