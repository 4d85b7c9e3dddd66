"""run(config): train once, keep the result on disk under the config's hash, read it back ever after."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from filelock import FileLock

from anga.baselines import check_method
from anga.checkpoints import EMBEDDED, checkpoint_hash, embedded_folder
from anga.config import Config
from anga.contradictions import check_memory_bank
from anga.errors import AngaError
from anga.inputs import Inputs, load_config_dataset, pick_device, pick_precision
from anga.replacing import named_if_not_made
from anga.result import Result
from anga.training import train

# Raise this when a change of the code changes results: stored ones are then no longer taken for current.
RESULT_VERSION = 2
WEIGHTS = ("*.safetensors", "*.bin", "*.pt")
PACKAGES = ("torch", "transformers", "open_clip_torch", "faiss-cpu", "faiss-gpu", "numpy", "scikit-learn")


def run(
    config: Config,
    outputs: str | Path = "outputs",
    progress: bool = True,
    make_inputs: Callable[[Config, str | Path], Inputs] | None = None,
) -> Result:
    """The result of a config: from `outputs/runs/<key>` if it is there, else trained now and kept there.

    A run works in `<key>.partial`, where its checkpoint lets it go on after an interruption, and is renamed when it is
    whole: what has the final name is finished. A lock makes two processes that ask for the same run do it once.
    Whoever trains many runs can give a `make_inputs` that remembers what `prepare` made.

    Raises:
        AngaError: see `train`, `check_method` and `check_memory_bank`; or `outputs` cannot be written, for instance to
            a full disk.
    """
    check_method(config)
    check_memory_bank(config)
    folder, data_hash = run_folder(config, outputs)
    if folder.exists():
        return Result.load(folder)
    _make_writable(folder.parent)
    with FileLock(f"{folder}.lock"):
        if folder.exists():
            return Result.load(folder)
        partial = folder.with_suffix(".partial")
        with named_if_not_made(folder):
            partial.mkdir(exist_ok=True)
        inputs = None if make_inputs is None else make_inputs(config, outputs)
        result = train(config, outputs, checkpoint=partial / "checkpoint.pt", progress=progress, inputs=inputs)
        result.provenance = provenance(config, data_hash)
        unnamed = folder.with_suffix(".saving")
        with named_if_not_made(folder):
            shutil.rmtree(unnamed, ignore_errors=True)
            result.save(unnamed)
            os.rename(unnamed, folder)
            shutil.rmtree(partial)
    return result


def run_folder(config: Config, outputs: str | Path) -> tuple[Path, str]:
    """Where a config's result belongs, and its data's hash: knobs, data and checkpoints decide what a result is.

    Raises:
        AngaError: the data set cannot be read, or precision is auto and the config names a device that is not here.
    """
    data_hash = load_config_dataset(config).content_hash
    checkpoints = [_checkpoint_key(config.backbone), _checkpoint_key(config.clip)]
    key = json.dumps([RESULT_VERSION, config.identity(), data_hash, *checkpoints, *_automatic_precision(config)])
    return Path(outputs) / "runs" / hashlib.sha256(key.encode()).hexdigest()[:16], data_hash


def _automatic_precision(config: Config) -> list[str]:
    """What a key says besides: that `auto` means float32 here, so that machines which share outputs do not mix both.

    Where it means bfloat16 nothing is said: so were the keys before, and the stored results come from such machines.
    The answer is the same for every device that workers of one machine are given: its GPUs, or else its CPU.
    """
    if config.precision != "auto":
        return []
    precision = pick_precision(config.precision, pick_device(config.device))
    return [precision] if precision == "float32" else []


def _checkpoint_key(name: str) -> str:
    """A hash of its files where they are at hand; a hub's checkpoints are known by their name."""
    folder = embedded_folder(name) if name in EMBEDDED else Path(name)
    weights = sorted(path for kind in WEIGHTS for path in folder.glob(kind))
    return checkpoint_hash(name, weights) if folder.is_dir() else name


def provenance(config: Config | None = None, data_hash: str | None = None) -> dict:
    """Where a result comes from: time, commit, versions, processor, device, data."""
    facts = {"finished": datetime.now(UTC).isoformat(timespec="seconds"), "commit": _commit()}
    facts |= {"python": platform.python_version(), "machine": platform.machine(), "cpus": os.cpu_count()}
    facts["processor"] = processor()
    facts |= {name: v for name in PACKAGES if (v := _version(name))}
    if config is not None:
        device = pick_device(config.device)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        facts |= {
            "device": name,
            "threads": torch.get_num_threads(),
            "precision": pick_precision(config.precision, device),
            "config": config.identity(),
            "data": data_hash,
        }
    return facts


def processor() -> str:
    """The processor's name, where the system tells it; else the name of its kind, such as "arm64"."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    """The source tree's commit, with a plus sign where files differ from it."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", here, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", here) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AngaError(f"{folder}: cannot be created ({error.strerror}); choose another outputs folder.") from None
    if not os.access(folder, os.W_OK):
        raise AngaError(f"{folder}: cannot be written; choose another outputs folder.")
