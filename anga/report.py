"""A study as pages to read: executed notebooks as HTML, tables, figures, and an index that says where all is from."""

import base64
import hashlib
import html
import io
import json
import os
import re
import shutil
from collections import Counter
from itertools import groupby
from pathlib import Path

import pandas as pd

from anga.beside_paper import beside_paper
from anga.parameters import ParameterSet
from anga.replacing import SCRATCH, in_place_of, locked, named_if_not_made
from anga.runs import provenance, run_folder

STYLE = """body { font: 16px/1.5 sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; } td, th { border-bottom: 1px solid #ccc; padding: .3em .8em; text-align: left; }
pre { overflow-x: auto; background: #f6f6f6; padding: .6em; font-size: 13px; } td { font-size: 14px; }
.output_stream pre { white-space: pre-wrap; }
img { max-width: 100%; } .figures img { width: 48%; margin: .3em; } h2 { margin-top: 2em; }"""
# A formula of a notebook, in a block or a line; code, which may hold dollars of its own, comes first.
FORMULA = re.compile(r"```.*?```|`[^`\n]*`|\$\$(?P<block>.+?)\$\$|\$(?P<inline>.+?)\$", re.DOTALL)
UNSTYLED = re.compile(r'<span class="[np]">([^<]*)</span>')  # names and punctuation look like all text: 1/7 of a page
PICTURE = re.compile(r"data:image/png;base64,([\w+/=\s]+)")  # inside a page
EXPORT = {"exclude_input_prompt": True, "exclude_output_prompt": True, "exclude_anchor_links": True}
FIGURE_WIDTH = 800  # pixels
PARTS = ("notebooks", "tables", "figures")  # of a report; in each a folder per parameter file
BESIDE_PAPER = "beside_paper.csv"
COUNTED = ("commit", "processor", "device", "threads", "torch")  # of runs' provenance; old ones lack the processor


def write_report(study: ParameterSet, executed: list[Path], outputs: str | Path, folder: str | Path) -> Path:
    """Write index.html, notebooks/, tables/, figures/ and provenance.json into `folder`.

    A whole study replaces what stood there. Some of its files (`ParameterSet.only`) replace their own pages, tables and
    figures, and provenance.json says that they were made anew. Either way the old report stays until the new one is
    whole, and a lock makes two processes write theirs one after the other.

    Args:
        study: what was run.
        executed: its executed notebooks.
        outputs: where their tables, figures and runs lie.

    Returns the index.

    Raises:
        AngaError: it cannot be written, for instance to a full disk.
    """
    folder = Path(folder)
    with named_if_not_made(folder), locked(folder.parent), in_place_of(folder, keep=not study.whole) as new:
        _fill(study, executed, outputs, new)
    return folder / "index.html"


def _fill(study: ParameterSet, executed: list[Path], outputs: str | Path, folder: Path) -> None:
    """Write a report into a folder that is empty, or holds the one of which some files are made anew."""
    facts = _facts(study, outputs, folder / "provenance.json")
    for old in (folder / part / name for part in PARTS for name in study.files):
        shutil.rmtree(old, ignore_errors=True)
    (folder / "provenance.json").write_text(json.dumps(facts, indent=1) + "\n")
    for path in executed:
        _write_page(path, folder / "notebooks" / path.parent.name)
    for name in study.files:
        place = f"{study.folder.name}/{name}"
        _copy(Path(outputs) / "tables" / place, folder / "tables" / name, ".csv")
        for path in _copy(Path(outputs) / "figures" / place, folder / "figures" / name, ".png"):
            path.write_bytes(smaller_png(path.read_bytes(), FIGURE_WIDTH))
        paper = beside_paper(study.only([name]), outputs)
        if len(paper):
            (folder / "tables" / name).mkdir(parents=True, exist_ok=True)
            paper.to_csv(folder / "tables" / name / BESIDE_PAPER, index=False)
    (folder / "index.html").write_text(_index(study.folder.name, folder, facts), encoding="utf-8")


def write_overview(reports: str | Path) -> Path:
    """Write index.html into the folder of all reports: which there are, of how many runs, and of when.

    Raises:
        AngaError: it cannot be written, for instance to a full disk.
    """
    path = Path(reports) / "index.html"
    with named_if_not_made(path), locked(path.parent):
        found = sorted(file.parent for file in path.parent.glob("*/provenance.json"))
        rows = [_overview_row(folder) for folder in found if folder.suffix not in SCRATCH]
        listed = pd.DataFrame(rows, columns=["parameters", "made from", "report made"])
        body = f"<h1>The ANGA study</h1>\n{listed.to_html(index=False, escape=False, border=0)}"
        new = path.with_name(f"{path.name}{SCRATCH[0]}")
        new.write_text(_page("ANGA study", body), encoding="utf-8")
        os.replace(new, path)
    return path


def _overview_row(folder: Path) -> list[str]:
    """Of a report: a link to it, its training runs, and the day it was last written."""
    parts = _parts(json.loads((folder / "provenance.json").read_text()))
    runs = [html.escape(f"{name}: {_runs(own)}" if name else _runs(own)) for name, own in parts.items()]
    made = max(own["report made by"]["finished"] for own in parts.values())
    name = html.escape(folder.name)
    return [f'<a href="{name}/index.html">{name}</a>', "<br>".join(runs), made[:10]]


def _runs(facts: dict) -> str:
    return f"{facts['runs']} training runs ({facts['runs missing']} missing)"


def _facts(study: ParameterSet, outputs: str | Path, earlier: Path) -> dict:
    """The study's provenance; of some of its files, the earlier report's with theirs added.

    Once every file was made anew, nothing is left that the earlier report's own numbers would tell of, and they go.
    """
    if study.whole or not earlier.exists():
        return study_provenance(study, outputs)
    facts = json.loads(earlier.read_text())
    anew = facts.get("made anew", {}) | {name: study_provenance(study.only([name]), outputs) for name in study.files}
    if {path.stem for path in study.folder.glob("*.yaml")} <= anew.keys():
        return {"parameters": study.folder.name, "made anew": anew}
    return facts | {"made anew": anew}


def _parts(facts: dict) -> dict[str, dict]:
    """A report's provenance by parameter file: of those that were made anew, and of all others under ""."""
    return ({"": facts} if "runs" in facts else {}) | facts.get("made anew", {})


def study_provenance(study: ParameterSet, outputs: str | Path) -> dict:
    """Where a study's results come from: this environment, and, over all finished runs, commits, machines and hours."""
    folders = [run_folder(config, outputs)[0] for config in study.configs()]
    done = [folder for folder in folders if folder.exists()]
    facts = [json.loads((folder / "provenance.json").read_text()) for folder in done]
    seconds = sum(json.loads((folder / "metrics.json").read_text())["seconds"] for folder in done)
    counts = {key: dict(Counter(str(fact.get(key, "not recorded")) for fact in facts)) for key in COUNTED}
    return {
        "parameters": study.folder.name,
        "configs": configs_hash(study),
        "runs": len(done),
        "runs missing": len(folders) - len(done),
        "hours of training": round(seconds / 3600, 2),
        "first run": min((fact["finished"] for fact in facts), default=None),
        "last run": max((fact["finished"] for fact in facts), default=None),
        **{f"runs by {key}": count for key, count in counts.items()},
        "report made by": provenance(),
    }


def configs_hash(study: ParameterSet) -> str:
    """Tells whether a report was made with these parameters."""
    return hashlib.sha256("".join(sorted(config.identity() for config in study.configs())).encode()).hexdigest()[:16]


def _write_page(notebook: Path, folder: Path) -> Path:
    """One executed notebook as HTML, its pictures made smaller."""
    import nbformat
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

    content = nbformat.read(notebook, as_version=4)
    for cell in (cell for cell in content.cells if cell.cell_type == "markdown"):
        cell.source = with_mathml(cell.source)
    for cell in (cell for cell in content.cells if cell.cell_type == "code"):
        cell.outputs = [output for output in map(without_progress, cell.outputs) if output.get("text") != ""]
    for output in (output for cell in content.cells for output in cell.get("outputs", [])):
        if "image/png" in output.get("data", {}):
            output["data"].pop("image/svg+xml", None)
    exporter = HTMLExporter(template_name="basic", **EXPORT)
    body, _ = exporter.from_notebook_node(content)
    body = PICTURE.sub(_as_webp, UNSTYLED.sub(r"\1", body))
    page = _page(notebook.stem, body, HtmlFormatter().get_style_defs(".highlight"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{notebook.stem}.html"
    path.write_text(page, encoding="utf-8")
    return path


def with_mathml(markdown: str) -> str:
    """Markdown with its formulas as MathML: browsers draw it by themselves, so a page needs no script, no network."""
    from latex2mathml.converter import convert

    def drawn(found: re.Match) -> str:
        if found["block"] is None and found["inline"] is None:
            return found[0]
        tex = re.sub(r"\\tag\{(\w+)\}", r"\\qquad (\1)", found["block"] or found["inline"])
        return convert(tex, display="inline" if found["block"] is None else "block")

    return FORMULA.sub(drawn, markdown)


def without_progress(output: dict) -> dict:
    """A cell's output without progress bars, which a page would show line by line; other messages stay."""
    if output.get("name") != "stderr":
        return output
    return type(output)(output, text=re.sub(r"\r[^\r\n]*\n?", "", output["text"]))


def smaller_png(content: bytes, width: int | None = None) -> bytes:
    """The same picture with 128 colours, and no wider than `width` pixels, where that is smaller."""
    from PIL import Image

    file, picture = io.BytesIO(), Image.open(io.BytesIO(content)).convert("RGB")
    if width is not None and picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    # Pillow's default, the median cut, makes the colours of small markers grey
    picture.quantize(128, method=Image.Quantize.MAXCOVERAGE, kmeans=4).save(file, "png", optimize=True)
    return min(content, file.getvalue(), key=len)


def _as_webp(found: re.Match) -> str:
    """A page's picture with fewer colours, as lossless WebP: a fifth smaller than PNG, and every browser draws it."""
    from PIL import Image

    file, picture = io.BytesIO(), Image.open(io.BytesIO(smaller_png(base64.b64decode(found[1]))))
    picture.convert("RGB").save(file, "webp", lossless=True, method=6)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _copy(source: Path, target: Path, suffix: str) -> list[Path]:
    """Copy a tree's files of one kind; what was written."""
    copied = []
    for path in source.rglob(f"*{suffix}"):
        copied.append(target / path.relative_to(source))
        copied[-1].parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copied[-1])
    return copied


def _index(name: str, folder: Path, facts: dict) -> str:
    """The first page of whatever lies in a report's folder."""

    def link(path: Path, text: str) -> str:
        return f'<a href="{path.relative_to(folder).as_posix()}">{html.escape(text)}</a>'

    pages = sorted(folder.glob("notebooks/*/*.html"), key=lambda page: (page.stem, page.parent.name))
    rows = [[_title(page), html.escape(page.parent.name), link(page, "read")] for page in pages]
    listed = pd.DataFrame(rows, columns=["question", "parameter file", "executed notebook"])
    figures, tables = sorted(folder.glob("figures/**/*.png")), sorted(folder.glob("tables/**/*.csv"))
    shown = "\n".join(_gallery(title, group, folder) for title, group in groupby(figures, lambda p: p.parent.name))
    known = "\n".join(f"<li>{link(path, path.relative_to(folder / 'tables').as_posix())}</li>" for path in tables)
    body = f"""<h1>The ANGA study, parameters <code>{html.escape(name)}</code></h1>
{_hours(facts)}
<h2>Notebooks</h2>
{listed.to_html(index=False, escape=False, border=0)}
{_beside_paper([path for path in tables if path.name == BESIDE_PAPER])}<h2>Tables</h2>
<ul>{known}</ul>
<h2>Where it comes from</h2>
<pre>{html.escape(json.dumps(facts, indent=1))}</pre>
<h2>Figures</h2>
{shown}"""
    return _page(f"ANGA study: {name}", body)


def _title(page: Path) -> str:
    """A page's first heading, as HTML."""
    found = re.search(r"<h1[^>]*>(.*?)</h1>", page.read_text(encoding="utf-8"), re.DOTALL)
    return found[1] if found else html.escape(page.stem)


def _hours(facts: dict) -> str:
    """How many runs and hours are behind a report, or behind each of its files."""
    parts = _parts(facts)
    alone = [] if "" in parts else ["Every file was made on its own; a run that several share counts in each of them."]
    each = [
        f"{name and f'{name}, made anew: '}{_runs(own)}, {own['hours of training']} hours of training."
        for name, own in parts.items()
    ]
    return "\n".join(f"<p>{html.escape(line)}</p>" for line in alone + each)


def _beside_paper(tables: list[Path]) -> str:
    """The paper's numbers and ours, where a study repeats any."""
    if not tables:
        return ""
    paper = pd.concat([pd.read_csv(path) for path in tables])
    shown = paper.to_html(index=False, border=0, float_format="{:.2f}".format, na_rep="not run")
    return f"<h2>Beside the paper</h2>\n<p>Test scores in %, means and 95 % intervals over runs.</p>\n{shown}\n"


def _gallery(title: str, figures, folder: Path) -> str:
    images = "\n".join(f'<img src="{path.relative_to(folder).as_posix()}" alt="{path.stem}">' for path in figures)
    return f'<h3>{html.escape(title)}</h3>\n<div class="figures">\n{images}\n</div>'


def _page(title: str, body: str, style: str = "") -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>{STYLE}
{style}</style></head>
<body>
{body}
</body></html>
"""
