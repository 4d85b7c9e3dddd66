"""What every compared method promises, whatever it does: new ones are picked up from the registry."""

import ast
import copy
import functools
import operator
import re
from dataclasses import asdict, dataclass, fields, replace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn.metrics import f1_score
from tiny_world import TASKS, in_double, tiny_config

import anga.training
from anga.aligner import Case
from anga.baselines import BASELINES, check_method
from anga.config import Config
from anga.datasets import Dataset, load_dataset
from anga.errors import AngaError
from anga.gradients import FORMS, Group, crossing_form, pick_form
from anga.grids import GridFile
from anga.inputs import INPUT_KNOBS, inputs_key, prepare
from anga.method import Classifier
from anga.missing import MISSING_TYPES
from anga.model import build_model
from anga.parameters import Params
from anga.result import Result
from anga.resuming import load_state
from anga.runs import run
from anga.training import train
from anga.training_state import TrainingState

FORMS_OF_OPTIONS = {
    "maps, attention": ("maps", {"form": "attention"}),
    "msps, attention": ("msps", {"form": "attention"}),
    "ragpt, label prompts": ("ragpt", {"label_prompts": True}),
}
METHODS = {name: (name, {}) for name in BASELINES}
METHODS |= {label: given for label, given in FORMS_OF_OPTIONS.items() if given[0] in BASELINES}
SMALL = {  # sizes that suit a world of width 16, so that a step takes 10 ms
    "maps": {"prompt_length": 4},
    "msps": {"prompt_length": 4},
    "iper": {"prompt_length": 4},
    "dcp": {"prompt_length": 12},
    "syp": {"prompt_length": 6},
    "if_mmin": {"embedding": 24, "n_autoencoders": 2},
    "drfuse": {"hidden": 24},
    "acmae": {"encoder_layers": 1, "decoder_layers": 1, "fusion_layers": 1},
    "dicmor": {"couplings": 4, "hidden": 16, "blocks": 2},
    "corrkd": {"width": 12},
    "momke": {"width": 24, "depth": 1},
}
every_method = pytest.mark.parametrize("method", METHODS)


def config_of(method: str, **knobs) -> Config:
    """A config of three epochs of ten steps, after two epochs in the first stage of methods that have one."""
    name, options = METHODS[method]
    options = {**first_stages(name), **SMALL.get(name, {}), **options}
    return tiny_config(method=name, method_options=options, **{"batch_size": 6, "learning_rate": 0.02, **knobs})


def first_stages(name: str) -> dict[str, int]:
    """Options for first stages of two epochs."""
    return {field.name: 2 for field in fields(BASELINES[name].Options) if field.name.endswith("epochs")}


@pytest.fixture(scope="session")
def inputs_of(world_of):
    """`inputs_of(task, config)`: made once per session, as in a study."""
    made = {}

    def inputs_of(task: str, config: Config):
        key = task, inputs_key(config)
        if key not in made:
            made[key] = world_of(task).inputs(config)
        return made[key]

    return inputs_of


@dataclass(frozen=True)
class Fitted:
    """A result, and the state after its last epoch."""

    result: Result
    state: TrainingState


def fit(config: Config, inputs, checkpoint) -> Fitted:
    result = train(config, checkpoint=checkpoint, progress=False, inputs=inputs)
    state = TrainingState(config, inputs)
    load_state(state, checkpoint)
    return Fitted(result, state)


@pytest.fixture(scope="session")
def fitted(inputs_of, tmp_path_factory):
    """`fitted(method)`: an undisturbed run in the world of four classes, done once per session."""

    @functools.cache
    def fitted(method: str) -> Fitted:
        config = config_of(method)
        return fit(config, inputs_of("multiclass", config), tmp_path_factory.mktemp("fitted") / "state.pt")

    return fitted


def assert_same(one: Fitted, other: Fitted) -> None:
    """Weights, telemetry, history and predictions agree to the last bit."""
    kept = one.state.model.kept(), other.state.model.kept()
    assert kept[0].keys() == kept[1].keys() and all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])
    for table in ("telemetry", "predictions"):
        pd.testing.assert_frame_equal(getattr(one.result, table), getattr(other.result, table), check_exact=True)
    np.testing.assert_equal(one.result.metrics, other.result.metrics)


def stages(model) -> list[int]:
    """The first epoch of each stage."""
    return [0, model.pretrain_epochs] if model.pretrain_epochs else [0]


def rows_by_kind(state: TrainingState, epoch: int) -> dict[str, np.ndarray]:
    """Rows for odd batches that a stage may meet: one state of samples alone, a single sample."""
    train_rows, complete = state.train_rows, state.table.complete[state.train_rows]
    rows = {"complete": train_rows[complete][:7], "one complete": train_rows[complete][:1]}
    if epoch >= state.first_epoch or state.model.pretrain_subset == "all":
        text, image = (train_rows[~has[train_rows]] for has in (state.table.has_text, state.table.has_image))
        rows |= {"incomplete": train_rows[~complete][:7]}
        rows |= {name: lost[:1] for name, lost in (("no text", text), ("no image", image)) if len(lost)}
    return rows


# --- training


@pytest.mark.parametrize("method", ["anga", *(name for name in METHODS if name != "ragpt, label prompts")])
def test_at_the_prior_every_classifier_starts_at_how_frequent_labels_are_and_nothing_else_does(inputs_of, method):
    config = tiny_config(head_bias="prior") if method == "anga" else config_of(method, head_bias="prior")
    inputs = inputs_of("multilabel", config)
    labels = torch.as_tensor(inputs.dataset.labels[inputs.training_rows()])
    share = ((labels.sum(0) + 1) / (len(labels) + 2)).float()
    usual, model = (build_model(config.with_(head_bias=start), inputs) for start in ("zero", "prior"))
    classifiers = [name for name, part in model.named_modules() if isinstance(part, Classifier)]
    usual, prior = usual.state_dict(), model.state_dict()
    assert {name for name in usual if not torch.equal(usual[name], prior[name])} == {f"{c}.bias" for c in classifiers}
    for name in classifiers:
        torch.testing.assert_close(prior[f"{name}.bias"].sigmoid(), share)


def test_every_layer_that_puts_out_logits_of_labels_is_a_classifier(world_of):
    for method, (name, options) in METHODS.items():
        config = tiny_config(method=name, method_options={**SMALL.get(name, {}), **options})
        parts = BASELINES[name].build(config, world_of("binary").backbone, 37).named_modules()
        logits = [part for part in parts if isinstance(part[1], torch.nn.Linear) and part[1].out_features == 37]
        assert [part for part, layer in logits if type(layer) is torch.nn.Linear] == [], method


def test_label_prompts_have_no_bias_to_start_at_a_prior():
    with pytest.raises(AngaError, match="head_bias: with label prompts"):
        config_of("ragpt, label prompts", head_bias="prior")


@every_method
def test_it_learns(fitted, method):
    """On its 60 training samples, half of which lack a modality, it beats the commonest class by a twentieth."""
    state = fitted(method).state
    labels = state.dataset.labels[state.train_rows]
    majority = np.bincount(labels).max() / len(labels)
    assert (state.logits(state.train_rows).argmax(1).numpy() == labels).mean() > majority + 0.05


@every_method
def test_a_killed_run_resumes_to_the_same_bit_whatever_the_global_random_state(
    fitted, inputs_of, method, tmp_path, monkeypatch
):
    config, save, killed = config_of(method), anga.training.save_state, []
    first = fitted(method).state.first_epoch
    kills = {1, max(first, 1), first + 1}  # the second lies where one stage ends, and optimiser and schedule change

    def save_and_die(state, path):
        save(state, path)
        if state.epoch in kills - set(killed):
            killed.append(state.epoch)
            raise KeyboardInterrupt

    monkeypatch.setattr(anga.training, "save_state", save_and_die)
    for seed in range(len(kills)):
        torch.manual_seed(seed)
        np.random.seed(seed)
        with pytest.raises(KeyboardInterrupt):
            train(config, checkpoint=tmp_path / "state.pt", progress=False, inputs=inputs_of("multiclass", config))
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    assert_same(fit(config, inputs_of("multiclass", config), tmp_path / "state.pt"), fitted(method))
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]


@every_method
def test_another_training_seed_starts_from_other_weights(inputs_of, method):
    config = config_of(method)
    inputs = inputs_of("multiclass", config)
    one, same, other = (build_model(config.with_(train_seed=seed), inputs).kept() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="session")
def garbled(world_of, tmp_path_factory):
    """`garbled(inputs_key(config))`: inputs in which the content of whatever is missing is another one."""

    @functools.cache
    def garbled(key: tuple):
        config = Config(use_adapter=False, **dict(zip(INPUT_KNOBS, key, strict=True)))
        world, folder = world_of("multiclass"), tmp_path_factory.mktemp("garbled")
        table = world.inputs(config).table
        return world.with_garbage(~table.has_text, ~table.has_image, folder).inputs(config)

    return garbled


@every_method
def test_the_content_of_what_is_missing_changes_nothing(fitted, garbled, method, tmp_path):
    config = config_of(method)
    assert_same(fit(config, garbled(inputs_key(config)), tmp_path / "state.pt"), fitted(method))


@every_method
def test_training_adds_no_column_that_is_not_finite(fitted, method):
    table = fitted(method).result.telemetry
    terms = [name for name in table if name.startswith("term_")]
    second = table[table["epoch"] >= fitted(method).state.first_epoch]
    assert np.isfinite(second[["loss"]]).all().all() and set(table["case"]) == {Case.NOT_ALIGNED}
    for _, stage in table.groupby(table["epoch"] >= fitted(method).state.first_epoch):
        filled = stage[terms].dropna(axis=1, how="all")
        assert np.isfinite(filled).all().all(), "a term is logged in every step of its stage, or in none"


# --- predictions


@every_method
def test_a_prediction_reads_no_label(fitted, method):
    state = fitted(method).state
    batch = state.make_batch(state.dataset.rows("test"))
    hidden = replace(batch, labels=None, pool_labels=batch.pool_labels if METHODS[method][1] else None)
    with torch.no_grad():
        assert torch.equal(state.model(hidden), state.model(batch))


OTHER_TEST_LABELS = {  # ANGA's variants, and everything that may look at labels on its way: bank, ranking, selection
    "anga": {"use_adapter": True},
    "anga, no alignment": {"use_adapter": True, "use_alignment": False},
    "anga, no adapter": {"use_adapter": False},
    "anga, no retrieval": {"use_adapter": False, "use_retrieval": False, "use_alignment": False},
    "anga, full bank": {"use_adapter": True, "memory_bank": "full", "ranking": "running"},
    "anga, integer mask": {"use_adapter": False, "integer_mask": True},
    "anga, complete samples choose": {"use_adapter": False, "select_on": "complete", "head_bias": "prior"},
}


@pytest.fixture(scope="session")
def with_other_test_labels(world_of, tmp_path_factory):
    """`with_other_test_labels(inputs_key(config))`: inputs in which the labels of test samples changed places."""

    @functools.cache
    def with_other_test_labels(key: tuple):
        world, config = world_of("multiclass"), Config(use_adapter=False, **dict(zip(INPUT_KNOBS, key, strict=True)))
        dataset, labels = world.dataset, world.dataset.labels.copy()
        test = dataset.rows("test")
        labels[test] = np.roll(labels[test], 1)
        other = replace(dataset, labels=labels, content_hash="")
        return replace(world, dataset=other, outputs=tmp_path_factory.mktemp("test-labels")).inputs(config)

    return with_other_test_labels


def assert_only_test_scores_differ(one: Result, other: Result) -> None:
    """The same predictions and the same course of training."""
    pd.testing.assert_frame_equal(one.predictions, other.predictions, check_exact=True)
    kept = [result.history.drop(columns="seconds") for result in (one, other)]
    pd.testing.assert_frame_equal(*kept, check_exact=True)
    assert one.metrics["validation"] == other.metrics["validation"] and one.metrics["test"] != other.metrics["test"]


@every_method
def test_labels_of_test_samples_change_nothing_but_their_scores(fitted, with_other_test_labels, method, tmp_path):
    config = config_of(method)
    other = train(config, progress=False, inputs=with_other_test_labels(inputs_key(config)))
    assert_only_test_scores_differ(fitted(method).result, other)


@pytest.mark.parametrize("variant", OTHER_TEST_LABELS)
def test_labels_of_test_samples_change_nothing_but_the_scores_of_anga(inputs_of, with_other_test_labels, variant):
    config = tiny_config(**OTHER_TEST_LABELS[variant])
    made = inputs_of("multiclass", config), with_other_test_labels(inputs_key(config))
    assert_only_test_scores_differ(*(train(config, progress=False, inputs=inputs) for inputs in made))


@every_method
def test_a_prediction_does_not_depend_on_the_rest_of_the_batch(fitted, method):
    state = fitted(method).state
    rows = state.dataset.rows("test")[:6]
    together = state.logits(rows)
    alone = torch.cat([state.logits(rows[i : i + 1]) for i in range(len(rows))])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)


@every_method
@pytest.mark.parametrize("task", TASKS)
def test_every_batch_of_every_task_and_missing_type_works(inputs_of, task, method):
    for missing_type in MISSING_TYPES:
        config = config_of(method, missing_type=missing_type)
        state = TrainingState(config, inputs_of(task, config))
        learned_somewhere = set()
        for epoch in stages(state.model):
            learned, terms = state.model.learned(epoch), set()
            for rows in rows_by_kind(state, epoch).values():
                out = state.model.losses(state.make_batch(rows), epoch)
                assert out.total.shape == (len(rows),) and out.logits.shape == (len(rows), state.model.n_classes)
                assert out.total.isfinite().all() and out.logits.isfinite().all()
                assert all(value.ndim == 0 and not value.requires_grad for value in out.terms.values())
                terms.add(frozenset(out.terms))
                grads = torch.autograd.grad(out.total.mean(), list(learned.values()), allow_unused=True)
                assert all(grad is None or grad.isfinite().all() for grad in grads)
                learned_somewhere |= {name for name, grad in zip(learned, grads, strict=True) if grad is not None}
            assert len(terms) == 1, "the same terms in every batch of a stage"
        assert learned_somewhere == set(state.model.trainable()), "nothing is called learnable that never learns"


@every_method
def test_half_precision_stays_near_single_precision(fitted, inputs_of, method):
    config = config_of(method, precision="bfloat16")
    state = TrainingState(config, inputs_of("multiclass", config))
    state.model.load_state_dict(fitted(method).state.model.kept(), strict=False)
    for epoch in stages(state.model):
        state.epoch = epoch
        state.begin_stage()
        batch = state.make_batch(state.stage_rows[:20])
        gradients = state.group_gradients(batch, np.zeros(20, int))
        assert gradients.vectors.dtype == torch.float32 and gradients.vectors.isfinite().all()
    single, half = fitted(method).state.logits(state.train_rows), state.logits(state.train_rows)
    assert half.dtype == torch.float32 and not torch.equal(half, single)
    torch.testing.assert_close(half, single, rtol=0, atol=0.05 * float(single.abs().max()))


# --- alignment as a plug-in


def mixed_groups(state: TrainingState, rows: np.ndarray) -> np.ndarray:
    """Complete samples, and the others alternately admitted and remaining."""
    group = np.where(state.table.complete[rows], Group.COMPLETE, Group.REMAINING)
    group[np.flatnonzero(group == Group.REMAINING)[::2]] = Group.ADMITTED
    return group


@every_method
def test_group_gradients_agree_between_forms_and_with_ordinary_training(inputs_of, method):
    config = config_of(method, use_alignment=True)
    inputs = inputs_of("multiclass", config)
    state = TrainingState(config, inputs)
    own = replace(inputs, backbone=copy.deepcopy(inputs.backbone))
    model, rows = build_model(config, own).double(), state.train_rows[:24]
    batch, group, epoch = in_double(state.make_batch(rows)), mixed_groups(state, rows), state.first_epoch
    loop = FORMS["loop"](model, batch, group, epoch)
    plain = pick_form(config.with_(use_alignment=False), model, epoch)(model, batch, np.zeros(24, int), epoch)
    counts = torch.tensor(loop.counts, dtype=torch.float64)
    assert (counts > 0).all() and (loop.vectors.norm(dim=1) > 0).all()
    close = functools.partial(torch.testing.assert_close, rtol=1e-6, atol=1e-6 * float(plain.vectors.abs().max()))
    close(counts @ loop.vectors / counts.sum(), plain.vectors[0])
    forms = [pick_form(config, model, epoch)] + [FORMS["sub_batch"]] * (not model.couples_samples)
    for split in (form(model, batch, group, epoch) for form in forms):
        close(split.vectors, loop.vectors)
        close(split.logits, loop.logits)
        close(split.losses, loop.losses)


@every_method
@pytest.mark.parametrize("absent", [None, Group.COMPLETE, Group.ADMITTED])
def test_where_the_backbone_is_called_on_whole_batches_it_runs_once_for_all_groups(inputs_of, method, absent):
    config = config_of(method, use_alignment=True)
    state = TrainingState(config, inputs_of("multiclass", config))
    if state.model.whole_batches:
        rows = state.train_rows[:24]
        group = np.where(mixed_groups(state, rows) == absent, Group.REMAINING, mixed_groups(state, rows))
        with state.model.backbone.cut_off() as crossings:
            state.model.losses(state.make_batch(rows), 0)
        (crossing,) = crossings
        assert all(len(tensor) == 24 for tensor in crossing.entered)
        vectors = [form(state.model, state.make_batch(rows), group).vectors for form in (crossing_form, FORMS["loop"])]
        torch.testing.assert_close(*vectors, rtol=1e-3, atol=1e-5)
    else:
        assert pick_form(config, state.model, state.first_epoch) is not crossing_form


@every_method
def test_it_trains_with_alignment(inputs_of, method):
    config = config_of(method, use_alignment=True, epochs=1, batch_size=16)
    result = train(config, progress=False, inputs=inputs_of("multiclass", config))
    table, first = result.telemetry, TrainingState(config, inputs_of("multiclass", config)).first_epoch
    in_second = table["epoch"] >= first
    assert set(table["case"][~in_second]) <= {Case.NOT_ALIGNED}
    assert set(table["case"][in_second]) <= {Case.INSIDE, Case.OUTSIDE, Case.OPPOSITE, Case.NO_REMAINING}
    both = in_second & (table["n_remaining"] > 0) & (table["n_complete"] > 0)
    assert both.any() and (table.loc[both, ["norm_remaining", "norm_anchor"]] > 0).all().all()
    assert (table.loc[in_second, "n_admitted"] > 0).any()
    assert set(result.metrics["test"]) >= {"complete", "reconstructed"}


# --- on real data


N_KEYWORDS = 6
SIZES = {"train": 80, "validation": 16, "test": 64}


def rarely_together(labels: np.ndarray) -> list[int]:
    """Keywords by number: the commonest, then again and again the commonest of the samples that have none so far."""
    chosen: list[int] = []
    for _ in range(N_KEYWORDS):
        left = labels[~labels[:, chosen].any(1)]
        chosen.append(int(left.sum(0).argmax()))
    return chosen


@pytest.fixture(scope="session")
def keywords_inputs(tmp_path_factory):
    """`keywords_inputs(inputs_key(config))`: samples of clipart-keywords that have one of six of its keywords."""
    whole, outputs = load_dataset("clipart-keywords"), tmp_path_factory.mktemp("keywords")
    commonest = rarely_together(whole.labels[whole.split == "train"])
    useful, generator = whole.labels[:, commonest].any(1), np.random.default_rng(0)
    rows = [generator.permutation(np.flatnonzero(useful & (whole.split == split)))[:n] for split, n in SIZES.items()]
    rows = np.concatenate(rows)
    small = Dataset(
        name="few keywords",
        task="multilabel",
        ids=whole.ids[rows],
        texts=whole.texts[rows],
        images=[whole.images[number] for number in whole.image_rows[rows]],
        labels=np.ascontiguousarray(whole.labels[np.ix_(rows, commonest)]),
        classes=[whole.classes[number] for number in commonest],
        split=whole.split[rows],
    )

    @functools.cache
    def keywords_inputs(key: tuple):
        with mock.patch("anga.inputs.load_config_dataset", lambda config: small):
            return prepare(Config(use_adapter=False, **dict(zip(INPUT_KNOBS, key, strict=True))), outputs)

    return keywords_inputs


def majority_f1(labels: np.ndarray) -> float:
    """F1-micro of the best answer that is the same for all of `[N, k]`: the m commonest classes, for the best m."""
    rank = np.argsort(np.argsort(-labels.sum(0), kind="stable"))
    answers = [np.tile(rank < m, (len(labels), 1)) for m in range(1, labels.shape[1] + 1)]
    return max(f1_score(labels, answer, average="micro") for answer in answers)


EPOCHS = {"dcp": 5, "syp": 5, "ragpt": 8}  # of those that learn more slowly than in three


@pytest.mark.parametrize("method", BASELINES)
def test_it_beats_the_majority_answer_on_real_keywords(keywords_inputs, method):
    """By 0.1 in F1-micro on 64 samples, after three epochs on 80 training samples of which 70 % lack a modality.

    `EPOCHS` says which methods need more.
    """
    knobs = {"dataset": "clipart-keywords", "missing_type": "both", "max_text_length": 12, "device": "cpu"}
    rate = 0.003 if BASELINES[method].build.reads == "pooled" else 0.006
    knobs |= {"epochs": EPOCHS.get(method, 3), "batch_size": 8, "learning_rate": rate}
    config = Config(method=method, method_options=config_of(method).method_options, **knobs)
    inputs = keywords_inputs(inputs_key(config))
    truth = inputs.dataset.labels[inputs.dataset.split == "test"]
    assert train(config, progress=False, inputs=inputs).score() > majority_f1(truth) + 0.1


# --- the number of learnable parameters


OPERATIONS = {
    **{ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul},
    **{ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Pow: operator.pow},
}


def evaluate(formula: str, names: dict[str, float]) -> float:
    """The value of a formula as docstrings have them: `2 J (3 d^2 + h) // r`, or min and max of two numbers."""
    product = re.sub(r"(?<=[\w)]) (?=[\w(])|(?<=\))(?=\()", "*", " ".join(formula.split()))

    def value(node: ast.expr) -> float:
        match node:
            case ast.Constant(value=int(number)):
                return number
            case ast.Name(id=name):
                return names[name]
            case ast.BinOp(left=left, op=op, right=right):
                return OPERATIONS[type(op)](value(left), value(right))
            case ast.Call(func=ast.Name(id="min" | "max" as name), args=args):
                return {"min": min, "max": max}[name](*map(value, args))
        raise ValueError(f"not understood in {formula}: {ast.unparse(node)}")

    return value(ast.parse(product.replace("^", "**"), mode="eval").body)


def stated_parameters(docstring: str, names: dict[str, float]) -> float:
    """What "Learnable parameters, with a = ..., b = ...:" at the docstring's end amounts to; each line has one term."""
    _, last = docstring.split("\n\nLearnable parameters")
    given, _, lines = last.partition(":\n\n")
    for name, formula in re.findall(r"(\w+) = (.+?)(?=, \w+ = |$)", " ".join(given.split())):
        names = names | {name: evaluate(formula, names)}
    terms = [line.strip().split("        ")[0] for line in lines.rstrip().splitlines()]
    return evaluate(" ".join(terms), names)


OTHER_SIZES = {
    "maps": {"prompt_length": 6, "prompt_layers": 2},
    "msps": {"prompt_length": 6, "prompt_layers": 2},
    "iper": {"blocks": 3, "prompt_length": 5},
    "dcp": {"prompt_length": 12, "prompt_layers": 2, "reduction": 4},
    "syp": {"prompt_length": 12, "prompt_layers": 2, "reduction": 4},
    "ragpt": {"label_prompts": True},
    "acmae": {"encoder_layers": 1, "decoder_layers": 3, "fusion_layers": 2, "memory_tokens": 3},
    "dicmor": {"width": 10, "couplings": 3, "hidden": 7, "blocks": 2},
    "if_mmin": {"embedding": 24, "n_autoencoders": 3},
    "corrkd": {"width": 9, "statistics_width": 5},
    "momke": {"width": 12, "depth": 2},
    "drfuse": {"hidden": 24},
}


@pytest.mark.parametrize("method", BASELINES)
def test_it_has_as_many_learnable_parameters_as_its_docstring_says(inputs_of, method):
    for task, k in {"binary": 2, "multilabel": 5}.items():
        for given in ({}, OTHER_SIZES.get(method, {})):
            config = tiny_config(method=method, method_options=given)
            inputs, options = inputs_of(task, config), asdict(BASELINES[method].Options(**given))
            image_tokens = inputs.bank.image.shape[1]
            sizes = {"d": inputs.backbone.dim, "k": k, "layers": inputs.backbone.n_layers, "n_v": image_tokens}
            names = sizes | {"max_text_length": config.max_text_length} | options
            found = sum(parameter.numel() for parameter in build_model(config, inputs).trainable().values())
            assert stated_parameters(BASELINES[method].__doc__, names) == found


def test_a_stated_number_of_parameters_is_read_as_it_is_written():
    stated = "A method.\n\nLearnable parameters, with h = max(3, 2 d // r), r = 9:\n\n    {}\n"
    lines = "2 h (d + 1)^2 / 4        prompts (two of them)\n    + (h - 1)(k + 1) d        head"
    assert stated_parameters(stated.format(lines).replace("9", "5"), {"d": 7, "k": 2, "r": 5}) == 3 * 32 + 2 * 3 * 7
    with pytest.raises(KeyError, match="width"):
        stated_parameters(stated.format("2 width"), {"d": 7, "r": 5})


@pytest.mark.parametrize("method", BASELINES)
def test_a_docstring_says_what_was_adapted_before_it_counts_parameters(method):
    assert "Adapted" in BASELINES[method].__doc__.split("Learnable parameters")[0]


@every_method
def test_the_backbone_stays_frozen(fitted, method):
    state = fitted(method).state
    assert not any(parameter.requires_grad for parameter in state.model.backbone.parameters())
    assert not any(name.startswith("backbone.") for name in [*state.model.trainable(), *state.model.kept()])


# --- errors


MISTAKES = {
    "unknown method": ({"method": "mapss"}, r"unknown method mapss \(did you mean maps\?\); known are anga, "),
    "unknown option": ({"method_options": {"length": 3}}, "maps has no option length; its options are form, "),
    "wrong type": ({"method_options": {"prompt_length": "x"}}, "prompt_length of maps must be of type int, not str"),
    "refused value": ({"method_options": {"prompt_length": 0}}, "method_options of maps: .* must be at least 1"),
    "needless retrieval": ({"use_retrieval": True}, "use_retrieval: maps reads no neighbours; .* set it to false"),
    "no retrieval": ({"method": "ragpt", "use_retrieval": False}, "use_retrieval: ragpt reads retrieved neighbours"),
    "options of anga": ({"method": "anga", "method_options": {"form": "deep"}}, "method_options: anga has none"),
    "adapter": ({"use_adapter": True, "use_retrieval": True}, "use_adapter: only anga has the adapter, not maps"),
}
every_mistake = pytest.mark.parametrize(("knobs", "message"), MISTAKES.values(), ids=MISTAKES.keys())


@every_mistake
def test_a_mistake_is_explained_before_anything_runs(knobs, message, tmp_path):
    with pytest.raises(AngaError, match=message) as caught:
        run(Config(**{"method": "maps", **knobs}), tmp_path / "outputs")
    assert "\n" not in str(caught.value) and not (tmp_path / "outputs").exists()


@every_mistake
def test_a_parameter_file_with_a_mistake_is_refused(knobs, message, tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump({"method": "maps", **knobs}))
    with pytest.raises(AngaError, match=message):
        Params.from_yaml(path)


@every_mistake
def test_a_grid_with_a_mistake_is_refused(knobs, message, tmp_path):
    path = tmp_path / "grid.yaml"
    methods = {"right": {"method": "vilt"}, "wrong": {"method": "maps", **knobs}}
    path.write_text(yaml.safe_dump({"grids": {"table": {"axes": {"method": methods}}}}))
    with pytest.raises(AngaError, match=message) as caught:
        GridFile.from_yaml(path)
    assert str(caught.value).startswith(f"{path}: table at ") and "wrong" in str(caught.value)


def refusal(method: str, **knobs) -> list[str]:
    with pytest.raises(AngaError) as caught:
        check_method(Config(method=method, **knobs))
    return str(caught.value).splitlines()


def test_all_wrong_options_are_listed_at_once_with_a_wrong_use_of_retrieval():
    options = {"form": "deep", "length": 3, "orthogonality": -1, "prompt_layers": 0, "prompt_length": "x"}
    assert refusal("msps", method_options=options, use_retrieval=True) == [
        "method_options: msps has no option length; its options are form, prompt_length, prompt_layers, orthogonality.",
        "method_options: prompt_length of msps must be of type int, not str ('x').",
        "method_options of msps: form must be input or attention, not 'deep'.",
        "method_options of msps: orthogonality must be at least 0, not -1.0.",
        "method_options of msps: prompt_length and prompt_layers must be at least 1.",
        "use_retrieval: msps reads no neighbours; leave it out or set it to false.",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt_layers": 0, "prompt_length": 0}, "prompt_length and prompt_layers must be at least 1."),
        ({"form": "attention", "prompt_length": 15}, "prompt_length must be even in the attention form, not 15."),
    ],
    ids=["each", "together"],
)
def test_what_is_wrong_with_several_options_is_said_once(options, said):
    assert refusal("maps", method_options=options) == [f"method_options of maps: {said}"]


def test_a_parameter_file_with_an_unknown_method_is_named(tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text("method: shaspek")
    with pytest.raises(AngaError, match=r"task\.yaml: method: unknown method shaspek"):
        Params.from_yaml(path)


@pytest.mark.parametrize("method", BASELINES)
def test_every_method_is_accepted_with_its_published_options(method):
    config = Config(method=method)
    check_method(config)
    assert config.use_retrieval == getattr(BASELINES[method], "RETRIEVES", False) and not config.use_adapter


@every_method
def test_a_teacher_without_complete_samples_is_refused(inputs_of, method):
    """When the config is read; and where a rate below 1 leaves none of so few samples, when training begins."""
    configs = [config_of(method, missing_rate=rate, memory_bank="full") for rate in (1.0, 0.999)]
    configs += [config_of(method, train_subset="reconstructed")]
    inputs = inputs_of("multiclass", configs[1])
    assert not inputs.table.complete[inputs.training_rows()].any()
    if BASELINES[configs[0].method].build.pretrain_subset == "all":
        for config in configs:
            check_method(config)
        assert len(TrainingState(configs[1], inputs).stage_rows) == 60
        return
    refusal = rf"^method: {configs[0].method} first learns from complete samples, .* "
    for config, cure in ((configs[0], "lower missing_rate"), (configs[2], "use train_subset: all")):
        with pytest.raises(AngaError, match=f"{refusal}{cure}, or choose another method.$"):
            check_method(config)
    with pytest.raises(AngaError, match=f"{refusal}lower missing"):
        TrainingState(configs[1], inputs)
