"""Where the token bank lies, and how parts of it reach the device without the host waiting for it.

A copy from ordinary host memory to a GPU stops the host until all queued work is done, and the GPU then idles until
new work arrives; a copy from page-locked ("pinned") memory is queued like everything else.
"""

import contextlib
import os
from pathlib import Path

import numpy as np
import torch

TRAINING_ROOM = 10 * 2**30  # bytes of GPU memory left to training: ViLT-B/32 at batch 64 takes 9 GB in float32
HOST_ROOM = 4 * 2**30  # bytes of host memory left to everything else


def choose_placement(needed: int, free_device: int, free_host: int, device_type: str) -> str:
    """Where a bank of `needed` bytes goes: "device", "pinned" (page-locked host memory) or "mapped" (stays a file).

    The CPU reads the file itself. torch's allocator of pinned memory rounds up to a power of two, which is counted.
    """
    if device_type != "cuda":
        return "mapped"
    if needed + TRAINING_ROOM <= free_device:
        return "device"
    pinned = 1 << max(needed - 1, 0).bit_length()
    return "pinned" if pinned + HOST_ROOM <= free_host else "mapped"


def find_placement(needed: int, device: torch.device) -> str:
    """`choose_placement` with what is free now."""
    free_device = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    return choose_placement(needed, free_device, free_host_bytes(), device.type)


def free_host_bytes() -> int:
    """Bytes of host memory to be had without swapping, within a container's limit; 0 where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 0
    with contextlib.suppress(OSError, ValueError):  # no container, or "max": no limit
        available = min(available, max(_container_bytes("max") - _container_bytes("current"), 0))
    return available


def host_bytes() -> int:
    """Bytes of host memory, used or free, within a container's limit."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # likewise
        total = min(total, _container_bytes("max"))
    return total


def _container_bytes(name: str) -> int:
    """A container's memory, "max" or "current"; raises OSError or ValueError where there is none, or no limit."""
    return int(Path(f"/sys/fs/cgroup/memory.{name}").read_text())


def place(stored: torch.Tensor, placement: str, device: torch.device) -> torch.Tensor:
    """The tensor on the device, copied once into pinned memory, or as it is."""
    if placement == "device":
        return stored.to(device)
    if placement == "pinned":
        return _host_buffer(stored.shape, stored.dtype, device).copy_(stored)
    return stored


def send(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """The array on the device; on a GPU a copy that the host does not wait for."""
    host = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cuda":
        host = host.pin_memory()
    return host.to(device, non_blocking=True)


def fetch(stored: torch.Tensor, placement: str, rows: np.ndarray, device: torch.device) -> torch.Tensor:
    """`stored[rows]`, `[..., *rest]`, on the device; from the host, each distinct row travels once."""
    flat = np.ascontiguousarray(rows).ravel()
    if placement != "device" and device.type != "cpu":
        flat, distinct = _numbered(flat)
        stored = _move_rows(stored, placement, distinct, device)
    return stored.index_select(0, send(flat, stored.device)).unflatten(0, rows.shape)


def _numbered(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each entry's position among the distinct values, and those values, ascending."""
    distinct, numbers = np.unique(flat, return_inverse=True)
    return numbers.astype(np.int64), distinct


def _move_rows(stored: torch.Tensor, placement: str, distinct: np.ndarray, device: torch.device) -> torch.Tensor:
    """Some rows of a host tensor on the device: from pinned memory directly, from a file through a pinned buffer.

    torch keeps a pinned buffer from being used again before its copy is done.
    """
    if placement == "pinned":
        moved = torch.empty((len(distinct), *stored.shape[1:]), dtype=stored.dtype, device=device)
        for target, row in zip(moved.unbind(), distinct.tolist(), strict=True):
            target.copy_(stored[row], non_blocking=True)
        return moved
    buffer = _host_buffer((len(distinct), *stored.shape[1:]), stored.dtype, device)
    torch.index_select(stored, 0, torch.from_numpy(distinct), out=buffer)
    return buffer.to(device, non_blocking=True)


def _host_buffer(shape, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """An uninitialised host tensor, pinned where the device is a GPU."""
    return torch.empty(tuple(shape), dtype=dtype, pin_memory=device.type == "cuda")
