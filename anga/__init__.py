"""ANGA: anchor-guided gradient alignment for incomplete multimodal learning."""

from anga.aligner import Case, GradientAligner, align_gradients
from anga.config import Config
from anga.curriculum import anchor_ratio, prediction_entropy
from anga.datasets import Dataset, load_dataset
from anga.errors import AngaError
from anga.gradients import Group
from anga.missing import MissingTable
from anga.result import Result
from anga.retriever import MemoryBank, Retriever
from anga.runs import run
from anga.training import train

__all__ = [
    "AngaError",
    "Case",
    "Config",
    "Dataset",
    "GradientAligner",
    "Group",
    "MemoryBank",
    "MissingTable",
    "Result",
    "Retriever",
    "align_gradients",
    "anchor_ratio",
    "load_dataset",
    "prediction_entropy",
    "run",
    "train",
]
