"""A run's state on disk: written after every epoch, taken up again after an interruption."""

import os
from pathlib import Path
from typing import BinaryIO

import torch

from anga.errors import AngaError
from anga.replacing import named_if_not_made
from anga.training_state import TrainingState

KEPT = ("epoch", "best_epoch", "best_score", "best_weights", "entropy", "history", "telemetry", "seconds")
NOT_THE_FILES_FAULT = (AngaError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError)


def save_state(state: TrainingState, path: str | Path | None) -> None:
    """Write the state after an epoch; a kill in the middle, or a full disk, leaves the one before.

    Raises:
        AngaError: it cannot be written, for instance to a full disk.
    """
    if path is None:
        return
    kept = {name: getattr(state, name) for name in KEPT}
    kept |= {"identity": state.identity, "seconds": state.elapsed(), "weights": state.model.kept()}
    kept |= {"optimizer": state.optimizer.state_dict(), "scheduler": state.scheduler.state_dict()}
    partial = Path(f"{path}.partial")
    with named_if_not_made(Path(path)):
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, "wb") as file:
                _save(kept, file)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        os.replace(partial, path)


def _save(kept: dict, file: BinaryIO) -> None:
    """`torch.save`, whose RuntimeError after a failed write becomes the OSError that it came from."""
    try:
        torch.save(kept, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def load_state(state: TrainingState, path: str | Path | None) -> None:
    """Take up a saved state, if there is one.

    Raises:
        AngaError: the file cannot be opened or read, or belongs to another config or other data.
        MemoryError, torch.OutOfMemoryError, torch.AcceleratorError: as they come; the file may be whole.
    """
    if path is None or not Path(path).exists():
        return
    try:
        with _opened(path) as file:
            kept = torch.load(file, map_location=state.device, weights_only=False)
        ours = kept["identity"] == state.identity
        if ours:
            _take_up(state, kept)
    except NOT_THE_FILES_FAULT:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise AngaError(
            f"{path}: the checkpoint cannot be read ({type(error).__name__}); delete it to start again."
        ) from error
    if not ours:
        raise AngaError(
            f"{path}: this checkpoint belongs to another config or other data; delete it or choose another path."
        )


def _opened(path: str | Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise AngaError(
            f"{path}: the checkpoint cannot be opened ({error.strerror}); mend that, and call it again."
        ) from error


def _take_up(state: TrainingState, kept: dict) -> None:
    for name in KEPT:
        setattr(state, name, kept[name])
    state.begin_stage()
    state.model.load_state_dict(kept["weights"], strict=False)
    state.optimizer.load_state_dict(kept["optimizer"])
    state.scheduler.load_state_dict(kept["scheduler"])
