"""Where a GPU would make the host wait, found without one: on the device "meta", which knows shapes but no values."""

import contextlib
import traceback
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

PACKAGE = Path(__file__).parents[1] / "anga"
READS = {torch.ops.aten.nonzero, torch.ops.aten._local_scalar_dense, torch.ops.aten.masked_select}
MADE_OF_NUMBERS = {torch.tensor, torch.as_tensor, torch.Tensor.new_tensor}


class HostWaits(contextlib.ExitStack):
    """Collects `places` ("file.py:line") of blocking copies to and from the device, tensors made there of Python
    numbers (a blocking copy as well), and reads of its values. Most reads also raise an error on that device.

    `sent` counts the elements that travel to the device.
    """

    def __init__(self):
        super().__init__()
        self.places: list[str] = []
        self.sent = 0

    def __enter__(self):
        self.enter_context(_Calls(self))
        self.enter_context(_Kernels(self))
        return super().__enter__()

    def note(self) -> None:
        """Remember the package's innermost line on the stack."""
        frames = [f for f in traceback.extract_stack() if Path(f.filename).is_relative_to(PACKAGE)]
        self.places.append(f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "not in the package")


class _Calls(TorchFunctionMode):
    def __init__(self, waits: HostWaits):
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in MADE_OF_NUMBERS and result.is_meta:
            self.waits.note()
        return result


class _Kernels(TorchDispatchMode):
    def __init__(self, waits: HostWaits):
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, kind = kwargs or {}, func.overloadpacket
        if kind in READS and any(isinstance(a, torch.Tensor) and a.is_meta for a in args):
            self.waits.note()
        result = func(*args, **kwargs)
        if kind is torch.ops.aten._to_copy:
            self._note_copy(args[0], result, kwargs.get("non_blocking", False))
        if kind is torch.ops.aten.copy_:
            self._note_copy(args[1], result, kwargs.get("non_blocking", args[2:] == (True,)))
        return result

    def _note_copy(self, source: torch.Tensor, target: torch.Tensor, non_blocking: bool) -> None:
        if source.device == target.device:
            return
        self.waits.sent += source.numel() * target.is_meta
        if not non_blocking:
            self.waits.note()
