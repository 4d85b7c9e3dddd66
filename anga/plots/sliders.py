"""Pictures with sliders for a reader at the keyboard; the same picture, drawn once, where nobody can move them."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Wedge

from anga.plots.style import PALETTE

Slider = tuple[float, float, float, float]
ARROWS = {
    "anchor": ("anchor gradient $g_A$", "#666666", "-", 1.5),
    "before": ("remaining gradient $g_{M'}$", PALETTE["reconstructed"], ":", 2.5),
    "after": ("after alignment $\\tilde{g}_{M'}$", PALETTE["full ANGA"], "-", 3.5),
}


def explore(draw: Callable[..., object], **sliders: Slider) -> None:
    """Offer a picture with sliders in an interactive notebook; elsewhere draw it once with the sliders' first values.

    Args:
        draw: draws one figure from the sliders' values; what it prints appears beside it.
        sliders: name of an argument of `draw` -> (first value, lowest, highest, step); four whole numbers give a
            slider of whole numbers.
    """
    if not has_reader():
        draw(**{name: first for name, (first, *_) in sliders.items()})
        return
    from ipywidgets import interact

    def shown(**values: float) -> None:  # returns no figure: `interact` would show it a second time
        draw(**values)

    interact(shown, **{name: _widget(*numbers) for name, numbers in sliders.items()})


def has_reader() -> bool:
    """Whether this code runs in a kernel whose front end can ask its reader something.

    JupyterLab and its kin allow input with every cell that they send; papermill and nbconvert forbid it.
    """
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False))


def _widget(first: float, low: float, high: float, step: float):
    from ipywidgets import FloatSlider, IntSlider

    whole = all(isinstance(value, int) for value in (first, low, high, step))
    return (IntSlider if whole else FloatSlider)(value=first, min=low, max=high, step=step)


def movable_cone(arrows: pd.DataFrame, curve: pd.DataFrame, cos_threshold: float) -> Figure:
    """One gradient in the plane before and after alignment, and where it stands among all others.

    Args:
        arrows: columns vector (anchor, before, after), x, y; the anchor points upwards, "before" has length 1.
        curve: columns cosine, length: what alignment leaves of a gradient of length 1, for every cosine before.
        cos_threshold: tau; the half-angle of the cone is its arc cosine.
    """
    figure, (plane, axes) = plt.subplots(1, 2, figsize=(7.6, 3.4), layout="constrained")
    half = math.degrees(math.acos(cos_threshold))
    plane.add_patch(Wedge((0, 0), 1.1, 90 - half, 90 + half, color="#dddddd", zorder=0))
    for row in arrows.itertuples():
        _arrow(plane, row.vector, row.x, row.y)
    plane.set(xlim=(-1.15, 1.15), ylim=(-1.05, 1.3), aspect="equal", title=f"cone of {half:.0f}° around $g_A$")
    plane.axis("off")
    _, colour, line, width = ARROWS["after"]
    axes.plot(curve["cosine"], curve["length"], line, color=colour, linewidth=width - 1)
    tips = arrows.set_index("vector")[["x", "y"]]
    axes.plot(tips.loc["before", "y"], np.hypot(*tips.loc["after"]), "o", color="black", markersize=9)
    axes.axvline(cos_threshold, color="black", linewidth=0.8, linestyle="--")
    axes.annotate("$\\tau$", (cos_threshold, 1.09), xytext=(4, 0), textcoords="offset points", va="top")
    axes.set(xlabel="cosine before", ylabel="what is left of its length", xlim=(-1.05, 1.05), ylim=(-0.06, 1.1))
    styles = [plt.Line2D([], [], color=c, linestyle=s, linewidth=w) for _, c, s, w in ARROWS.values()]
    figure.legend(styles, [label for label, *_ in ARROWS.values()], loc="outside lower center", ncols=3)
    return figure


def _arrow(axes: Axes, vector: str, x: float, y: float) -> None:
    """An arrow from the origin; a suppressed gradient is a dot."""
    _, colour, line, width = ARROWS[vector]
    if math.hypot(x, y) < 1e-9:
        axes.plot(0, 0, "o", color=colour, markersize=9)
        return
    arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": width, "linestyle": line, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (x, y), (0, 0), arrowprops=arrow)
