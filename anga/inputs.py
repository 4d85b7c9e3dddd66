"""From a config to everything a batch is made of, computed once and cached: the data flow left of "batch"."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from anga.backbone import Backbone
from anga.config import Config
from anga.datasets import Dataset, data_root, load_dataset
from anga.encoders import embed_dataset
from anga.errors import AngaError
from anga.missing import MissingTable
from anga.retriever import MemoryBank, Neighbours, Retriever
from anga.tokens import BatchMaker, TokenBank

# The knobs that decide what `prepare` makes; runs that agree in them can share it.
INPUT_KNOBS = (
    *("dataset", "root", "unimodal_cue", "max_text_length", "backbone", "clip", "device", "compile_layers"),
    *("missing_rate", "missing_type", "test_missing_rate", "mask_seed"),
    *("use_retrieval", "top_k", "memory_bank", "integer_mask"),
)

BFLOAT16_UNITS = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")  # of x86 and ARM, as torch names them


@dataclass
class Inputs:
    """What a run reads: data set, what is missing, who was retrieved (None without retrieval), tokens.

    `integer_mask` names the modalities that the published defect spoils. `pooled` keeps the frozen backbone's output
    for all samples `[N, d]`, by precision, once a run without an adapter has computed it: it is the same for every such
    run on these inputs.
    """

    dataset: Dataset
    table: MissingTable
    neighbours: Neighbours | None
    bank: TokenBank
    backbone: Backbone
    integer_mask: tuple[str, ...] = ()
    pooled: dict[str, torch.Tensor] = field(default_factory=dict)

    def batch_maker(self, with_pools: bool) -> BatchMaker:
        labels = self.dataset.labels
        return BatchMaker(self.bank, labels, self.table, self.neighbours, with_pools, self.integer_mask)

    def training_rows(self, subset: str = "all") -> np.ndarray:
        """Rows of the training split, or of its complete or reconstructed part alone.

        Raises:
            AngaError: there are none.
        """
        rows = self.dataset.rows("train")
        complete = self.table.complete[rows]
        rows = {"all": rows, "complete": rows[complete], "reconstructed": rows[~complete]}[subset]
        if not len(rows):
            raise AngaError(f"train_subset: no training sample is {subset}; choose another missing_rate or subset.")
        return rows


def prepare(config: Config, outputs: str | Path = "outputs") -> Inputs:
    """All inputs of a config; embeddings and tokens come from `outputs/cache` where they were made before."""
    cache = Path(outputs) / "cache"
    device = pick_device(config.device)
    dataset = load_config_dataset(config)
    table = draw_table(config, dataset)
    backbone = Backbone.from_name(config.backbone).to(device)
    if config.compile_layers:
        backbone.compile_layers()
    with _locked(cache):  # or several processes would make the same embeddings and tokens, each for itself
        neighbours = retrieve(config, dataset, table, cache) if config.use_retrieval else None
        bank = TokenBank.build(dataset, backbone, config.max_text_length, cache, device)
    spoiled = config.may_lack if config.integer_mask else ()
    return Inputs(dataset, table, neighbours, bank, backbone, spoiled)


def inputs_key(config: Config) -> tuple:
    """Equal for configs whose runs read the same inputs."""
    return tuple(getattr(config, knob) for knob in INPUT_KNOBS)


def _locked(cache: Path) -> AbstractContextManager:
    """One process at a time may make what belongs into the cache."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        return FileLock(cache / ".lock").acquire()
    except OSError as error:
        raise AngaError(f"{cache}: cannot be written ({error.strerror}); choose another outputs folder.") from None


def load_config_dataset(config: Config) -> Dataset:
    """The config's data set, with its task's own options; its root is the config's, else `ANGA_DATA/<name>`."""
    return _load_once(config.dataset, data_root(config.dataset, config.root), config.unimodal_cue)


@lru_cache(maxsize=8)
def _load_once(name: str, root: Path | None, unimodal_cue: float) -> Dataset:
    """Kept, since each of a study's thousand runs asks for its data; files of a root must not change meanwhile."""
    options = {"unimodal_cue": unimodal_cue} if name == "clipart-pairs" else {}
    return load_dataset(name, root, **options)


def draw_table(config: Config, dataset: Dataset) -> MissingTable:
    """The config's missing table."""
    return MissingTable.draw(
        dataset, config.missing_rate, config.missing_type, config.mask_seed, config.test_missing_rate
    )


def retrieve(config: Config, dataset: Dataset, table: MissingTable, cache: Path) -> Neighbours:
    """The neighbours of every sample under the config's memory bank (Eq. 3)."""
    device = pick_device(config.device)
    text, image = embed_dataset(dataset, config.clip, cache, str(device))
    train_rows = dataset.rows("train")
    observed = config.memory_bank == "observed"
    bank = MemoryBank.observed(train_rows, table) if observed else MemoryBank.full(train_rows)
    return Retriever(text, image, bank, dataset.ids, device=device).neighbours(table, config.top_k)


def pick_device(name: str) -> torch.device:
    """The device a config names; "auto" takes a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):
        raise AngaError(f"device: {name!r} is not available here; use auto or cpu.") from None


def pick_precision(name: str, device: torch.device) -> str:
    """The precision a config names; "auto" takes bfloat16 where the device has units for its products.

    Without them products are emulated: a tenth of float32's speed on an AVX2 processor.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = any(torch.cpu.get_capabilities().get(units) for units in BFLOAT16_UNITS)
    return "bfloat16" if native else "float32"
