"""What retrieval costs: the K nearest neighbours of all samples, by FAISS, torch and NumPy brute force."""

import argparse
from collections.abc import Callable

import numpy as np
import torch

from anga.retriever import MemoryBank, Retriever
from benchmarks.timing import interleave, peak_in_child, print_table, report_peak

TOP_K, WIDTH = 5, 768  # the width of ViT-L-14-336's embeddings
BASELINE = "NumPy brute force"
NUMPY_BLOCK = 1024  # queries; their scores against 60,000 samples take 250 MB
TIMED_QUERIES = {1_000: 1_000, 10_000: 10_000, 60_000: 4_096}  # by bank size; every query costs the same
COMPARED_QUERIES = 500
REPEATS = 3


def embeddings(n: int) -> np.ndarray:
    """Random unit vectors `[n, 768]`."""
    vectors = np.random.default_rng(0).standard_normal((n, WIDTH), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute_force(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Rows `[Q, K]` of the queries' nearest others: one matrix product and a partial sort per block."""
    found = []
    for start in range(0, len(queries), NUMPY_BLOCK):
        rows = queries[start : start + NUMPY_BLOCK]
        scores = vectors[rows] @ vectors.T
        scores[np.arange(len(rows)), rows] = -np.inf
        best = np.argpartition(scores, -TOP_K, axis=1)[:, -TOP_K:]
        order = np.take_along_axis(scores, best, 1).argsort(1)[:, ::-1]
        found.append(np.take_along_axis(best, order, 1))
    return np.concatenate(found)


def make_variants(n: int, n_queries: int) -> dict[str, Callable[[], np.ndarray]]:
    """Name -> one search for `n_queries` of n samples among all n, the queries themselves excluded."""
    vectors, rows = embeddings(n), np.arange(n)
    queries = rows[:n_queries]
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def search(backend: str) -> np.ndarray:
        retriever = Retriever(vectors, vectors, MemoryBank.full(rows), rows, backend, device)
        return retriever.search("text", queries, rows, TOP_K)[0]

    variants = {BASELINE: lambda: brute_force(vectors, queries), "torch": lambda: search("torch")}
    return variants | ({"FAISS": lambda: search("faiss")} if has_faiss() else {})


def has_faiss() -> bool:
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return True


def report(n: int, repeats: int) -> None:
    """Print one size's table."""
    n_queries = TIMED_QUERIES[n]
    variants = make_variants(n, n_queries)
    part = "" if n_queries == n else f" ({n_queries:,} queries timed, scaled to all)"
    print(f"\nNeighbours of all of {n:,} samples x {WIDTH}, K = {TOP_K}{part}")
    memory = {name: peak_in_child("benchmarks.retrieval", str(n), name) for name in variants} if n > 1_000 else None
    columns = {"peak memory": {name: f"{mb:.0f} MB" for name, mb in memory.items()}} if memory else None
    seconds = interleave(variants, repeats, torch.device("cpu"))  # every search ends on the host
    print_table(seconds, {"ratio": BASELINE}, columns, scale=n / n_queries)
    print(f"  neighbours equal to NumPy's, order included: {agreement(n):.2%}")


def agreement(n: int) -> float:
    """Share of equal entries in all backends' answers to a few queries (near ties may change places)."""
    expected, *others = (call() for call in make_variants(n, COMPARED_QUERIES).values())
    return float(np.mean([(other == expected).mean() for other in others]))


def main(arguments: list[str] | None = None, peaks: dict[str, float] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples, to see that all works")
    parser.add_argument("--device", help="ignored: FAISS and torch take a GPU that they see")
    parser.add_argument("--measure", nargs=2, metavar=("N", "VARIANT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        n, variant = int(options.measure[0]), options.measure[1]
        report_peak(make_variants(n, TIMED_QUERIES[n])[variant], torch.device("cpu"))
        return
    for n in [1_000] if options.quick else [10_000, 60_000]:
        report(n, 2 if options.quick else REPEATS)


if __name__ == "__main__":
    main()
