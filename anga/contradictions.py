"""Knobs that do not go together: some never, some only in a config that is going to be run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from anga.errors import AngaError

if TYPE_CHECKING:
    from anga.config import Config


def contradictions(c: "Config") -> Iterator[tuple[str, str]]:
    """Knobs that do not go together, the one to blame first, and what is wrong with it."""
    if c.cos_threshold >= 1:
        yield "cos_threshold", f"must lie below 1 (a cone of half-angle 0), not {c.cos_threshold}."
    if c.lambda_min > c.lambda_max:
        yield "lambda_min lambda_max", f"must not exceed lambda_max ({c.lambda_min} > {c.lambda_max})."
    if c.use_adapter and c.method != "anga":
        yield "use_adapter", f"only anga has the adapter, not {c.method}; leave it out or set it to false."
    elif c.use_adapter and not c.use_retrieval:
        said = "the adapter reads retrieved neighbours; set use_retrieval: true or switch it off."
        yield "use_adapter use_retrieval method", said
    if c.head_bias == "prior" and ("label_prompts", True) in c.method_options:
        said = "with label prompts, logits have no bias; set head_bias: zero or label_prompts: false."
        yield "head_bias method_options", said
    if c.integer_mask and not c.use_retrieval:
        said = "a defect of retrieval; set use_retrieval: true or integer_mask: false."
        yield "integer_mask use_retrieval method", said
    if c.unimodal_cue and c.dataset != "clipart-pairs":
        yield "unimodal_cue dataset", f"only clipart-pairs has this knob, not {c.dataset}; set it to 0."
    if c.use_alignment and c.plain_update != "pooled":
        said = "read only where nothing is aligned; set use_alignment: false or leave it out."
        yield "plain_update use_alignment method", said
    if c.gradient_form != "boundary" and c.method != "anga":
        yield "gradient_form method", f"only anga has a choice, {c.method} takes the form that fits it; leave it out."
    if c.device != "auto" and not _is_device(c.device):
        yield "device", f"{c.device!r} is no name of a device; use auto, cpu, cuda or one such as cuda:1."
    absent = {0: "reconstructed", 1: "complete"}.get(c.missing_rate, "")
    for knob, split in (("train_subset", "training"), ("select_on", "validation")):
        if c.meant()[knob] == absent:
            rate = f"at missing_rate {c.missing_rate}; choose another missing_rate or subset."
            yield f"{knob} missing_rate", f"no {split} sample is {absent} {rate}"


def _is_device(name: str) -> bool:
    """Whether torch can read it; not whether this machine has it, as a config may be read elsewhere."""
    try:
        torch.device(name)
    except RuntimeError:
        return False
    return True


def check_memory_bank(c: "Config") -> None:
    """AngaError where nobody can lend what others lack; a table can be drawn of such a config, but no run made."""
    if c.use_retrieval and c.memory_bank == "observed" and c.missing_rate == 1:
        raise AngaError(
            "memory_bank: at missing_rate 1.0 no training sample is complete, so the observed memory bank holds 0 "
            "samples that can lend what others lack; lower missing_rate, or use memory_bank: full."
        )


def check_prompt_layer(c: "Config") -> None:
    """AngaError where prompts join at a layer that the backbone has not; a hub's is not asked."""
    file = Path(__file__).parent / "assets" / c.backbone / "config.json"  # an absolute path of one's own stays itself
    try:
        layers = int(json.loads(file.read_text())["num_hidden_layers"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # loading it says what is wrong with it
    if c.method in ("anga", "ragpt") and c.prompt_layer > layers:
        raise AngaError(f"prompt_layer: {c.prompt_layer} lies beyond the {layers} layers of {c.backbone}; lower it.")
