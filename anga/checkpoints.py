"""Where checkpoints lie: the embedded ones, verified, and those of the model hub, asked once and briefly."""

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from anga.errors import AngaError

EMBEDDED = ("mini-vilt", "mini-clip")
HUB_SECONDS = 5
DECIDING = (".safetensors", ".bin", ".pt", ".json", ".txt", ".model")  # files of a checkpoint's folder


def embedded_folder(name: str) -> Path:
    """Folder of an embedded checkpoint, its files checked against their recorded hashes."""
    folder = Path(__file__).parent / "assets" / name
    verify(folder)
    return folder


def file_hash(path: Path) -> str:
    """SHA-256 of one file, as hexadecimal digits; computed again when the file has changed."""
    facts = os.stat(path)
    return _file_hash(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=64)
def _file_hash(path: Path, changed: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: Path) -> None:
    """Compare the files of `folder` with manifest.json; AngaError at the first that is absent or differs."""
    cure = f"restore it with `git checkout -- anga/assets/{folder.name}`, or install the package again"
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise AngaError(f"The embedded checkpoint {folder.name} has no {manifest}: {cure}.")
    for name, expected in json.loads(manifest.read_text())["sha256"].items():
        if not (folder / name).is_file():
            raise AngaError(f"{folder / name} is missing: {cure}.")
        if file_hash(folder / name) != expected:
            raise AngaError(f"{folder / name} is corrupted (its SHA-256 is not the recorded one): {cure}.")


def write_manifest(folder: Path, names: list[str]) -> None:
    """Record the SHA-256 of the named files of `folder` in its manifest.json."""
    hashes = {name: file_hash(folder / name) for name in sorted(names)}
    (folder / "manifest.json").write_text(json.dumps({"sha256": hashes}, indent=2) + "\n")


def content_hash(paths: list[Path]) -> str:
    """One SHA-256 over several files, in the given order."""
    return hashlib.sha256("".join(file_hash(path) for path in paths).encode()).hexdigest()


def checkpoint_hash(name: str, weights: list[Path]) -> str:
    """One SHA-256 over all that decides what a checkpoint computes.

    For a folder of one's own these are weights, configuration, preprocessing and vocabulary; elsewhere the weights say
    it all, since the other files are verified (embedded ones) or belong to the name (a hub's).
    """
    if name in EMBEDDED or not Path(name).is_dir():
        return content_hash(weights)
    return content_hash(sorted(path for path in Path(name).iterdir() if path.suffix in DECIDING))


def hub_folder(
    repository: str, choices: list[list[str]], is_whole: Callable[[Path], object], name: str | None = None
) -> Path:
    """Folder with a hub repository's files: from the local cache, else downloaded. `name` is what errors call it.

    `choices` are lists of file patterns, tried in turn until the folder `is_whole`; another program may have cached a
    part of it. Raises AngaError within seconds when the hub cannot be reached or holds no such repository.
    """
    folder = _cached_folder(repository)
    if folder is not None and is_whole(folder):
        return folder
    require_hub(repository, name or repository)
    for patterns in choices:
        folder = _download(repository, patterns)
        if is_whole(folder):
            return folder
    raise AngaError(f"The hub repository {repository} holds no checkpoint of this kind: choose another name.")


def _cached_folder(repository: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except Exception:  # not cached: the hub's client has changed its exception for that several times
        return None


def _download(repository: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except Exception as error:
        raise AngaError(_not_loaded(repository, f"the download failed ({type(error).__name__})")) from error


def require_hub(repository: str, name: str) -> None:
    """Ask the hub for a repository once, with a short limit; AngaError if a download would be in vain."""
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON"):
        raise AngaError(_not_loaded(name, "HF_HUB_OFFLINE is set"))
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    request = urllib.request.Request(f"{endpoint}/api/models/{repository}", headers={"User-Agent": "anga"})
    try:
        urllib.request.urlopen(request, timeout=HUB_SECONDS).close()
    except urllib.error.HTTPError as error:
        if error.code in (401, 404):
            raise AngaError(
                f"The hub knows no checkpoint {name!r}: check the name, or use mini-vilt or mini-clip, "
                "which are part of the package."
            ) from error
        raise AngaError(_not_loaded(name, f"the hub answered {error.code}")) from error
    except OSError as error:
        raise AngaError(_not_loaded(name, "the hub cannot be reached")) from error


def _not_loaded(name: str, reason: str) -> str:
    return (
        f"The checkpoint {name!r} is not on this machine and {reason}: connect to the network once, "
        "or use mini-vilt or mini-clip, which are part of the package."
    )
