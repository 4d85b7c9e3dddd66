"""A folder put into a hub cache of the test's own, in the layout that the hub's client reads without a connection."""

import shutil
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cache_as(repository: str, folder: Path, cache: Path, monkeypatch) -> Path:
    """Move `folder` to where a download of `repository` would lie in `cache`; only this cache is read then, offline."""
    home = cache / f"models--{repository.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    (home / "snapshots").mkdir()
    shutil.move(folder, home / "snapshots" / COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return home / "snapshots" / COMMIT
