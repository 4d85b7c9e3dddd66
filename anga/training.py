"""One visible training loop: rank, batch, group gradients, align, step, validate, save (Secs. 4 and 5.1)."""

from pathlib import Path

from tqdm import tqdm

from anga.config import Config
from anga.inputs import Inputs, prepare
from anga.result import Result, forget_peak_memory
from anga.resuming import load_state, save_state
from anga.training_state import TrainingState


def train(
    config: Config,
    outputs: str | Path = "outputs",
    checkpoint: str | Path | None = None,
    progress: bool = True,
    inputs: Inputs | None = None,
) -> Result:
    """Train one model and test its best-validation state once.

    Args:
        config: all knobs.
        outputs: folder whose `cache/` holds embeddings and tokens.
        checkpoint: file written after each epoch; if it exists, training goes on where it stopped, with the same
            result as an uninterrupted run (to the bit on a CPU with the same number of threads).
        progress: whether to show progress bars.
        inputs: what `prepare(config)` returned, if it is at hand.

    Raises:
        AngaError: the loss is no longer finite, the checkpoint belongs to another config or other data, or something
            cannot be written, for instance to a full disk.
    """
    inputs = inputs if inputs is not None else prepare(config, outputs)
    forget_peak_memory(inputs.bank.device)
    state = TrainingState(config, inputs)
    load_state(state, checkpoint)
    return finish(state, checkpoint, progress)


def finish(state: TrainingState, checkpoint: str | Path | None = None, progress: bool = True) -> Result:
    """Train from where a state stands to its end, and test; `checkpoint` and `progress` as for `train`."""
    bar = {"total": state.last_epoch, "initial": state.epoch, "unit": "epoch", "desc": state.config.dataset}
    with tqdm(**bar, disable=not progress) as bar:
        while not state.finished():
            group = state.assign_groups()  # Eqs. 5-7
            for rows in state.batches():
                batch = state.make_batch(rows)
                gradients = state.group_gradients(batch, group[rows])  # Eqs. 4 and 8
                state.optimizer.zero_grad()
                alignment = state.aligner.apply(gradients.vectors, gradients.counts)  # Eqs. 9-15
                state.optimizer.step()
                state.scheduler.step()
                state.log_step(rows, gradients, alignment)
            state.end_epoch(group)
            save_state(state, checkpoint)
            bar.update()
            bar.set_postfix(validation=f"{state.history[-1]['validation']:.3f}", best=f"{state.best_score:.3f}")
    return state.result()
