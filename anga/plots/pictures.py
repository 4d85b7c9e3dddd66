"""Samples as a reader sees them: drawings with their texts in a grid, what is lost in grey and crossed out."""

import textwrap
from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from anga.datasets import Dataset
from anga.missing import MissingTable

TILE = 1.35  # width of a picture, inches
LINE = 0.145  # height of a line of text, inches
CHARACTERS = 20  # in a line under a picture
LOST = "#8c8c8c"
HIDDEN = "#d0d0d0"  # in place of a picture that is not shown


@dataclass(frozen=True)
class Tile:
    """One sample in a grid.

    Attributes:
        image, text: the sample.
        heading: words above the picture.
        lost: None, "text" or "image"; that modality is drawn in grey and marked as lost.
        framed: whether the picture gets a thick frame (a query among its neighbours).
        hidden: whether what is lost is not shown at all, as a model gets to see it.
    """

    image: Image.Image
    text: str
    heading: str = ""
    lost: str | None = None
    framed: bool = False
    hidden: bool = False


def sample_tile(
    dataset: Dataset, row: int, heading="", table: MissingTable | None = None, framed=False, hidden=False
) -> Tile:
    """A sample of a data set as a tile, with what a missing table takes from it marked."""
    lost = None
    if table is not None and not table.complete[row]:
        lost = "image" if table.has_text[row] else "text"
    return Tile(dataset.image(row), str(dataset.texts[row]), heading, lost, framed, hidden)


def contact_sheet(tiles: list[Tile | None], columns: int = 6, lines: int = 3, heading_lines: int = 1) -> Figure:
    """Tiles in rows of `columns`, with up to `lines` lines of text under each; None leaves a place empty."""
    n_rows = -(-len(tiles) // columns)
    caption, head = (lines + 0.4) * LINE, (heading_lines + 0.4) * LINE
    size = (columns * TILE * 1.15, n_rows * (TILE + caption + head))
    figure, axes = plt.subplots(n_rows, columns, figsize=size, squeeze=False)
    gap = (caption + head) / TILE
    figure.subplots_adjust(left=0.01, right=0.99, top=1 - head / size[1], bottom=caption / size[1], hspace=gap)
    for place, tile in zip(axes.flat, [*tiles, *[None] * (n_rows * columns - len(tiles))], strict=True):
        place.set_axis_off()
        if tile is not None:
            _draw_tile(place, tile, lines, heading_lines)
    return figure


def _draw_tile(axes: Axes, tile: Tile, lines: int, heading_lines: int) -> None:
    if tile.lost == "image" and tile.hidden:
        axes.imshow(Image.new("RGB", tile.image.size, HIDDEN))
    else:
        axes.imshow(tile.image, alpha=0.25 if tile.lost == "image" else 1.0)
    width, height = tile.image.size
    edge = {"edgecolor": "black" if tile.framed else "#cccccc", "linewidth": 2.5 if tile.framed else 0.8}
    axes.add_patch(plt.Rectangle((-0.5, -0.5), width, height, fill=False, clip_on=False, **edge))
    if tile.lost == "image" and not tile.hidden:
        axes.plot([0, width - 1], [height - 1, 0], color=LOST, linewidth=1.5)
    if tile.lost == "image":
        label = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        axes.text(0.5, 0.5, "image lost", transform=axes.transAxes, ha="center", va="center", fontsize=8, bbox=label)
    style = {"transform": axes.transAxes, "ha": "center", "fontsize": 8, "parse_math": False}
    axes.text(0.5, 1.03, _wrapped(tile.heading, heading_lines), va="bottom", fontweight="bold", **style)
    text = tile.text
    if tile.lost == "text":
        text = "[text lost]" if tile.hidden else f"[text lost] {tile.text}"
    colour = LOST if tile.lost == "text" else "black"
    axes.text(0.5, -0.04, _wrapped(text, lines), va="top", color=colour, linespacing=1.1, **style)


def _wrapped(text: str, lines: int) -> str:
    """At most `lines` lines; what does not fit is cut at a word (or in a path at a slash) and marked by an ellipsis."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    is_path = " " not in printable
    folded = printable.replace("/", "/ ") if is_path else printable
    filled = textwrap.fill(folded, CHARACTERS, max_lines=lines, placeholder=" …")
    return filled.replace("/ ", "/") if is_path else filled
