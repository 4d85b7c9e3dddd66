"""The training loop: resumable to the bit, fair between methods, and equal to loops written out by hand."""

import errno
import itertools
import os
import sys
from dataclasses import replace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from tiny_world import tiny_config

import anga.training_state
from anga.aligner import Case
from anga.curriculum import anchor_ratio
from anga.errors import AngaError
from anga.gradients import Group
from anga.method import Method, sample_losses
from anga.model import build_model
from anga.parameters import VARIANTS
from anga.result import forget_peak_memory, peak_memory_mb
from anga.training import train
from anga.training_state import TrainingState

STEPS = 4  # per epoch of the tiny config
RANDOMNESS = {
    "as in the paper": {},
    "running ranks": {"ranking": "running"},
    "random admission": {"admission": "random"},
    "half precision": {"precision": "bfloat16"},
}


@pytest.fixture
def watch(monkeypatch):
    """`watch(name)` lists all calls of that method of a class: (object, arguments, what it returned)."""

    def watch(name: str, kind: type = TrainingState) -> list:
        calls, method = [], getattr(kind, name)

        def watched(self, *arguments):
            returned = method(self, *arguments)
            calls.append((self, arguments, returned))
            return returned

        monkeypatch.setattr(kind, name, watched)
        return calls

    return watch


@pytest.fixture
def interrupt_after(monkeypatch):
    """`interrupt_after(n)` stops whatever trains next in the middle of an epoch, after n steps."""
    log_step = TrainingState.log_step

    def interrupt_after(n: int) -> None:
        left = itertools.count(n, -1)

        def step(self, *arguments):
            if next(left) == 0:
                raise KeyboardInterrupt
            log_step(self, *arguments)

        monkeypatch.setattr(TrainingState, "log_step", step)

    yield interrupt_after
    monkeypatch.setattr(TrainingState, "log_step", log_step)


def fit(world, checkpoint=None, inputs=None, **knobs):
    config = tiny_config(**knobs)
    return train(config, checkpoint=checkpoint, progress=False, inputs=inputs or world.inputs(config))


def assert_same(one, other, **tolerance) -> None:
    """Two results agree in everything but the time they took; without a tolerance to the last bit."""
    how = tolerance or {"check_exact": True}
    pd.testing.assert_frame_equal(one.telemetry, other.telemetry, **how)
    pd.testing.assert_frame_equal(one.predictions, other.predictions, **how)
    pd.testing.assert_frame_equal(one.history.drop(columns="seconds"), other.history.drop(columns="seconds"), **how)
    if not tolerance:
        np.testing.assert_equal(one.metrics, other.metrics)


# --- checkpoints


@pytest.mark.parametrize("knobs", RANDOMNESS.values(), ids=RANDOMNESS.keys())
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(binary_world, tmp_path, interrupt_after, knobs):
    checkpoint = tmp_path / "new folder" / "state.pt"
    for steps in (2, STEPS + 1, STEPS + 3):  # in the first epoch, in the second, in the third
        interrupt_after(steps)
        with pytest.raises(KeyboardInterrupt):
            fit(binary_world, checkpoint, **knobs)
    interrupt_after(-1)
    resumed = fit(binary_world, checkpoint, **knobs)
    assert_same(resumed, fit(binary_world, **knobs))
    assert resumed.seconds >= resumed.history["seconds"].iloc[-1] >= resumed.history["seconds"].iloc[0] > 0


def test_resuming_takes_up_the_last_epoch_and_not_the_first(binary_world, tmp_path, interrupt_after, watch):
    interrupt_after(2 * STEPS + 1)
    with pytest.raises(KeyboardInterrupt):
        fit(binary_world, tmp_path / "state.pt")
    interrupt_after(-1)
    epochs = watch("end_epoch")
    fit(binary_world, tmp_path / "state.pt")
    assert len(epochs) == 1


def test_a_finished_checkpoint_gives_the_result_without_training(binary_world, tmp_path, watch):
    first, steps = fit(binary_world, tmp_path / "state.pt"), watch("log_step")
    assert_same(fit(binary_world, tmp_path / "state.pt"), first)
    assert not steps


def test_a_kill_while_saving_leaves_the_checkpoint_before(binary_world, tmp_path, monkeypatch):
    path, whole = tmp_path / "state.pt", fit(binary_world)
    saves, move = itertools.count(1), os.replace

    def killed(*arguments):
        if next(saves) == 2:
            raise KeyboardInterrupt
        move(*arguments)

    monkeypatch.setattr("anga.resuming.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(binary_world, path)
    assert torch.load(path, weights_only=False)["epoch"] == 1
    assert_same(fit(binary_world, path), whole)


@pytest.mark.parametrize("knobs", [{"train_seed": 1}, {"cos_threshold": 0.3}, {"epochs": 4}])
def test_a_checkpoint_of_another_config_is_refused(binary_world, tmp_path, knobs):
    fit(binary_world, tmp_path / "state.pt")
    with pytest.raises(AngaError, match=r"state.pt: this checkpoint belongs to another config"):
        fit(binary_world, tmp_path / "state.pt", **knobs)


def test_a_checkpoint_of_other_data_is_refused(binary_world, tmp_path):
    fit(binary_world, tmp_path / "state.pt")
    nothing = np.zeros(90, bool)
    other = binary_world.with_garbage(~nothing, nothing, tmp_path)
    with pytest.raises(AngaError, match="other data"):
        fit(other, tmp_path / "state.pt")


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b[100:], lambda b: b"garbage"])
def test_a_damaged_checkpoint_is_one_clear_error(binary_world, tmp_path, damage):
    path = tmp_path / "state.pt"
    fit(binary_world, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(AngaError, match=r"state.pt: the checkpoint cannot be read .*delete it") as caught:
        fit(binary_world, path)
    assert "\n" not in str(caught.value) and caught.value.__cause__ is not None


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
@pytest.mark.parametrize("where", ["torch.load", "anga.resuming._take_up"])
def test_a_lack_of_memory_does_not_condemn_a_checkpoint(binary_world, tmp_path, monkeypatch, error, where):
    fit(binary_world, tmp_path / "state.pt")
    monkeypatch.setattr(where, mock.Mock(side_effect=error))
    with pytest.raises(type(error)):
        fit(binary_world, tmp_path / "state.pt")


def test_a_checkpoint_that_may_not_be_opened_is_named_with_the_cause(binary_world, tmp_path, monkeypatch):
    fit(binary_world, tmp_path / "state.pt")
    refusal = mock.Mock(side_effect=PermissionError(13, "Permission denied"))  # the super-user may read anything
    monkeypatch.setattr("anga.resuming.open", refusal, raising=False)
    with pytest.raises(AngaError, match=r"state.pt: the checkpoint cannot be opened \(Permission denied\)") as caught:
        fit(binary_world, tmp_path / "state.pt")
    assert "delete" not in str(caught.value)


@pytest.mark.parametrize("content", [{"weights": 1}, [1, 2]])
def test_a_file_that_is_no_checkpoint_is_refused(binary_world, tmp_path, content):
    torch.save(content, tmp_path / "state.pt")
    with pytest.raises(AngaError, match="cannot be read"):
        fit(binary_world, tmp_path / "state.pt")


# --- when the disk is full


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_as_torch_says_it(*_, **__):
    try:
        full()
    except OSError:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 768 vs 662") from None


@pytest.mark.parametrize("save", [full, full_as_torch_says_it], ids=["plain", "by torch"])
def test_a_full_disk_is_named_and_leaves_the_checkpoint_before(
    binary_world, tmp_path, interrupt_after, monkeypatch, save
):
    path, whole = tmp_path / "state.pt", fit(binary_world)
    interrupt_after(STEPS)
    with pytest.raises(KeyboardInterrupt):
        fit(binary_world, path)
    interrupt_after(-1)
    with monkeypatch.context() as patch:
        patch.setattr("torch.save", save)
        with pytest.raises(AngaError, match=r"state.pt: could not be made \(No space left on device\); make room"):
            fit(binary_world, path)
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]
    assert torch.load(path, weights_only=False)["epoch"] == 1
    assert_same(fit(binary_world, path), whole)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_what_torch_says_of_a_full_device_is_understood(binary_world, tmp_path):
    """Guards the test above."""
    (tmp_path / "state.pt.partial").symlink_to("/dev/full")
    with pytest.raises(AngaError, match=r"state.pt: could not be made \(No space left on device\)"):
        fit(binary_world, tmp_path / "state.pt")


def test_other_errors_while_a_checkpoint_is_written_are_not_the_disk_s(binary_world, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.save", mock.Mock(side_effect=RuntimeError("CUDA error")))
    with pytest.raises(RuntimeError, match="CUDA error"):
        fit(binary_world, tmp_path / "state.pt")


# --- when training diverges


@pytest.mark.parametrize("batch_size", [16, 64])
def test_a_rate_that_blows_up_stops_with_a_clear_error(world, batch_size, tmp_path):
    """With batches of 64 an epoch is one step, whose loss is still finite: the predictions after it are not."""
    with pytest.raises(AngaError, match=r"not finite.*lower learning_rate \(now 1e\+30\)"):
        fit(world, tmp_path / "state.pt", batch_size=batch_size, learning_rate=1e30)
    assert not (tmp_path / "state.pt").exists()


def test_a_loss_that_breaks_later_keeps_the_checkpoint_before(binary_world, tmp_path, interrupt_after):
    interrupt_after(STEPS)
    with pytest.raises(KeyboardInterrupt):
        fit(binary_world, tmp_path / "state.pt")
    interrupt_after(-1)
    saved = (tmp_path / "state.pt").read_bytes()
    inputs = binary_world.inputs(tiny_config())
    inputs.bank.image[:] = torch.inf
    with pytest.raises(AngaError, match="loss is not finite from step 1 of epoch 2"):
        fit(binary_world, tmp_path / "state.pt", inputs)
    assert (tmp_path / "state.pt").read_bytes() == saved


# --- equal to a loop by hand


def by_hand(config, inputs, groups, update):
    """AdamW with a written-out schedule on gradients that `update` makes from losses and group codes."""
    state, model = TrainingState(config, inputs), build_model(config, inputs)
    learned, make_batch = list(model.trainable().values()), inputs.batch_maker(config.use_adapter)
    optimizer = torch.optim.AdamW(learned, lr=0.0, weight_decay=config.weight_decay)
    total, rising = config.epochs * STEPS, 2
    factors = [1 / 2, 1, *(np.arange(total - rising, 0, -1) / (total - rising))]
    for epoch, group in enumerate(groups):
        state.epoch = epoch
        for rows in state.batches():
            optimizer.param_groups[0]["lr"] = config.learning_rate * factors.pop(0)
            batch = make_batch(rows)
            grads = update(sample_losses(model(batch), batch.labels), group[rows], learned)
            for parameter, grad in zip(learned, grads, strict=True):
                parameter.grad = grad
            optimizer.step()
    return learned


def plain_update(losses, group, learned):
    return torch.autograd.grad(losses.mean(), learned)


def eq_15(losses, group, learned, tau=0.2):
    """Eqs. 4 and 8 to 15 with one backward pass per gradient."""

    def gradient(mask):
        mean_loss = losses[torch.from_numpy(mask)].sum() / max(mask.sum(), 1)
        parts = torch.autograd.grad(mean_loss, learned, retain_graph=True)
        return torch.cat([part.flatten() for part in parts]).double()

    complete, anchor, remaining = (gradient(mask) for mask in (group == 0, group < 2, group == 2))
    cosine = remaining @ anchor / (remaining.norm() * anchor.norm())
    parallel = remaining @ anchor / anchor.norm() ** 2 * anchor
    orthogonal = remaining - parallel
    if cosine <= 0:
        remaining = 0 * remaining
    elif cosine < tau:
        remaining = parallel + (1 - tau**2) ** 0.5 / tau * parallel.norm() / orthogonal.norm() * orthogonal
    flat = (complete + remaining).float().split([p.numel() for p in learned])
    return [part.view_as(p) for part, p in zip(flat, learned, strict=True)]


@pytest.mark.parametrize(
    ("knobs", "update"), [({"use_alignment": False}, plain_update), ({}, eq_15)], ids=["pooled", "aligned"]
)
def test_training_equals_a_loop_written_out_by_hand(world, watch, knobs, update, tmp_path):
    config, assigned = tiny_config(warmup=2 / 12, **knobs), watch("assign_groups")
    inputs = world.inputs(config)
    result = train(config, checkpoint=tmp_path / "state.pt", progress=False, inputs=inputs)
    last = torch.load(tmp_path / "state.pt", weights_only=False)["weights"]
    learned = by_hand(config, inputs, [group for _, _, group in assigned], update)
    for ours, theirs in zip(last.values(), learned, strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=1e-4)
    if update is eq_15:
        assert result.telemetry["case"].nunique() > 1, "the loop by hand met several cases"


def test_every_form_of_the_gradients_trains_the_same_model(world):
    boundary = fit(world)
    for form in ("loop", "sub_batch"):
        assert_same(fit(world, gradient_form=form), boundary, rtol=1e-2, atol=2e-4)


def test_without_missing_modalities_alignment_is_ordinary_training(world):
    aligned, plain = (fit(world, missing_rate=0.0, use_alignment=use) for use in (True, False))
    assert set(aligned.telemetry["case"]) == {Case.NO_REMAINING}
    assert_same(aligned, plain)


def test_without_any_anchor_alignment_is_ordinary_training(world):
    knobs = {"missing_rate": 1.0, "memory_bank": "full", "lambda_min": 0.0, "lambda_max": 0.0}
    aligned, plain = (fit(world, use_alignment=use, **knobs) for use in (True, False))
    assert set(aligned.telemetry["case"]) == {Case.NO_ANCHOR}, "counted in the telemetry"
    assert_same(aligned, plain)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learns(world, variant):
    result = fit(world, epochs=4, learning_rate=0.03, **VARIANTS[variant])
    assert result.history["loss"].iloc[-1] < result.history["loss"].iloc[0] - 0.03
    assert set(result.metrics) == {"validation", "test"}
    assert result.metrics["test"]["all"]["n"] == 15


def test_half_precision_stays_near_single_precision(world):
    half, single = fit(world, precision="bfloat16", epochs=1), fit(world, epochs=1)
    logits = [result.predictions.filter(like="logit") for result in (half, single)]
    np.testing.assert_allclose(*logits, atol=0.15)
    assert not np.array_equal(*logits)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_automatic_precision_is_one_of_the_two(world, monkeypatch, precision):
    monkeypatch.setattr(anga.training_state, "pick_precision", lambda *_: precision)
    automatic, asked = (fit(world, precision=name, epochs=1) for name in ("auto", precision))
    pd.testing.assert_frame_equal(automatic.predictions, asked.predictions)


# --- what is kept equal between methods


def batches_of(world, epoch: int, **knobs):
    config = tiny_config(**knobs)
    state = TrainingState(config, world.inputs(config))
    state.epoch = epoch
    return [rows.tolist() for rows in state.batches()]


def test_the_order_of_samples_depends_on_training_seed_and_epoch_alone(binary_world):
    first = batches_of(binary_world, 0)
    for method in VARIANTS.values():
        assert batches_of(binary_world, 0, **method, missing_rate=0.4, mask_seed=3) == first
    assert batches_of(binary_world, 1) != first != batches_of(binary_world, 0, train_seed=1)


def test_an_epoch_sees_every_training_sample_once_and_no_other(binary_world, watch):
    steps = watch("log_step")
    fit(binary_world)
    for epoch in range(3):
        rows = np.concatenate([arguments[0] for _, arguments, _ in steps[epoch * STEPS : (epoch + 1) * STEPS]])
        np.testing.assert_array_equal(np.sort(rows), binary_world.dataset.rows("train"))


def test_training_leaves_the_global_random_states_alone(binary_world, monkeypatch):
    torch.manual_seed(3)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("the GPUs' generators were reseeded"))
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = fit(binary_world)
    assert torch.equal(torch.get_rng_state(), before[0]) and np.array_equal(np.random.get_state()[1], before[1])
    torch.random.default_generator.manual_seed(4)
    assert_same(fit(binary_world), first)


def test_the_learning_rate_rises_linearly_to_its_value_and_falls_linearly_to_zero(binary_world):
    for warmup in (0.0, 0.1, 0.25, 0.5, 1.0):
        config = tiny_config(epochs=5, warmup=warmup)
        state, rates = TrainingState(config, binary_world.inputs(config)), []
        for _ in range(20):
            rates.append(state.optimizer.param_groups[0]["lr"] / config.learning_rate)
            state.optimizer.step()
            state.scheduler.step()
        n = max(1, round(20 * warmup))
        np.testing.assert_allclose(rates[:n], np.arange(1, n + 1) / n)
        np.testing.assert_allclose(rates[n:], np.arange(20 - n, 0, -1) / (20 - max(1, 20 * warmup) or 1))
    for total, warmup in itertools.product(range(1, 30), (0.1, 0.33, 0.9)):
        state.config, state.stage_epochs = tiny_config(batch_size=60, warmup=warmup), total
        factors = [state._rate(step) for step in range(total)]
        assert min(factors) > 0 and max(factors) <= 1 and state._rate(total) == 0


# --- the anchor set


def lowest(rows, logits, count):
    """The `count` rows of lowest softmax entropy; equal ones in the data set's order."""
    values = entropy(softmax(np.asarray(logits, float), axis=1), axis=1)
    return set(rows[np.argsort(values, kind="stable")[:count]])


def test_ranks_at_the_epochs_start_come_from_the_model_as_it_then_is(binary_world, watch, monkeypatch):
    config = tiny_config()
    inputs = binary_world.inputs(config)
    rows = inputs.dataset.rows("train")
    lacking = rows[~inputs.table.complete[rows]]
    monkeypatch.setattr("anga.training_state.rows_per_call", lambda device: 7)
    assign, seen = TrainingState.assign_groups, []

    def watched(state):
        with torch.no_grad():
            logits = torch.cat([state.model(state.make_batch(np.array([row]))) for row in lacking])
        group = assign(state)
        seen.append(group)
        count = int(anchor_ratio(state.epoch, 0.2, 0.5, 2) * len(lacking))
        assert set(np.flatnonzero(group == Group.ADMITTED)) == lowest(lacking, logits, count)
        return group

    monkeypatch.setattr(TrainingState, "assign_groups", watched)
    train(config, progress=False, inputs=inputs)
    assert [(group == Group.ADMITTED).sum() for group in seen] == [6, 10, 15]
    for group in seen:
        assert (group[inputs.table.complete] == Group.COMPLETE).all()
    assert set(np.flatnonzero(seen[0] == 1)) - set(np.flatnonzero(seen[2] == 1)), "ranks change as the model learns"


def test_running_ranks_come_from_last_epochs_logits_without_an_extra_pass(binary_world, watch):
    assigned, steps, passes = watch("assign_groups"), watch("log_step"), watch("logits")
    config = tiny_config(ranking="running")
    inputs = binary_world.inputs(config)
    train(config, progress=False, inputs=inputs)
    rows = inputs.dataset.rows("train")
    lacking = rows[~inputs.table.complete[rows]]
    for epoch in (1, 2):
        last = steps[(epoch - 1) * STEPS : epoch * STEPS]
        logits = {r: v for _, (batch, found, _), _ in last for r, v in zip(batch, found.logits.tolist(), strict=True)}
        expected = lowest(lacking, [logits[row] for row in lacking], int(anchor_ratio(epoch, 0.2, 0.5, 2) * 30))
        assert set(np.flatnonzero(assigned[epoch][2] == Group.ADMITTED)) == expected
    ranked = [arguments[0] for _, arguments, _ in passes if np.isin(arguments[0], rows).any()]
    assert len(ranked) == 1, "only the first epoch has no logits to look back at"


def test_random_admission_draws_anew_each_epoch_as_many_as_ranks_would_admit(binary_world, watch):
    assigned = watch("assign_groups")
    fit(binary_world, admission="random")
    admitted = [set(np.flatnonzero(group == Group.ADMITTED)) for _, _, group in assigned]
    assert [len(rows) for rows in admitted] == [6, 10, 15]
    assert admitted[0] - admitted[1] and admitted[1] - admitted[2]


@pytest.mark.parametrize(
    ("knobs", "passes"),
    [({}, 3), ({"admission": "random"}, 0), ({"use_alignment": False}, 0), ({"lambda_min": 0.0, "lambda_max": 0.0}, 0)],
)
def test_only_ranks_cost_passes_over_the_training_split(binary_world, watch, knobs, passes):
    calls = watch("logits")
    fit(binary_world, **knobs)
    train_rows = binary_world.dataset.rows("train")
    assert sum(np.isin(arguments[0], train_rows).any() for _, arguments, _ in calls) == passes


def test_without_alignment_nobody_is_admitted(binary_world, watch):
    assigned = watch("assign_groups")
    result = fit(binary_world, use_alignment=False, plain_update="group_means")
    assert all((group != Group.ADMITTED).all() for _, _, group in assigned)
    assert not result.telemetry["n_admitted"].any() and not result.history["admitted"].any()


# --- selection and records


def test_the_best_validation_state_is_tested_once(binary_world, watch):
    scored, epochs = watch("score"), watch("end_epoch")
    weights = watch("kept", Method)
    config = tiny_config(epochs=8, learning_rate=0.1, train_seed=3)
    inputs = binary_world.inputs(config)
    result = train(config, progress=False, inputs=inputs)
    assert [arguments[0] for _, arguments, _ in scored] == ["validation"] * 8 + ["validation", "test"]
    best = result.history["validation"].idxmax()
    assert best < 7 and result.history["validation"][7] < result.history["validation"][best]
    assert result.score(split="validation") == result.history["validation"][best]
    state = epochs[-1][0]
    assert (state.best_epoch, state.best_score) == (best, result.history["validation"][best])
    model = build_model(config, inputs)
    model.load_state_dict(weights[-1][2], strict=False)  # copied when last the score rose
    rows = inputs.dataset.rows("test")
    logits = model(inputs.batch_maker(True)(rows)).detach()
    test = result.predictions[result.predictions["split"] == "test"]
    np.testing.assert_allclose(test.filter(like="logit"), logits, atol=1e-6)


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_when_patience_is_over(binary_world, patience):
    result = fit(binary_world, epochs=12, patience=patience, learning_rate=0.0, weight_decay=0.0)
    assert len(result.history) == 1 + patience, "a rate of zero never improves on the first epoch"


def test_predictions_list_every_validation_and_test_sample_once(world):
    config = tiny_config()
    inputs, data = world.inputs(config), world.dataset
    predictions = train(config, progress=False, inputs=inputs).predictions
    rows = predictions["row"].to_numpy()
    np.testing.assert_array_equal(np.sort(rows), np.flatnonzero(data.split != "train"))
    np.testing.assert_array_equal(predictions["id"], data.ids[rows])
    np.testing.assert_array_equal(predictions["split"], data.split[rows])
    np.testing.assert_array_equal(predictions["has_text"], inputs.table.has_text[rows])
    np.testing.assert_array_equal(predictions["has_image"], inputs.table.has_image[rows])
    assert predictions.filter(like="logit").shape[1] == len(data.classes)


@pytest.mark.parametrize("knobs", [{}, {"use_alignment": False}, {"missing_rate": 0.9, "memory_bank": "full"}])
def test_telemetry_has_one_plausible_row_per_step(world, watch, knobs):
    assigned, steps = watch("assign_groups"), watch("log_step")
    result = fit(world, **knobs)
    table = result.telemetry
    norms = ["norm_complete", "norm_admitted", "norm_remaining", "norm_anchor"]
    sizes = ["n_complete", "n_admitted", "n_remaining"]
    assert list(table.columns) == ["epoch", "loss", "case", "cosine", "shrink", *norms, *sizes]
    assert table["epoch"].tolist() == np.repeat(range(3), STEPS).tolist()
    assert np.isfinite(table).all().all() and (table["loss"] > 0).all() and (table[norms] >= 0).all().all()
    assert table["cosine"].between(-1, 1).all() and table["shrink"].between(0, 1).all()
    for i, (_, (rows, gradients, _), _) in enumerate(steps):
        counts = np.bincount(assigned[i // STEPS][2][rows], minlength=3)
        assert table[sizes].iloc[i].tolist() == counts.tolist()
        assert table["loss"][i] == pytest.approx(float(gradients.losses.mean()))
        assert ((table.loc[i, norms[:3]] == 0).to_numpy() == (counts == 0)).all()
    judged = table[(table["n_remaining"] > 0) & (table["n_complete"] + table["n_admitted"] > 0)]
    by_cosine = np.select([judged["cosine"] <= 0, judged["cosine"] >= 0.2], [Case.OPPOSITE, Case.INSIDE], Case.OUTSIDE)
    assert judged["case"].tolist() == by_cosine.tolist()


@pytest.mark.parametrize("subset", ["complete", "reconstructed"])
def test_an_upper_bound_trains_and_selects_on_its_subset_alone(world, subset, watch):
    config = tiny_config(train_subset=subset, use_alignment=False, use_adapter=False, epochs=5)
    inputs, steps = world.inputs(config), watch("log_step")
    result = train(config, progress=False, inputs=inputs)
    seen = np.unique(np.concatenate([rows for _, (rows, *_), _ in steps]))
    train_rows, complete = inputs.dataset.rows("train"), inputs.table.complete
    wanted = complete if subset == "complete" else ~complete
    assert seen.tolist() == train_rows[wanted[train_rows]].tolist()
    scores = result.history[f"validation_{subset}"]
    assert result.history["validation"].tolist() == scores.tolist()
    assert result.score(subset, "validation") == scores.max()


def test_an_upper_bound_may_make_as_many_steps_as_joint_training(binary_world, watch):
    knobs = {"use_alignment": False, "use_adapter": False, "epochs": 3, "missing_rate": 0.7}
    bound = tiny_config(**knobs, train_subset="complete", epoch_steps="all")
    inputs, steps = binary_world.inputs(bound), watch("log_step")
    train(bound, progress=False, inputs=inputs)
    assert len(steps) == 3 * STEPS
    subset = inputs.training_rows("complete")
    for epoch in range(3):
        batches = [arguments[0] for _, arguments, _ in steps[epoch * STEPS : (epoch + 1) * STEPS]]
        assert [len(rows) for rows in batches] == [len(r) for r in batches_of(binary_world, epoch, **knobs)]
        seen, times = np.unique(np.concatenate(batches), return_counts=True)
        assert seen.tolist() == subset.tolist() and times.max() - times.min() <= 1, "whole passes, but for the last"
    state = TrainingState(bound, inputs)
    joint = TrainingState(tiny_config(**knobs), inputs)
    assert [state._rate(i) for i in range(3 * STEPS)] == [joint._rate(i) for i in range(3 * STEPS)]
    assert tiny_config(**knobs, epoch_steps="all") == tiny_config(**knobs), "with all samples it is what happens anyway"


def test_joint_training_may_choose_its_epoch_as_an_upper_bound_does(binary_world):
    knobs = {"use_alignment": False, "use_adapter": False, "epochs": 6, "patience": 6}
    plain, other = fit(binary_world, **knobs), fit(binary_world, **knobs, select_on="complete")
    assert other.history["loss"].tolist() == plain.history["loss"].tolist(), "training is the same"
    assert other.history["validation"].tolist() == plain.history["validation_complete"].tolist()
    assert other.score("complete", "validation") == plain.history["validation_complete"].max()
    bound = tiny_config(**knobs, train_subset="complete", select_on="complete")
    assert bound == tiny_config(**knobs, train_subset="complete"), "that is what it does anyway"


def test_an_upper_bound_without_samples_is_refused(binary_world):
    with pytest.raises(AngaError, match=r"^train_subset: no training sample is reconstructed"):
        fit(binary_world, train_subset="reconstructed", missing_rate=0.0)


def test_a_validation_split_that_gives_no_score_is_refused(binary_world):
    config = tiny_config()
    inputs = binary_world.inputs(config)
    labels = np.where(inputs.dataset.split == "validation", 0, inputs.dataset.labels)
    inputs = replace(inputs, dataset=replace(inputs.dataset, labels=labels))
    with pytest.raises(AngaError, match=r"^validation: no score can be given for all samples of tiny-binary"):
        train(config, progress=False, inputs=inputs)


def test_history_has_one_row_per_epoch(binary_world):
    result = fit(binary_world)
    table, steps = result.history, result.telemetry
    assert table["epoch"].tolist() == [0, 1, 2]
    sizes = steps[["n_complete", "n_admitted", "n_remaining"]].sum(axis=1)
    means = [np.average(steps["loss"][steps["epoch"] == e], weights=sizes[steps["epoch"] == e]) for e in range(3)]
    np.testing.assert_allclose(table["loss"], means)
    np.testing.assert_allclose(table["admitted"], [6 / 60, 10 / 60, 15 / 60])
    assert table["seconds"].is_monotonic_increasing and result.peak_memory_mb > 50


@pytest.mark.parametrize(("device", "expected"), [("cuda", 2.0), ("cpu", 7.0)])
def test_a_run_s_peak_on_a_gpu_is_its_own_and_on_a_cpu_that_of_the_process(monkeypatch, device, expected):
    """A GPU's allocator held 7 MB at most before, and then 2."""
    peak = {"MB": 7}
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda _: peak.update(MB=2))
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda _: peak["MB"] * 2**20)
    usage = mock.Mock(ru_maxrss=7 * (2**20 if sys.platform == "darwin" else 2**10))
    monkeypatch.setattr("anga.result.resource.getrusage", lambda _: usage)
    forget_peak_memory(torch.device(device))
    assert peak_memory_mb(torch.device(device)) == expected


def test_a_run_forgets_earlier_peaks_before_it_encodes_anything(binary_world, monkeypatch):
    order = []
    monkeypatch.setattr("anga.training.forget_peak_memory", lambda device: order.append(str(device)))
    inputs = binary_world.inputs(tiny_config(use_adapter=False, epochs=1))
    monkeypatch.setattr("anga.training.TrainingState", lambda *a: order.append("state") or TrainingState(*a))
    train(tiny_config(use_adapter=False, epochs=1), progress=False, inputs=inputs)
    assert order == ["cpu", "state"]


def test_encoding_once_without_an_adapter_equals_encoding_in_every_step(binary_world):
    config = tiny_config(**VARIANTS["retrieval only"])
    inputs = binary_world.inputs(config)
    state, rows = TrainingState(config, inputs), np.arange(len(inputs.dataset))
    with torch.no_grad():
        in_a_step = state.model(inputs.batch_maker(False)(rows[5:14]))
    torch.testing.assert_close(state.logits(rows[5:14]), in_a_step, rtol=1e-5, atol=1e-5)
