"""Figures: a results table in, a figure out. One module per subject; `style` holds what all of them share."""

from anga.plots import data, method, pictures, training
from anga.plots.style import MARKERS, PALETTE, save_figure, set_style

__all__ = ["MARKERS", "PALETTE", "data", "method", "pictures", "save_figure", "set_style", "training"]
