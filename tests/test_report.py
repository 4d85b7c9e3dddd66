"""The pages of a report: what a reader sees of an executed notebook."""

import base64
import html
import io
import re

import nbformat
import numpy as np
import pytest
from nbformat import v4
from PIL import Image

from anga.report import _write_page, smaller_png, with_mathml, without_progress

BAR = "\rpairs:   0%|          | 0/2 [00:00<?, ?run/s]\rpairs: 100%|##########| 2/2 [00:01<00:00]\n"


@pytest.mark.parametrize(
    ("text", "left"), [(BAR, ""), (f"careful: odd data\n{BAR}", "careful: odd data\n"), (f"{BAR}late", "late")]
)
def test_of_a_cells_messages_only_progress_bars_are_left_out(text, left):
    assert without_progress(v4.new_output("stream", name="stderr", text=text)).text == left
    assert without_progress(v4.new_output("stream", name="stdout", text=text)).text == text


def test_a_page_shows_results_and_messages_but_no_progress_bars(tmp_path):
    outputs = [
        v4.new_output("stream", name="stderr", text=f"{BAR}a message"),
        v4.new_output("stream", name="stderr", text=BAR),
        v4.new_output("stream", text="the answer is 42"),
    ]
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell("# What is it?"), v4.new_code_cell("1", outputs=outputs)])
    (tmp_path / "tasks").mkdir()
    nbformat.write(notebook, tmp_path / "tasks" / "01.ipynb")
    page = _write_page(tmp_path / "tasks" / "01.ipynb", tmp_path / "pages").read_text()
    assert "the answer is 42" in page and "a message" in page and "What is it?" in page
    assert "run/s" not in page and page.count("output_stderr") == 1


def test_formulas_are_mathml_and_dollars_in_code_stay():
    code = "`r'^logit$'` and\n```\nsed 's/a$/b$/'\n```\n"
    shown = with_mathml(f"{code}where $x_i < 1$:\n\n$$\\hat y = \\frac{{a}}{{b}} \\tag{{5}}$$\n")
    assert shown.startswith(code) and shown.count("$") == code.count("$")
    assert shown.count("<math") == 2 and shown.count('display="block"') == 1
    assert "<msub><mi>x</mi><mi>i</mi></msub>" in shown and "<mfrac>" in shown and "<mn>5</mn>" in shown


def test_a_page_draws_its_formulas_without_scripts(tmp_path):
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell("# A *bold* claim: $a_1 * b_1$\n\n$$c_2 * d_2$$")])
    (tmp_path / "tasks").mkdir()
    nbformat.write(notebook, tmp_path / "tasks" / "01.ipynb")
    page = _write_page(tmp_path / "tasks" / "01.ipynb", tmp_path / "pages").read_text()
    assert page.count("<msub>") == 4 and page.count("<em>") == 1
    assert "$" not in page and "<script" not in page and "http" not in re.sub(r'xmlns="[^"]*"', "", page)


def test_a_page_draws_the_pixels_of_its_smaller_picture_and_no_vectors(tmp_path):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(file, "png")
    data = {"image/png": base64.b64encode(file.getvalue()).decode(), "image/svg+xml": "<svg></svg>"}
    cell = v4.new_code_cell("draw()", outputs=[v4.new_output("display_data", data)])
    (tmp_path / "tasks").mkdir()
    nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell("# What?"), cell]), tmp_path / "tasks" / "01.ipynb")
    page = _write_page(tmp_path / "tasks" / "01.ipynb", tmp_path / "pages").read_text()
    (embedded,) = re.findall(r'<img [^>]*src="data:image/webp;base64,([^"]+)"', page)
    assert "image/png" not in page and "<svg" not in page
    drawn, smaller = (
        np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        for content in (base64.b64decode(embedded), smaller_png(file.getvalue()))
    )
    assert np.array_equal(drawn, smaller)


def test_a_page_marks_no_code_that_its_style_leaves_as_it_is(tmp_path):
    code = "def f(x):\n    return [x < 1, 'a &amp; b']  # why?\n"
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell("# What?"), v4.new_code_cell(code)])
    (tmp_path / "tasks").mkdir()
    nbformat.write(notebook, tmp_path / "tasks" / "01.ipynb")
    page = _write_page(tmp_path / "tasks" / "01.ipynb", tmp_path / "pages").read_text()
    (shown,) = re.findall(r'<div class="[^"]*highlight[^"]*">.*?<pre>(.*?)</pre>', page, re.DOTALL)
    assert html.unescape(re.sub(r"<[^>]+>", "", shown)).strip() == code.strip()
    marks, styled = (set(re.findall(pattern, page)) for pattern in (r'<span class="(\w+)">', r"\.highlight \.(\w+) {"))
    assert {"k", "nf", "c1"} <= marks <= styled


@pytest.mark.parametrize("width", [None, 40])
def test_a_smaller_picture_keeps_its_shape_and_nearly_its_colours(width):
    ramp, noise = np.linspace(0, 200, 80), np.random.default_rng(0).integers(0, 55, (60, 80))
    pixels = np.stack([ramp[:60, None] + noise, ramp[None] + noise, noise], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    content = smaller_png(file.getvalue(), width)
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    assert picture.size == ((80, 60) if width is None else (40, 30))
    assert len(picture.getcolors()) <= 128 and len(content) < len(file.getvalue())
    whole = Image.fromarray(pixels).resize(picture.size)
    assert np.abs(np.asarray(picture, float) - np.asarray(whole, float)).mean() < 10


def test_small_marks_keep_their_colours():
    """Among many greys, as the edges of letters are; a palette by counts alone has no place for three pixels."""
    marks = {(2, 2): (0, 158, 115), (30, 40): (213, 94, 0), (50, 70): (0, 114, 178)}
    grey = np.random.default_rng(0).integers(0, 256, (60, 80, 1))
    pixels = np.clip(grey + np.random.default_rng(1).integers(-3, 4, (60, 80, 3)), 0, 255).astype(np.uint8)
    for place, colour in marks.items():
        pixels[place] = colour
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    content = smaller_png(file.getvalue())
    assert len(content) < len(file.getvalue())
    drawn = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), int)
    assert all(np.abs(drawn[place] - colour).max() < 20 for place, colour in marks.items())


def test_a_picture_that_does_not_get_smaller_stays_as_it_is():
    file = io.BytesIO()
    Image.new("1", (8, 8)).save(file, "png", optimize=True)
    assert smaller_png(file.getvalue()) == file.getvalue()
