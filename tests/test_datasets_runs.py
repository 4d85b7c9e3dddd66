"""From files on disk to test scores, through everything between, with the small checkpoints."""

import numpy as np
import pytest
from data_trees import food101, hatememes, mmimdb
from test_datasets_table import rows_of, write_csv, write_pictures

from anga import Config, load_dataset, run
from anga.datasets.clipart import sources
from anga.missing import MissingTable


def table(root):
    rows = rows_of(48)
    root.mkdir()
    write_pictures(root, rows)
    write_csv(root / "table.csv", rows)


TREES = {"hatememes": hatememes, "mmimdb": mmimdb, "food101": food101, "table": table}


@pytest.mark.parametrize("name", TREES)
def test_a_run_goes_from_files_to_scores(tmp_path, monkeypatch, name):
    TREES[name](tmp_path / name)
    config = Config(dataset=name, root=str(tmp_path / name), missing_type="both", missing_rate=0.5, top_k=2)
    config = config.with_(epochs=1, batch_size=16, use_adapter=False, device="cpu")
    result = run(config, tmp_path / "outputs", progress=False)
    dataset = load_dataset(name, tmp_path / name)
    assert result.provenance["data"] == dataset.content_hash
    tested = result.predictions[result.predictions["split"] == "test"]
    assert tested["id"].tolist() == dataset.ids[dataset.rows("test")].tolist()
    assert 0 <= result.score() <= 1 and result.metrics["test"]["all"]["n"] == len(tested)
    drawn = MissingTable.draw(dataset, 0.5, "both", config.mask_seed)
    np.testing.assert_array_equal(tested["has_text"], drawn.has_text[dataset.rows("test")])
    monkeypatch.setenv("ANGA_DATA", str(tmp_path))
    again = run(config.with_(root=None), tmp_path / "outputs", progress=False)
    assert again.seconds == result.seconds, "the same data, wherever its folder was named: the stored result"


@pytest.mark.parametrize("name", TREES)
def test_notebooks_are_told_where_samples_come_from(tmp_path, name):
    TREES[name](tmp_path / name)
    dataset = load_dataset(name, tmp_path / name)
    found = sources(dataset)
    assert found["id"].tolist() == dataset.ids.tolist() and found["text"].tolist() == dataset.texts.tolist()
    assert found["group"].is_unique, "nothing is known of series: each sample stands alone"
    for row in (0, len(dataset) - 1):
        label = dataset.labels[row]
        names = [dataset.classes[k] for k in (np.flatnonzero(label) if label.ndim else [label])]
        assert found["folder"][row] == "; ".join(names)
