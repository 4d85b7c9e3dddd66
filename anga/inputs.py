"""From a config to everything a batch is made of, computed once and cached: the data flow left of "batch"."""

from dataclasses import dataclass
from pathlib import Path

import torch

from anga.backbone import Backbone
from anga.config import Config
from anga.datasets import Dataset, load_dataset
from anga.encoders import embed_dataset
from anga.errors import AngaError
from anga.missing import MissingTable
from anga.retriever import MemoryBank, Neighbours, Retriever
from anga.tokens import BatchMaker, TokenBank


@dataclass
class Inputs:
    """What a run reads: data set, what is missing, who was retrieved (None without retrieval), tokens."""

    dataset: Dataset
    table: MissingTable
    neighbours: Neighbours | None
    bank: TokenBank
    backbone: Backbone

    def batch_maker(self, with_pools: bool) -> BatchMaker:
        return BatchMaker(self.bank, self.dataset.labels, self.table, self.neighbours, with_pools)


def prepare(config: Config, outputs: str | Path = "outputs") -> Inputs:
    """All inputs of a config; embeddings and tokens come from `outputs/cache` where they were made before."""
    cache = Path(outputs) / "cache"
    device = pick_device(config.device)
    dataset = load_config_dataset(config)
    table = draw_table(config, dataset)
    neighbours = retrieve(config, dataset, table, cache) if config.use_retrieval else None
    backbone = Backbone.from_name(config.backbone).to(device)
    bank = TokenBank.build(dataset, backbone, config.max_text_length, cache, device)
    return Inputs(dataset, table, neighbours, bank, backbone)


def load_config_dataset(config: Config) -> Dataset:
    """The config's data set, with its task's own options."""
    options = {"unimodal_cue": config.unimodal_cue} if config.dataset == "clipart-pairs" else {}
    return load_dataset(config.dataset, config.root, **options)


def draw_table(config: Config, dataset: Dataset) -> MissingTable:
    """The config's missing table."""
    return MissingTable.draw(
        dataset, config.missing_rate, config.missing_type, config.mask_seed, config.test_missing_rate
    )


def retrieve(config: Config, dataset: Dataset, table: MissingTable, cache: Path) -> Neighbours:
    """The neighbours of every sample under the config's memory bank (Eq. 3)."""
    text, image = embed_dataset(dataset, config.clip, cache)
    train_rows = dataset.rows("train")
    observed = config.memory_bank == "observed"
    bank = MemoryBank.observed(train_rows, table) if observed else MemoryBank.full(train_rows)
    return Retriever(text, image, bank, dataset.ids).neighbours(table, config.top_k)


def pick_device(name: str) -> torch.device:
    """The device a config names; "auto" takes a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):
        raise AngaError(f"device: {name!r} is not available here; use auto or cpu.") from None
