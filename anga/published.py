"""The paper's own numbers: Tables 1 and 2."""

from pathlib import Path

import pandas as pd

NAMES = {"hatememes": "HateMemes", "mmimdb": "MM-IMDb", "food101": "Food101"}
COUNTERPARTS = {"clipart-pairs": "hatememes", "clipart-keywords": "mmimdb", "clipart-folders": "food101"}  # same kind
FILE = Path(__file__).parent / "assets" / "paper" / "tables.csv"


def published() -> pd.DataFrame:
    """One row per number: table, row, family (of the method), dataset, missing_type, percent."""
    return pd.read_csv(FILE)
