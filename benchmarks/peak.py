"""What the machine can do at most: the measured rate of large matrix products."""

import time

import torch

SIZES = {"cpu": 2048, "cuda": 8192}  # rows and columns
REPEATS = {"cpu": 3, "cuda": 30}


def matmul_rate(device: torch.device, precision: str, n: int | None = None) -> float:
    """Operations per second of an n x n product of random numbers, the best of a few.

    float32 means float32: torch's default keeps the tensor cores' shorter form (TF32) off, here as in training.
    """
    n = n or SIZES[device.type]
    generator = torch.Generator(device).manual_seed(0)
    factors = torch.randn(2, n, n, device=device, generator=generator).to(getattr(torch, precision))
    return 2 * n**3 / min(_seconds(factors, device) for _ in range(1 + REPEATS[device.type]))


def _seconds(factors: torch.Tensor, device: torch.device) -> float:
    """Of one product, by the device's own clock where it has one."""
    if device.type != "cuda":
        start = time.perf_counter()
        factors[0] @ factors[1]
        return time.perf_counter() - start
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    events[0].record()
    factors[0] @ factors[1]
    events[1].record()
    torch.cuda.synchronize(device)
    return events[0].elapsed_time(events[1]) / 1e3


def print_peak(device: torch.device, quick: bool) -> dict[str, float]:
    """Print the machine's rates, and return them by precision."""
    n = 256 if quick else SIZES[device.type]
    rates = {precision: matmul_rate(device, precision, n) for precision in ("float32", "bfloat16")}
    shown = ", ".join(f"{rate / 1e12:.3g} TFLOP/s in {precision}" for precision, rate in rates.items())
    print(f"Measured peak: {shown} (products of {n} x {n} random numbers)")
    return rates
