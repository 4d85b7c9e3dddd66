"""What a loader found, what it expected and what it skipped: counts, reasons and the first names for each."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from anga.errors import AngaError

SPLITS = ("train", "validation", "test")
NAMES_KEPT = 3  # names shown for each reason; the counts are of all


@dataclass
class LoadReport:
    """The account of one load.

    name, root: which data set, from which folder.
    expected: samples per split in the paper's copy (empty: there is no such copy); expected_classes: its classes.
    found: samples per split that were loaded; classes: their classes in label order.
    skipped: rows left out, by (split, reason); names: the first few of them.
    notes: whatever else differs or was mended.
    """

    name: str
    root: str
    expected: dict[str, int] = field(default_factory=dict)
    expected_classes: int | None = None
    found: dict[str, int] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    skipped: Counter = field(default_factory=Counter)
    names: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)

    def skip(self, split: str, reason: str, name: str) -> None:
        """Count one row of a split that is left out; `name` says which: a file, an id, or file:line."""
        self.skipped[split, reason] += 1
        if len(self.names[split, reason]) < NAMES_KEPT:
            self.names[split, reason].append(printable(name))

    def note(self, text: str, names: list[str] | None = None) -> None:
        """Record what is worth knowing but cost no sample; of `names` the first few are shown, and their number."""
        if names is None:
            self.notes.append(text)
        elif names:
            shown = ", ".join(map(printable, names[:NAMES_KEPT]))
            self.notes.append(f"{text} ({len(names)}): {shown}{', ...' if len(names) > NAMES_KEPT else ''}")

    def skipped_in(self, split: str) -> int:
        """Rows of one split that were left out, for whatever reason."""
        return sum(count for (part, _), count in self.skipped.items() if part == split)

    def table(self) -> pd.DataFrame:
        """One row per split and one for all: found, expected ("-" where nothing is), skipped."""
        rows = {split: [self.found.get(split, 0), self.skipped_in(split)] for split in SPLITS}
        rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
        table = pd.DataFrame(rows, index=["found", "skipped"]).T
        expected = {**self.expected, "all": sum(self.expected.values())} if self.expected else {}
        table.insert(1, "expected", [expected.get(split, "-") for split in table.index])
        return table

    def differences(self) -> list[str]:
        """One line per count that is not the paper's."""
        pairs = {split: (self.found.get(split, 0), n) for split, n in self.expected.items()}
        lines = [f"{split}: {n} samples, the paper has {m}" for split, (n, m) in pairs.items() if n != m]
        if self.expected_classes not in (None, len(self.classes)):
            lines.append(f"{len(self.classes)} classes, the paper has {self.expected_classes}")
        return lines

    def reasons(self) -> list[str]:
        """One line per split and reason, with the first names."""
        return [self._reason(split, reason) for part in SPLITS for split, reason in self.skipped if split == part]

    def _reason(self, split: str, reason: str) -> str:
        count, names = self.skipped[split, reason], self.names[split, reason]
        return f"{split}: {reason} ({count}): {', '.join(names)}{', ...' if count > len(names) else ''}"

    def summary(self) -> str:
        """What was skipped, in one line."""
        totals = Counter()
        for (_, reason), count in self.skipped.items():
            totals[reason] += count
        listed = totals.total() + sum(self.found.values())
        parts = ", ".join(f"{count} {reason}" for reason, count in totals.most_common())
        return (
            f"{self.name}: {totals.total()} of {listed} rows skipped ({parts}); "
            f"`python -m anga.datasets check {self.name} '{printable(self.root)}'` names them"
        )

    def __str__(self) -> str:
        parts = {"skipped": self.reasons(), "differs from the paper": self.differences(), "notes": self.notes}
        blocks = [f"{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in parts.items() if lines]
        return "\n\n".join([self.table().to_string(), *blocks])

    def to_dict(self) -> dict:
        """For JSON; reasons as `split: reason (count): names`."""
        known = {"name": self.name, "root": printable(self.root), "expected": self.expected, "found": self.found}
        known |= {"classes": self.classes, "skipped": self.reasons(), "differences": self.differences()}
        return json.loads(json.dumps({**known, "notes": self.notes}))


class Unusable(AngaError):
    """A data set that cannot serve a run; `report` says what was found."""

    def __init__(self, report: LoadReport, problem: str):
        self.report = report
        super().__init__(f"{report.name} in '{printable(report.root)}' cannot be used: {problem}.")


def printable(name: str | Path) -> str:
    """A name that every terminal and file takes, whatever bytes a file system holds."""
    return str(name).encode("utf-8", "replace").decode()
