"""Every knob of a run in one frozen dataclass; the paper's values (Sec. 5.1) are the defaults.

A knob is flat, has a unit or its allowed values beside it, and is checked when the config is made: unknown names, wrong
types, impossible values and combinations raise one error with a line for each, which names the knob.
"""

import dataclasses
import difflib
import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

import yaml

from anga.checkpoints import EMBEDDED
from anga.contradictions import contradictions
from anga.datasets import LOADERS
from anga.errors import AngaError, noting, refuse

RETRIEVING = ("anga", "ragpt")  # the methods that read retrieved neighbours


def _knob(default: Any, *choices: str, low: float | None = None, high: float | None = None, identity: str = "always"):
    """A field with its allowed values.

    `identity` says whether it is part of a result's identity: "always"; "never": it is about where a run happens, not
    what it computes; "changed": unless it has its default, so that a new knob leaves stored results valid.
    """
    return field(default=default, metadata={"choices": choices, "low": low, "high": high, "identity": identity})


@dataclass(frozen=True)
class Config:
    """The knobs of one training run.

    Raises:
        AngaError: a value has the wrong type, lies outside its range, or contradicts another knob; a line for each.
    """

    # --- method: anga, or a name that anga.baselines knows, with the options of its own
    method: str = _knob("anga", identity="changed")
    method_options: tuple = _knob((), identity="changed")  # given as a mapping, kept as sorted pairs
    # --- data
    dataset: str = _knob("clipart-pairs", *LOADERS)
    root: str | None = _knob(None, identity="never")  # folder of a data set that is not embedded
    unimodal_cue: float = _knob(0.0, low=0, high=1)  # clipart-pairs only: strength of a cue in the text alone
    max_text_length: int = _knob(32, low=4)  # tokens, [CLS] and [SEP] included
    # --- checkpoints, frozen
    backbone: str = _knob("mini-vilt")  # or dandelin/vilt-b32-mlm, or a local folder
    clip: str = _knob("mini-clip")  # or ViT-B-16/openai, ViT-L-14-336/openai
    # --- what is missing (Sec. 5.1)
    missing_rate: float = _knob(0.7, low=0, high=1)  # delta: fraction of every split that lacks a modality
    missing_type: str = _knob("text", "text", "image", "both")  # both: one half lacks text, the other half its image
    test_missing_rate: float | None = _knob(None, low=0, high=1)  # delta of the test split; null: missing_rate
    mask_seed: int = _knob(0, low=0)  # draws the missing table
    # --- multimodal instance retriever (Sec. 3.3)
    use_retrieval: bool | None = _knob(None)  # MIR; false: the missing tokens are absent; null: what the method needs
    top_k: int = _knob(5, low=1)  # K, retrieved neighbours
    memory_bank: str = _knob("observed", "observed", "full")  # full: as if no training sample lacked anything
    integer_mask: bool = _knob(False)  # a published defect, as a control: x becomes x - 2 * retrieved
    # --- semantic-enhanced adapter (Sec. 4.3)
    use_adapter: bool | None = _knob(None)  # SEA; null: where the method is anga
    prompt_layer: int = _knob(2, low=1)  # b, counted from 1
    classifier: str = _knob("pooler", "pooler", "linear")  # pooler: ViLT's pooling layer, trained on, then linear
    # where its bias starts: near 0, or at how frequent labels are among all training samples, whatever train_subset is
    head_bias: str = _knob("zero", "zero", "prior", identity="changed")
    # --- anchor-guided gradient alignment (Secs. 4.1, 4.2)
    use_alignment: bool | None = _knob(None)  # GA; false: plain_update; null: where the method is anga
    plain_update: str = _knob("pooled", "pooled", "group_means")  # pooled: batch mean; group_means: g_C + g_M
    cos_threshold: float = _knob(0.2, low=0)  # tau, cosine of the cone's half-angle, below 1
    update_base: str = _knob("complete", "complete", "anchor")  # what the aligned gradient is added to (Eq. 15)
    lambda_min: float = _knob(0.1, low=0, high=1)  # anchor ratio at epoch 0
    lambda_max: float = _knob(0.3, low=0, high=1)  # anchor ratio from epoch grow_epochs on
    grow_epochs: int = _knob(5, low=0)  # Z_grow, epochs
    admission: str = _knob("lowest_entropy", "lowest_entropy", "highest_entropy", "random")  # who enters the anchor
    ranking: str = _knob("epoch_start", "epoch_start", "running")  # entropies from an extra pass, or from last epoch
    multilabel_entropy: str = _knob("bernoulli", "bernoulli", "softmax")  # Eq. 5 where labels are not exclusive
    gradient_form: str = _knob("boundary", "boundary", "loop", "sub_batch")  # anga only: same gradients, other cost
    # --- optimisation
    epochs: int = _knob(20, low=1)
    train_subset: str = _knob("all", "all", "complete", "reconstructed")  # one subset alone: its upper bound
    # steps of an epoch: those of one pass over train_subset, or as many as a pass over all training samples has
    epoch_steps: str = _knob("own", "own", "all", identity="changed")
    # whose validation score chooses the epoch, and when to stop; null: those of train_subset
    select_on: str | None = _knob(None, "all", "complete", "reconstructed", identity="changed")
    batch_size: int = _knob(64, low=1)  # samples
    learning_rate: float = _knob(1.0e-3, low=0, high=1e30)
    weight_decay: float = _knob(1.0e-5, low=0, high=1e30)
    warmup: float = _knob(0.1, low=0, high=1)  # fraction of all steps with a rising rate; then linear decay to 0
    patience: int = _knob(10, low=1)  # epochs without a better validation score before stopping
    train_seed: int = _knob(0, low=0)  # initial weights and the order of samples
    precision: str = _knob("float32", "float32", "bfloat16", "auto")  # of forward passes; auto: bfloat16 if it pays
    compile_layers: bool = _knob(False, identity="changed")  # the backbone's, with torch.compile: pays for big ones
    device: str = _knob("auto", identity="never")  # auto, cpu, cuda, cuda:1, ...
    checks: InitVar[Sequence[Callable[["Config"], None]]] = ()  # no knob: each raises what it finds wrong

    def __post_init__(self, checks):
        complaints = []
        for knob in fields(self):
            try:
                value = _checked(knob, getattr(self, knob.name))
            except AngaError as error:
                complaints.append(str(error))
                value = knob.default  # so that the others can be looked at together
            object.__setattr__(self, knob.name, value)
        wrong = {complaint.split(":")[0] for complaint in complaints}
        self._settle()
        together = [(knobs.split(), said) for knobs, said in contradictions(self)]
        complaints += [f"{knobs[0]}: {said}" for knobs, said in together if wrong.isdisjoint(knobs)]
        for check in checks if "method" not in wrong else ():
            with noting(complaints):
                check(self)
        refuse(complaints)

    def _settle(self) -> None:
        """Give knobs that were left open what fits the others, and folders their whole path."""
        for name in ("root", "backbone", "clip"):  # a folder stays the same one when a notebook runs elsewhere
            value = getattr(self, name)
            if value is not None and (name == "root" or (value not in EMBEDDED and os.path.isdir(value))):
                object.__setattr__(self, name, os.path.abspath(value))
        for name, methods in (("use_retrieval", RETRIEVING), ("use_adapter", ("anga",)), ("use_alignment", ("anga",))):
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.method in methods)

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str | None = None, checks: Sequence = ()) -> "Config":
        """A config from a mapping; an unknown key is wrong too, and the nearest knob is named where one is near.

        Each line of what is raised begins with the source, such as a file's path, where one is given.
        """
        where, complaints = f"{source}: " if source else "", []
        known = sorted(knob.name for knob in fields(cls))
        for key in (str(key) for key in values if key not in known):
            near = difflib.get_close_matches(key, known, n=1)
            cure = f" (did you mean {near[0]}?)" if near else f"; known keys are {', '.join(known)}"
            complaints.append(f"{where}unknown key {key}{cure}.")
        with noting(complaints, where):
            config = cls(**{key: value for key, value in values.items() if key in known}, checks=checks)
        refuse(complaints)
        return config

    @classmethod
    def from_yaml(cls, path: str | Path) -> "Config":
        """A config from a flat YAML file of knobs."""
        return cls.from_dict(read_yaml(path), source=str(path))

    def with_(self, **knobs: Any) -> "Config":
        """A copy with some knobs changed; another method brings its own `use_` knobs along, as far as none is given."""
        values = self.to_dict()
        if knobs.get("method", self.method) != self.method:
            values |= dict.fromkeys(("use_retrieval", "use_adapter", "use_alignment"))
        return type(self).from_dict({**values, **knobs})

    @property
    def selecting_subset(self) -> str:
        """The validation samples that choose the epoch."""
        return self.select_on or self.train_subset

    @property
    def may_lack(self) -> tuple[str, ...]:
        """The modalities that samples can lack."""
        return ("text", "image") if self.missing_type == "both" else (self.missing_type,)

    def to_dict(self) -> dict[str, Any]:
        """All knobs, as a parameter file would hold them."""
        return {**dataclasses.asdict(self), "method_options": dict(self.method_options)}

    def meant(self) -> dict[str, Any]:
        """All knobs; of values that mean the same beside the others always the same one.

        They are kept as given: beside another train_subset (`with_`) they mean something else.
        """
        values = {knob.name: getattr(self, knob.name) for knob in fields(self)}
        if self.select_on == self.train_subset:
            values["select_on"] = None
        if self.train_subset == "all":
            values["epoch_steps"] = "own"
        return values

    def __eq__(self, other: object) -> bool:
        """Whether both mean the same run in the same place: a study trains, and counts, such a run once."""
        return self.meant() == other.meant() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self.meant().values()))

    def identity(self) -> str:
        """SHA-256 (hex) over every knob that can change a result."""
        meant, kinds = self.meant(), {knob.name: knob.metadata["identity"] for knob in fields(self)}
        changed = {knob.name for knob in fields(self) if meant[knob.name] != knob.default}
        counts = {"always": set(meant), "changed": changed, "never": set()}
        knobs = {name: value for name, value in meant.items() if name in counts[kinds[name]]}
        return hashlib.sha256(json.dumps(knobs, sort_keys=True).encode()).hexdigest()

    @property
    def update_rule(self) -> str:
        """The rule of anga.aligner that turns group gradients into one update."""
        return "cone" if self.use_alignment else self.plain_update


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML mapping; a missing, broken or non-mapping file raises an error that names it."""
    try:
        values = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise AngaError(f"{path}: cannot be read ({error.strerror}); give the path of a parameter file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AngaError(f"{path}: is no valid YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(values, dict):
        raise AngaError(f"{path}: expected lines of the form `key: value`, found {type(values).__name__}.")
    return _anchored(values, Path(path).absolute().parent)


def _anchored(values: Any, folder: Path) -> Any:
    """The same mapping, every `root` in it taken from the file's own folder, wherever a notebook or worker runs."""
    if not isinstance(values, dict):
        return values
    inner = {key: _anchored(value, folder) for key, value in values.items()}
    if isinstance(inner.get("root"), str):
        inner["root"] = os.path.normpath(folder / Path(inner["root"]).expanduser())
    return inner


def _checked(knob: dataclasses.Field, value: Any) -> Any:
    kind = get_args(knob.type) or (knob.type,)
    if value is None and type(None) in kind:
        return None
    value = _pairs(knob.name, value) if kind[0] is tuple else _coerced(knob.name, value, kind[0])
    rule = knob.metadata
    if rule["choices"] and value not in rule["choices"]:
        raise AngaError(f"{knob.name}: must be one of {', '.join(rule['choices'])}, not {value!r}.")
    too_low = rule["low"] is not None and not value >= rule["low"]
    too_high = rule["high"] is not None and not value <= rule["high"]
    if value == math.inf:
        raise AngaError(f"{knob.name}: must be finite, not {value!r}.")
    if too_low or too_high:
        bounds = f"at least {rule['low']}" + (f" and at most {rule['high']}" if rule["high"] is not None else "")
        raise AngaError(f"{knob.name}: must be {bounds}, not {value!r}.")
    return value


def _coerced(name: str, value: Any, kind: type) -> Any:
    """YAML reads `1e-3` as a string and `1` as an integer: numbers are turned into the knob's own type."""
    if kind is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if type(value) is not kind:
        raise AngaError(f"{name}: must be of type {kind.__name__}, not {type(value).__name__} ({value!r}).")
    return value


def _pairs(name: str, value: Any) -> tuple:
    """A mapping of names to plain values as sorted pairs, which can be hashed."""
    try:
        options = dict(value)
    except (TypeError, ValueError):
        options = {None: value}
    if not all(isinstance(key, str) and isinstance(v, str | bool | int | float) for key, v in options.items()):
        raise AngaError(f"{name}: expected a mapping of names to plain values, not {value!r}.")
    return tuple(sorted(options.items()))
