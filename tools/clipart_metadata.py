"""Read title, description, keywords, creator and licence from Open Clip Art's SVG files, and clean the text."""

import html
import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

DROPPED_FOLDERS = ("shapes/stars", "special", "unsorted")
ICON_FOLDER = "computer/icons"
THEME_TITLES = {"Etiquette Icons", "Lemon SVG theme", "gold-theme", "plastik-icon-theme", "blueberry - iconset"}
SERIES_SIZE = 3  # a title on so many files with differing names describes the series, not the picture
BOILERPLATE = {"clip art", "clipart", "image", "drawing", "untitled", "unknown", "no description", "email adress"}

MARKUP = re.compile(r"<!--.*?-->|<[^>]*>|HASH\(0x\w+\)", re.S)
ADDRESS = re.compile(r"https?://\S+|www\.\S+|\S+@\S+\.\w+")
NOTES = re.compile(
    r"EPS converted from|This work is hereby released into the Public Domain\..*|Released under Public Domain License|"
    r"This work is dedicated to the\s*(Public Domain)?\s*\.?|\bcontact:|^\s*by\s*$|"
    r"(Converted|Imported|Exported) (from|by|with) \S+$",
    re.I,
)
NAME_WORD = re.compile(r"[^\W\d_]+|(?<=_)[1-9]\d?(?=_|$)")
BYLINE = re.compile(r"^\s*Clip\s?art by [^-]*-\s*", re.I)


@dataclass(frozen=True)
class Record:
    """One drawing as its SVG file describes it; `path` is relative to the package's svg folder."""

    path: str
    title: str
    description: str
    keywords: tuple[str, ...]
    creator: str
    licence: str
    text: str = ""
    completed: bool = False

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def stem(self) -> str:
        return Path(self.path).stem


def read_record(svg: Path, root: Path) -> Record:
    """The RDF `cc:Work` block of one file; absent fields are empty strings."""
    work = next((e for e in ET.parse(svg).getroot().iter() if _local(e.tag) == "Work"), ())
    fields = {_local(child.tag): child for child in work}
    licence = fields.get("license")
    keywords = [_text(e) for e in fields["subject"].iter() if _local(e.tag) == "li"] if "subject" in fields else []
    return Record(
        path=svg.relative_to(root).as_posix(),
        title=_text(fields.get("title")),
        description=_text(fields.get("description")),
        keywords=tuple(clean_keywords(keywords)),
        creator=_text(fields.get("creator")),
        licence="" if licence is None else next(iter(licence.attrib.values()), ""),
    )


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _text(element: ET.Element | None) -> str:
    return "" if element is None else _mended(" ".join("".join(element.itertext()).split()))


def _mended(text: str) -> str:
    """Left-over entities (`&#39;`) resolved; UTF-8 that was once read as Latin-1 (`gÃ©nÃ©ral`) read again as UTF-8."""
    text = html.unescape(text)
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def clean_keywords(raw: list[str]) -> list[str]:
    """Lower case, blanks for underscores, without the import's debris (`hash`, `0x85a831c`); sorted, unique."""
    words = {" ".join(word.lower().replace("_", " ").split()) for word in raw}
    return sorted(w for w in words if w and w != "hash" and not w.startswith("0x"))


def refusal(record: Record) -> str | None:
    """Why a drawing is left out before its text is looked at, or None."""
    if "publicdomain" not in record.licence.lower():
        return "no public-domain tag"
    if any(record.folder == f or record.folder.startswith(f + "/") for f in DROPPED_FOLDERS):
        return "folder stars, special or unsorted"
    in_theme = record.folder.startswith(ICON_FOLDER + "/") and record.folder.endswith("theme")
    if in_theme or "-theme/" in record.folder or (record.title in THEME_TITLES):
        return "icon theme"
    return None


def clean(raw: str) -> str:
    """Without markup, addresses, import notes and underscores."""
    text = NOTES.sub(" ", ADDRESS.sub(" ", MARKUP.sub(" ", raw)))
    text = re.sub(r"\.svg\b", "", text.replace("_", " "), flags=re.I)
    return re.sub(r"\s+([.,;!?])", r"\1", " ".join(text.split())).strip(" -:;,/|")


def words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.lower())


def file_words(record: Record) -> list[str]:
    """Words of the file name; the package cuts names short and appends the creator, who is taken off."""
    found, creator = NAME_WORD.findall(record.stem.lower()), words(record.creator)
    for start in range(1, len(found)):
        tail = found[start:]
        trimmed = tail[:-1] if len(tail) > 1 and len(tail[-1]) <= 2 else tail  # linda_kim_ab
        for end in {" ".join(tail), " ".join(trimmed)}:
            if any(" ".join(creator[k:]).startswith(end) for k in range(len(creator))):
                return found[:start]
    return found


def series_titles(records: list[Record]) -> set[str]:
    """Titles shared by several files, if the file names say different things or the title was inherited."""
    names: dict[str, set[str]] = {}
    for record in records:
        names.setdefault(record.title, set()).add(" ".join(file_words(record)))
    count = Counter(record.title for record in records)
    shared = {title for title in names if count[title] >= SERIES_SIZE}
    return {title for title in shared if len(names[title]) > 1 or BYLINE.match(title)}


def with_text(record: Record, series: set[str]) -> Record:
    """Title and description, each said once; a series title is completed by the words of the file name.

    "Clipart by X - pear" on a whole series is the title of another file: there the file name replaces it.
    """
    title, named = clean(BYLINE.sub("", record.title)), file_words(record)
    own = [word for word in named if word not in words(title)]
    inherited = bool(BYLINE.match(record.title))
    completed = record.title in series and bool(named if inherited else own)
    if completed:
        title = " ".join(named) if inherited else f"{title}: {' '.join(own)}"
    text = join(title, clean(record.description))
    return replace(record, text=text if usable(text) else "", completed=completed)


def join(title: str, description: str) -> str:
    """`title. description`, or only the longer one if it holds the words of the other."""
    in_title, in_description = set(words(title)), set(words(description))
    if in_description <= in_title:
        return title or description
    if in_title <= in_description:
        return description
    return f"{title.rstrip('.')}. {description}"


def usable(text: str) -> bool:
    """Whether a word of two letters or more is left that is no boilerplate."""
    return " ".join(words(text)) not in BOILERPLATE and any(len(word) > 1 for word in words(text))
