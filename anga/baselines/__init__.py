"""The compared methods on the shared frozen backbone, by name. A new one is one file and one line in `BASELINES`.

One that reads retrieved neighbours says so twice: `RETRIEVES = True` in its file, its name in `config.RETRIEVING`.

Each file has the method's published hyper-parameters as a dataclass `Options` and a class `build(config, backbone,
n_classes)`, an `anga.method.Method`. The epochs of a first stage are an option whose name ends in `_epochs`. The file's
docstring ends with the number of learnable parameters, which a test reads and counts: d is the backbone's width, layers
are its layers, n_v its image tokens, k the number of classes; whole words are options or knobs of the config.
"""

import difflib
from types import ModuleType

from anga.backbone import Backbone
from anga.baselines import (
    acmae,
    corrkd,
    dcp,
    dicmor,
    drfuse,
    if_mmin,
    iper,
    maps,
    mmds,
    momke,
    msps,
    ragpt,
    shaspec,
    syp,
    vilt,
)
from anga.baselines.options import read_options
from anga.config import Config
from anga.errors import AngaError, noting, refuse
from anga.method import Method

BASELINES: dict[str, ModuleType] = {
    "if_mmin": if_mmin,
    "shaspec": shaspec,
    "drfuse": drfuse,
    "vilt": vilt,
    "ragpt": ragpt,
    "maps": maps,
    "msps": msps,
    "iper": iper,
    "dcp": dcp,
    "syp": syp,
    "acmae": acmae,
    "dicmor": dicmor,
    "corrkd": corrkd,
    "momke": momke,
    "mmds": mmds,
}


def build_baseline(config: Config, backbone: Backbone, n_classes: int) -> Method:
    """The config's method with its options; AngaError names whatever does not fit."""
    check_method(config)
    return BASELINES[config.method].build(config, backbone, n_classes)


def check_method(config: Config) -> None:
    """Whether a method of that name exists, takes those options and inputs, and has samples to learn from.

    Raises:
        AngaError: no; a line for each that it does not take.
    """
    if config.method == "anga":
        if config.method_options:
            raise AngaError("method_options: anga has none, its options are knobs of their own; leave it out.")
        return
    if config.method not in BASELINES:
        near = difflib.get_close_matches(config.method, BASELINES, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise AngaError(f"method: unknown method {config.method}{hint}; known are anga, {', '.join(BASELINES)}.")
    module, complaints = BASELINES[config.method], []
    with noting(complaints):
        _check_first_stage(module, config)
    retrieves = getattr(module, "RETRIEVES", False)
    if config.use_retrieval != retrieves:
        reads, value = ("retrieved", "true") if retrieves else ("no", "false")
        complaints += [f"use_retrieval: {config.method} reads {reads} neighbours; leave it out or set it to {value}."]
    refuse(complaints)


def _check_first_stage(module: ModuleType, config: Config) -> None:
    """AngaError where the options are wrong, or where a first stage on complete samples would not have any."""
    options = vars(read_options(module.Options, config))
    staged = any(value > 0 for name, value in options.items() if name.endswith("_epochs"))
    if not staged or module.build.pretrain_subset == "all":
        return
    if config.missing_rate == 1:
        found, cure = f"missing_rate: {config.missing_rate}", "lower missing_rate"
    elif config.train_subset == "reconstructed":
        found, cure = "train_subset: reconstructed", "use train_subset: all"
    else:
        return
    raise AngaError(
        f"method: {config.method} first learns from complete samples, and no training sample is complete with {found}; "
        f"{cure}, or choose another method."
    )
