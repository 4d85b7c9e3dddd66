"""The pages of a report: what a reader sees of an executed notebook."""

import nbformat
import pytest
from nbformat import v4

from anga.report import _write_page, without_progress

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
