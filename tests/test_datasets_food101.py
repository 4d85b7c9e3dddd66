"""UPMC Food-101's own troubles: titles that are no proper CSV, and a validation split that has to be made."""

import math
import random
from collections import Counter

import pytest

from anga.datasets.food101 import Record, parse, validation_files


def records(n=200, classes=7, seed=0):
    generator = random.Random(seed)
    kinds = [generator.randrange(classes) for _ in range(n)]
    return [Record(k, f"dish_{kind}_{k}.jpg", "text", f"dish_{kind}", False) for k, kind in enumerate(kinds)]


def test_validation_is_a_tenth_of_each_class_whatever_the_order():
    rows = records()
    chosen = validation_files(rows)
    per_class = Counter(row.label for row in rows)
    assert Counter(row.label for row in rows if row.file in chosen) == {
        c: math.ceil(n / 10) for c, n in per_class.items()
    }
    assert validation_files(random.Random(1).sample(rows, len(rows))) == chosen


def test_validation_hardly_moves_when_rows_are_lacking_and_never_takes_a_whole_class():
    rows = records()
    fewer = [row for row in rows if row.number % 20]
    present = {row.file for row in fewer}
    assert len((validation_files(rows) & present) ^ validation_files(fewer)) <= 14  # two at most per class
    assert validation_files(records(1)) == set() and len(validation_files(records(2, classes=1))) == 1


@pytest.mark.parametrize(
    ("lines", "found", "broken"),
    [
        (["pie_1.jpg,a pie,pie"], [("pie_1.jpg", "a pie")], []),
        (['pie_1.jpg,"a, b",pie'], [("pie_1.jpg", "a, b")], []),
        (['"pie_1.jpg","a, b","pie"'], [("pie_1.jpg", "a, b")], []),
        (['pie_1.jpg,"a ""b"" c",pie'], [("pie_1.jpg", 'a "b" c')], []),
        (['pie_1.jpg,"a, b,pie', "pie_2.jpg,c,pie"], [("pie_1.jpg", "a, b"), ("pie_2.jpg", "c")], []),
        (['pie_1.jpg,"a', 'b",pie', "pie_2.jpg,c,pie"], [("pie_1.jpg", "a b"), ("pie_2.jpg", "c")], []),
        (['pie_1.jpg,"pie', 'and more",pie'], [("pie_1.jpg", "pie and more")], []),
        (["pie_1.jpg,a,cake", "pie_2.jpg,c,pie"], [("pie_2.jpg", "c")], [1]),
        (["image,text,label", "pie_2.JPG,,pie"], [("pie_2.JPG", "")], [1]),
        (["pie_1.jpg,pie"], [("pie_1.jpg", "")], []),
        (["IMG7.jpeg,a,tart"], [("IMG7.jpeg", "a")], []),
        (["pie_1.jpg,a,pie", "stray"], [("pie_1.jpg", "a")], [2]),
    ],
)
def test_titles_are_read_in_spite_of_their_quotes(lines, found, broken):
    rows, bad = parse(list(enumerate(lines, 1)), {"tart"})
    assert [(row.file, row.text) for row in rows] == found and bad == broken
