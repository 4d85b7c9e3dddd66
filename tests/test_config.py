"""Knobs: the paper's defaults, refusals that name the knob, and what makes two configs the same run."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
import yaml

from anga.config import Config, read_yaml
from anga.errors import AngaError
from anga.grids import CHECKS
from anga.inputs import pick_device, pick_precision
from anga.parameters import ParameterSet, Params

# Another allowed value for every knob.
OTHER = {
    "dataset": "clipart-folders",
    "root": "/elsewhere",
    "unimodal_cue": 0.5,
    "max_text_length": 40,
    "backbone": "dandelin/vilt-b32-mlm",
    "clip": "ViT-B-16/openai",
    "missing_rate": 0.3,
    "missing_type": "both",
    "test_missing_rate": 0.9,
    "mask_seed": 1,
    "use_retrieval": False,
    "top_k": 3,
    "memory_bank": "full",
    "use_adapter": False,
    "prompt_layer": 3,
    "classifier": "linear",
    "head_bias": "prior",
    "use_alignment": False,
    "plain_update": "group_means",
    "cos_threshold": 0.5,
    "update_base": "anchor",
    "lambda_min": 0.2,
    "lambda_max": 0.4,
    "grow_epochs": 0,
    "integer_mask": True,
    "admission": "random",
    "ranking": "running",
    "multilabel_entropy": "softmax",
    "gradient_form": "loop",
    "epochs": 3,
    "train_subset": "complete",
    "epoch_steps": "all",
    "select_on": "reconstructed",
    "batch_size": 8,
    "learning_rate": 0.1,
    "weight_decay": 0.1,
    "warmup": 0.0,
    "patience": 3,
    "train_seed": 1,
    "precision": "bfloat16",
    "device": "cpu",
}
OTHER |= {"compile_layers": True, "method": "vilt", "method_options": (("form", "attention"),)}
NEEDED = {"method": {"use_adapter": False}, "use_retrieval": {"use_adapter": False}}  # what a value needs beside it
NEEDED |= {"epoch_steps": {"train_subset": "complete"}, "plain_update": {"use_alignment": False}}
WHERE = {"root", "device"}  # where a run happens, not what it computes


@pytest.fixture
def write(tmp_path):
    """Write text to a file and return its path."""

    def write(text: str, name: str = "params.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_defaults_are_the_papers():
    paper = {"missing_rate": 0.7, "cos_threshold": 0.2, "lambda_min": 0.1, "lambda_max": 0.3, "grow_epochs": 5}
    paper |= {"top_k": 5, "prompt_layer": 2, "learning_rate": 1e-3, "weight_decay": 1e-5, "batch_size": 64}
    paper |= {"use_retrieval": True, "use_adapter": True, "use_alignment": True, "update_base": "complete"}
    assert {name: getattr(Config(), name) for name in paper} == paper
    assert (Config().memory_bank, Config().epochs, Config().patience) == ("observed", 20, 10)


@pytest.mark.parametrize("knob", [field.name for field in dataclasses.fields(Config)])
def test_every_knob_that_can_change_a_result_changes_the_identity(knob):
    changed = Config(**{knob: OTHER[knob]}, **NEEDED.get(knob, {}))
    base = Config(**NEEDED.get(knob, {}))
    assert getattr(changed, knob) == OTHER[knob] != getattr(base, knob)
    assert (changed.identity() == base.identity()) == (knob in WHERE)


def test_identity_does_not_depend_on_how_a_value_is_written():
    as_read = Config(learning_rate="1e-3", epochs=20.0, missing_rate="0.7", cos_threshold=0.2, lambda_max=3e-1)
    assert as_read == Config() and as_read.identity() == Config().identity()
    assert Config(missing_rate=1).identity() == Config(missing_rate=1.0).identity()


def test_a_config_survives_yaml_and_dict(write):
    config = Config(**{**OTHER, "dataset": "clipart-pairs", "integer_mask": False, "gradient_form": "boundary"})
    assert Config.from_yaml(write(yaml.safe_dump(config.to_dict()))) == config
    assert Config.from_dict(config.to_dict()) == config


def test_yaml_reads_exponents_without_a_point_as_numbers(write):
    text = "learning_rate: 1e-3\nweight_decay: 2e-5\nmissing_rate: 1\ntest_missing_rate: null\n"
    config = Config.from_yaml(write(text))
    assert (config.learning_rate, config.weight_decay) == (1e-3, 2e-5)
    assert config.missing_rate == 1.0 and type(config.missing_rate) is float
    assert config.test_missing_rate is None


def test_with_changes_a_copy():
    config = Config()
    assert config.with_(top_k=3).top_k == 3 and config.top_k == 5
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.top_k = 3


def test_values_that_say_nothing_new_are_kept_for_a_copy_where_they_do():
    """They are the same run as without them, until another subset is trained on."""
    for knobs in ({"epoch_steps": "all"}, {"select_on": "all"}, {"epoch_steps": "all", "select_on": "all"}):
        config = Config(**knobs)
        assert config == Config() and hash(config) == hash(Config()) and config.identity() == Config().identity()
        assert {name: config.to_dict()[name] for name in knobs} == knobs
        for subset in ("complete", "reconstructed"):
            bound = config.with_(train_subset=subset)
            assert bound == Config(**knobs, train_subset=subset) != Config(train_subset=subset)
            assert bound.identity() == Config(**knobs, train_subset=subset).identity()
            assert bound.with_(train_subset="all") == Config()
    assert Config(train_subset="complete", select_on="complete") == Config(train_subset="complete")
    assert Config(train_subset="complete", select_on="complete").with_(train_subset="all").select_on == "complete"
    assert Config() != Config(top_k=3) and Config() != "a config"


def test_another_method_brings_its_own_parts_along():
    vilt = Config(missing_rate=0.3).with_(method="vilt")
    assert vilt == Config(missing_rate=0.3, method="vilt") and not vilt.use_alignment
    assert vilt.with_(method="anga") == Config(missing_rate=0.3)
    assert vilt.with_(method="maps", use_alignment=True) == Config(missing_rate=0.3, method="maps", use_alignment=True)
    assert Config(use_adapter=False).with_(method="anga", top_k=3) == Config(use_adapter=False, top_k=3)


def test_a_checkpoints_folder_is_the_same_wherever_a_notebook_runs(tmp_path, monkeypatch):
    for name in ("mine", "mini-vilt"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    config = Config(backbone="mine", clip="ViT-B-16/openai")
    assert (config.backbone, config.clip) == (str(tmp_path / "mine"), "ViT-B-16/openai")
    assert Config().backbone == "mini-vilt", "the embedded one, whatever lies here"


@pytest.mark.parametrize("knob", ["misssing_rate", "lr", "mask_seeds", "1"])
def test_unknown_keys_are_named_with_their_source(write, knob):
    with pytest.raises(AngaError, match=rf"params.yaml: unknown key {knob}"):
        Config.from_yaml(write(f"{knob}: 1\n"))
    with pytest.raises(AngaError, match=f"unknown key {knob}"):
        Config().with_(**{knob: 1})


@pytest.mark.parametrize("line", ["top_k: 0", "epochs: many", "use_retrieval: false", "topk: 3"])
def test_a_files_mistake_is_named_with_its_path_once(write, line):
    path = write(line)
    for read in (Config.from_yaml, Params.from_yaml):
        with pytest.raises(AngaError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ") and str(caught.value).count(str(path)) == 1
    for make in (Config.from_dict, lambda knobs: Config().with_(**knobs)):
        with pytest.raises(AngaError) as bare:
            make(yaml.safe_load(line))
        assert str(caught.value) == f"{path}: {bare.value}"


def test_a_misspelt_key_brings_the_nearest_one_to_mind():
    with pytest.raises(AngaError, match="did you mean missing_rate"):
        Config().with_(mising_rate=0.5)


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("missing_rate", "much"),
        ("missing_rate", None),
        ("missing_rate", True),
        ("missing_rate", [0.5]),
        ("top_k", 2.5),
        ("top_k", "5"),
        ("top_k", True),
        ("epochs", None),
        ("use_adapter", 1),
        ("use_adapter", "yes"),
        ("dataset", None),
        ("dataset", 3),
        ("root", 3),
        ("missing_type", False),
        ("admission", ["random"]),
    ],
)
def test_wrong_types_are_named(knob, value):
    with pytest.raises(AngaError, match=f"^{knob}: must be of type"):
        Config(**{knob: value})


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("missing_rate", -0.01),
        ("missing_rate", 1.01),
        ("missing_rate", math.nan),
        ("test_missing_rate", 2),
        ("lambda_max", 1.5),
        ("lambda_min", -0.1),
        ("cos_threshold", -0.2),
        ("cos_threshold", 1.0),
        ("cos_threshold", math.nan),
        ("learning_rate", -1e-3),
        ("learning_rate", math.inf),
        ("weight_decay", math.inf),
        ("warmup", 1.2),
        ("unimodal_cue", 1.1),
        ("top_k", 0),
        ("prompt_layer", 0),
        ("epochs", 0),
        ("batch_size", 0),
        ("patience", 0),
        ("grow_epochs", -1),
        ("mask_seed", -1),
        ("train_seed", -1),
        ("max_text_length", 3),
        ("missing_type", "audio"),
        ("epoch_steps", "some"),
        ("memory_bank", "half"),
        ("classifier", "mlp"),
        ("plain_update", "sum"),
        ("update_base", "remaining"),
        ("admission", "first"),
        ("ranking", "never"),
        ("multilabel_entropy", "sigmoid"),
        ("gradient_form", "fast"),
        ("precision", "float16"),
    ],
)
def test_values_out_of_range_are_named(knob, value):
    with pytest.raises(AngaError, match=f"^{knob}: must "):
        Config(**{knob: value})


@pytest.mark.parametrize(
    ("knobs", "culprit"),
    [
        ({"lambda_min": 0.4, "lambda_max": 0.3}, "lambda_min"),
        ({"use_retrieval": False}, "use_adapter"),
        ({"use_retrieval": False, "use_adapter": False, "integer_mask": True}, "integer_mask"),
        ({"dataset": "clipart-keywords", "unimodal_cue": 0.3}, "unimodal_cue"),
        ({"train_subset": "reconstructed", "missing_rate": 0}, "train_subset"),
        ({"train_subset": "complete", "missing_rate": 1}, "train_subset"),
        ({"select_on": "reconstructed", "missing_rate": 0}, "select_on"),
        ({"plain_update": "group_means"}, "plain_update"),
        ({"plain_update": "group_means", "method": "maps", "use_alignment": True}, "plain_update"),
        ({"gradient_form": "loop", "method": "ragpt"}, "gradient_form"),
        ({"device": "gpu"}, "device"),
        ({"device": "cpu:x"}, "device"),
        ({"device": ""}, "device"),
        ({"train_subset": "reconstructed", "select_on": "reconstructed", "missing_rate": 0}, "train_subset"),
    ],
)
def test_impossible_combinations_are_named(knobs, culprit):
    with pytest.raises(AngaError, match=f"^{culprit}: ") as caught:
        Config(**knobs)
    assert "\n" not in str(caught.value)


def refusal(make, *words, **knobs) -> list[str]:
    """The lines of what is raised."""
    with pytest.raises(AngaError) as caught:
        make(*words, **knobs)
    return str(caught.value).splitlines()


def test_all_mistakes_of_a_config_are_listed_at_once():
    knobs = {"cos_threshold": 1.5, "lambda_min": 0.9, "epochs": 0, "top_k": "x", "use_retrieval": False}
    lines = refusal(Config, **knobs)
    assert [line.split(":")[0] for line in lines] == ["top_k", "epochs", "cos_threshold", "lambda_min", "use_adapter"]
    lines = refusal(Config.from_dict, {"foo": 1, **knobs, "top_kk": 3}, source="here")
    assert len(lines) == 7 and all(line.startswith("here: ") for line in lines)
    assert lines[0].startswith("here: unknown key foo; known keys are ") and "did you mean top_k?" in lines[1]


@pytest.mark.parametrize(
    "knobs",
    [
        {"lambda_min": 0.9, "lambda_max": 5},
        {"use_retrieval": "no", "integer_mask": True},
        {"dataset": "clipart-pear", "unimodal_cue": 0.5},
        {"train_subset": "complete", "missing_rate": 1.5},
        {"method": 3, "method_options": {"form": "deep"}, "use_retrieval": False},
    ],
)
def test_a_wrong_knob_is_not_held_against_others(knobs):
    assert len(refusal(Config.from_dict, knobs, checks=CHECKS)) == 1


def test_what_a_method_refuses_is_listed_with_everything_else():
    lines = refusal(Config.from_dict, {"method": "mapss", "epochs": 0}, checks=CHECKS)
    assert [line.split(":")[0] for line in lines] == ["epochs", "method"]


def test_a_device_that_is_only_elsewhere_is_accepted():
    """A config may be read on another machine than the one that trains it."""
    assert [Config(device=name).device for name in ("auto", "cpu", "cuda", "cuda:99")][-1] == "cuda:99"
    assert Config(method="maps", plain_update="group_means").update_rule == "group_means"


@pytest.mark.parametrize("missing_type", ["text", "image", "both"])
def test_retrieval_from_a_bank_that_can_lend_nothing_is_refused(missing_type):
    knobs = {"missing_rate": 1, "missing_type": missing_type}
    for method in ("anga", "ragpt"):
        (line,) = refusal(Config.from_dict, {**knobs, "method": method}, checks=CHECKS)
        assert line.startswith("memory_bank: at missing_rate 1.0 ") and "memory_bank: full" in line
        Config.from_dict({**knobs, "method": method, "memory_bank": "full"}, checks=CHECKS)
    Config.from_dict({**knobs, "method": "vilt"}, checks=CHECKS)
    Config.from_dict({**knobs, "use_retrieval": False, "use_adapter": False}, checks=CHECKS)
    assert Config(**knobs).missing_rate == 1, "its missing table may be looked at"


def test_prompts_at_a_layer_that_the_backbone_has_not_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 7}')
    for name, layers in (("mini-vilt", 4), (str(tmp_path), 7)):
        knobs = {"backbone": name, "prompt_layer": layers}
        assert Config.from_dict(knobs, checks=CHECKS).prompt_layer == layers
        (line,) = refusal(Config.from_dict, {**knobs, "prompt_layer": layers + 1}, checks=CHECKS)
        assert line == f"prompt_layer: {layers + 1} lies beyond the {layers} layers of {name}; lower it."
        Config.from_dict({**knobs, "prompt_layer": 99, "method": "vilt"}, checks=CHECKS)
    for name in ("dandelin/vilt-b32-mlm", str(tmp_path / "absent")):
        Config.from_dict({"backbone": name, "prompt_layer": 99}, checks=CHECKS)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("- 1\n- 2\n", "key: value"), ("", "key: value"), ("a: [1\n", "no valid YAML"), ("a: b: c\n", "no valid YAML")],
)
def test_files_that_are_no_mapping_are_named(write, text, complaint):
    with pytest.raises(AngaError, match=rf"params.yaml: .*{complaint}"):
        read_yaml(write(text))


def test_files_that_cannot_be_read_are_named(tmp_path):
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(AngaError, match=f"{path}: cannot be read"):
            read_yaml(path)
    (tmp_path / "picture.yaml").write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(AngaError, match=r"picture.yaml"):
        read_yaml(tmp_path / "picture.yaml")


@pytest.mark.parametrize(
    ("use_alignment", "plain_update", "rule"),
    [(True, "pooled", "cone"), (False, "pooled", "pooled"), (False, "group_means", "group_means")],
)
def test_the_update_rule_follows_the_knobs(use_alignment, plain_update, rule):
    assert Config(use_alignment=use_alignment, plain_update=plain_update).update_rule == rule


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "cpu:x"])
def test_an_absent_device_is_named(name):
    with pytest.raises(AngaError, match=f"device: '{name}'"):
        pick_device(name)
    assert pick_device("cpu").type == "cpu"


@pytest.mark.parametrize(
    "units, expected",
    [
        ({"avx2": True, "amx_bf16": False, "avx512_bf16": False}, "float32"),
        ({"avx2": True, "amx_bf16": False, "avx512_bf16": True}, "bfloat16"),
        ({"architecture": "arm64", "bf16": True}, "bfloat16"),
        ({}, "float32"),
    ],
)
def test_automatic_precision_follows_the_processor(monkeypatch, units, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    assert pick_precision("auto", torch.device("cpu")) == expected
    assert [pick_precision(name, torch.device("cpu")) for name in ("float32", "bfloat16")] == ["float32", "bfloat16"]


def test_automatic_precision_follows_the_gpu(monkeypatch):
    for native in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, native=native: native)
        assert pick_precision("auto", torch.device("cuda")) == ("bfloat16" if native else "float32")


def test_an_unknown_data_set_is_named():
    with pytest.raises(AngaError, match=r"dataset: must be one of clipart-keywords, .*, not 'clipart-birds'"):
        Config(dataset="clipart-birds")


# --- parameter files: knobs and seeds


def test_a_parameter_file_asks_for_every_pair_of_seeds(write):
    params = Params.from_yaml(write("top_k: 3\nmask_seeds: [0, 4]\ntrain_seeds: [1, 2, 3]\n"))
    configs = params.configs(cos_threshold=0.5)
    assert [(c.mask_seed, c.train_seed) for c in configs] == [(m, t) for m in (0, 4) for t in (1, 2, 3)]
    assert {(c.top_k, c.cos_threshold) for c in configs} == {(3, 0.5)}
    assert [(c.mask_seed, c.train_seed) for c in Params.from_yaml(write("top_k: 3\n")).configs()] == [(0, 0)]
    assert Params.from_yaml(write("mask_seeds: [2, 5]\ntrain_seeds: paired\n")).seeds == ((2, 2), (5, 5))


@pytest.mark.parametrize(
    "line",
    [
        *("mask_seeds: 3", "train_seeds: []", "mask_seeds: [0, 1.5]", "train_seeds: [-1]", "mask_seeds: [true]"),
        "train_seeds: [2, 2]",
    ],
)
def test_bad_seeds_are_named(write, line):
    with pytest.raises(AngaError, match=f"params.yaml: {line.split(':')[0]} must be a list"):
        Params.from_yaml(write(line))


@pytest.mark.parametrize("knob", ["mask_seed", "train_seed"])
def test_a_single_seed_in_a_parameter_file_is_pointed_to_the_list(write, knob):
    with pytest.raises(AngaError, match=rf"use {knob}s: \[7\]"):
        Params.from_yaml(write(f"{knob}: 7\n"))


def test_all_mistakes_of_a_parameter_file_are_listed_at_once(write):
    path = write("mask_seeds: x\ntrain_seed: 1\nepochs: 0\ntop_kk: 3\nmissing_rate: 4\nmethod: none\n")
    lines = refusal(Params.from_yaml, path)
    starts = ["mask_seeds", "use train_seeds", "unknown key top_kk", "missing_rate:", "epochs:", "method:"]
    assert all(line.startswith(f"{path}: {start}") for line, start in zip(lines, starts, strict=True)), lines


def test_a_task_that_cannot_be_run_as_every_variant_is_refused(write, tmp_path):
    mask, other = write("integer_mask: true", "a.yaml"), write("method: maps", "b.yaml")
    assert Params.from_yaml(mask).config.integer_mask, "as one run it is sound"
    first, second = refusal(ParameterSet.read, tmp_path)
    assert first.startswith(f"{mask}: as zero-filled: integer_mask: ")
    assert second.startswith(f"{other}: method: ") and "maps" in second
    mask.unlink()
    other.write_text("{missing_rate: 1, use_retrieval: false, use_adapter: false}")
    (line, *_) = refusal(ParameterSet.read, tmp_path)
    assert line.startswith(f"{other}: as retrieval only: memory_bank: ")


def test_a_folder_of_parameter_files_is_checked_as_a_whole(write, tmp_path):
    with pytest.raises(AngaError, match="holds no parameter file"):
        ParameterSet.read(tmp_path)
    write("top_k: 3", "b.yaml")
    write("top_k: 4", "a.yaml")
    assert [params.config.top_k for params in ParameterSet.read(tmp_path).tasks] == [4, 3]
    bad = [write("top_k: none", "c.yaml"), write("method: none", "d.yaml"), write("epochs: 0", "e.yaml")]
    with pytest.raises(AngaError) as caught:
        ParameterSet.read(tmp_path)
    starts = [f"{path}: {knob}: " for path, knob in zip(bad, ("top_k", "method", "epochs"), strict=True)]
    lines = str(caught.value).splitlines()
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True)), lines


def test_a_root_in_a_file_is_taken_from_the_files_own_folder(write, tmp_path, monkeypatch):
    flat = write("dataset: table\nroot: ../data/mine")
    monkeypatch.chdir("/")
    assert Config.from_yaml(flat).root == str(tmp_path.parent / "data" / "mine")
    assert Config.from_yaml(write("root: /elsewhere")).root == "/elsewhere"
    nested = write("knobs: {root: here}\ngrids: {a: {knobs: {root: ~/there}, axes: {top_k: [1]}}}")
    assert read_yaml(nested)["knobs"]["root"] == str(tmp_path / "here")
    assert read_yaml(nested)["grids"]["a"]["knobs"]["root"] == str(Path("~/there").expanduser())


def test_a_root_given_otherwise_is_taken_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config(root="data")
    assert config.root == str(tmp_path / "data")
    assert config.identity() == Config(root="other").identity()
