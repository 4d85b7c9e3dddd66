"""Sliders: offered where a reader can move them, one still picture elsewhere."""

import queue

import nbformat
import numpy as np
import pandas as pd
import pytest
from jupyter_client.manager import start_new_kernel
from matplotlib import pyplot as plt
from nbclient import NotebookClient

from anga.plots.sliders import explore, has_reader, movable_cone

WIDGET = "application/vnd.jupyter.widget-view+json"
CELL = """
from matplotlib import pyplot as plt
from anga.plots.sliders import explore

def draw(height, number):
    print(f"drawn at {height}, {number}")
    figure, axes = plt.subplots(figsize=(1, 1))
    axes.axhline(height)
    return figure

explore(draw, height=(0.2, 0.0, 1.0, 0.1), number=(3, 0, 5, 1))
"""


def test_outside_a_notebook_the_picture_is_drawn_once():
    calls = []
    assert not has_reader()
    explore(lambda **values: calls.append(values), height=(0.2, 0.0, 1.0, 0.1), number=(3, 0, 5, 1))
    assert calls == [{"height": 0.2, "number": 3}]


def test_an_executed_notebook_holds_one_still_picture_and_no_widget():
    cells = [nbformat.v4.new_code_cell("%matplotlib inline"), nbformat.v4.new_code_cell(CELL)]
    done = NotebookClient(nbformat.v4.new_notebook(cells=cells), kernel_name="python3").execute()
    printed, picture = done.cells[1].outputs
    assert printed.text == "drawn at 0.2, 3\n"
    assert "image/png" in picture.data and WIDGET not in picture.data
    assert "widgets" not in done.metadata


def test_a_front_end_that_can_ask_gets_sliders():
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        request = client.execute(CELL, allow_stdin=True)  # as JupyterLab sends it
        messages = []
        while not messages or messages[-1]["content"].get("execution_state") != "idle":
            message = client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") == request:
                messages.append(message)
    except queue.Empty:
        pytest.fail("the kernel did not answer")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    kinds = [message["msg_type"] for message in messages]
    shown = [message["content"]["data"] for message in messages if message["msg_type"] == "display_data"]
    assert "error" not in kinds
    assert sum(WIDGET in data for data in shown) == 1
    opened = [message["content"]["data"]["state"] for message in messages if message["msg_type"] == "comm_open"]
    sliders = [(state["value"], state["max"]) for state in opened if "max" in state]
    assert sliders == [(0.2, 1.0), (3, 5)]


@pytest.mark.parametrize("after", [(0.98, 0.2), (0.0, 0.0)], ids=["kept", "suppressed"])
def test_movable_cone_marks_what_is_left(after):
    arrows = pd.DataFrame([(0, 1.2), (0.98, 0.2), after], columns=["x", "y"])
    arrows.insert(0, "vector", ["anchor", "before", "after"])
    curve = pd.DataFrame({"cosine": [-1.0, 0.0, 0.2, 1.0], "length": [0.0, 0.0, 1.0, 1.0]})
    figure = movable_cone(arrows, curve, 0.2)
    dot = figure.axes[1].lines[1]
    assert dot.get_xydata()[0] == pytest.approx((0.2, np.hypot(*after)))
    plt.close(figure)
