"""What a notebook leaves behind: figures with the tables that they were drawn from, and tables of their own."""

from pathlib import Path
from textwrap import wrap

import pandas as pd
from matplotlib.figure import Figure

from anga.plots.style import save_figure

NOTE_CHARACTERS = 15  # of a note under a figure, per inch
NOTE_LINE = 0.16  # its height in inches


class Products:
    """Files of one notebook: outputs/figures/place/notebook_NAME.{png,svg,csv} and outputs/tables/place/NAME.csv.

    Args:
        outputs: the folder of all results.
        place: that of the parameter file, for instance "clipart/03_imbalance".
        notebook: its name, for instance "03_imbalance".
    """

    def __init__(self, outputs: str | Path, place: str, notebook: str):
        self.figures = Path(outputs) / "figures" / place
        self.tables = Path(outputs) / "tables" / place
        self.notebook = notebook

    def figure(self, figure: Figure, table: pd.DataFrame, name: str, note: str = "") -> None:
        """Keep a figure, as PNG and as SVG, beside its table; a note, such as the number of runs, stands under it."""
        if note:
            lines = wrap(note, int(NOTE_CHARACTERS * figure.get_figwidth()))
            figure.set_figheight(figure.get_figheight() + NOTE_LINE * len(lines))  # panels keep their size
            figure.supxlabel("\n".join(lines), fontsize=8)
        save_figure(figure, table, self.figures / f"{self.notebook}_{name}")

    def table(self, table: pd.DataFrame, name: str) -> None:
        """Keep a table without its index; six digits are more than a repeated run agrees in."""
        self.tables.mkdir(parents=True, exist_ok=True)
        table.to_csv(self.tables / f"{name}.csv", index=False, float_format="%.6g")
