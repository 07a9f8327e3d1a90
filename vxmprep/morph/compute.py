"""Where the network runs, and in which precision."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Compute:
    """A device, the precision of convolutions on it, and why these.

    Attributes
    ----------
    device
        ``cpu``, ``cuda`` or ``cuda:N``.
    dtype
        torch.float32 or torch.bfloat16. Fields, losses and refinement are float32 always.
    reason
        One line for the log.
    """

    device: str
    dtype: torch.dtype
    reason: str

    @property
    def precision(self) -> str:
        """Name of the precision, as options have it."""
        return str(self.dtype).removeprefix("torch.")


def choose_compute(device: str = "auto", precision: str = "auto") -> Compute:
    """Choose the device, and bfloat16 where it has units for it.

    Elsewhere bfloat16 is emulated, and slower than float32.

    Parameters
    ----------
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; auto: a GPU where torch sees one.
    precision
        ``auto``, ``float32`` or ``bfloat16``.

    Returns
    -------
    Compute
        What was chosen and why.

    Raises
    ------
    ValueError
        If there is no such device or precision.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError(f"choose_compute: device is {device!r}; choose auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count()
    if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= count:
        raise ValueError(
            f"choose_compute: device is {device!r}, but torch sees {count or 'no'} GPU; choose "
            "auto or cpu"
        )
    if precision not in PRECISIONS:
        raise ValueError(f"choose_compute: precision is {precision!r}; choose of {PRECISIONS}")
    chosen = device
    if device == "auto":
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
    where = "as asked" if device != "auto" else "a GPU is there" if chosen != "cpu" else "no GPU"
    unit = _bfloat16_unit(chosen) if precision == "auto" else None
    if precision == "auto":
        dtype = torch.bfloat16 if unit else torch.float32
        why = f"it has {unit}" if unit else "it has no units for bfloat16"
    else:
        dtype, why = getattr(torch, precision), "as asked"
    name = str(dtype).removeprefix("torch.")
    return Compute(chosen, dtype, f"network on {chosen} ({where}) in {name} ({why})")


def _bfloat16_unit(device: str) -> str | None:
    """Name the units for bfloat16 that a device has, if it has any."""
    if device != "cpu":
        major, _ = torch.cuda.get_device_capability(device)
        return "bfloat16 tensor cores" if major >= 8 else None
    flags = _processor_flags(Path("/proc/cpuinfo"))
    units = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}
    return next((name for flag, name in units.items() if flag in flags), None)


def _processor_flags(file: Path) -> set[str]:
    """Read what the processor can do; Linux on x86 alone says so."""
    if not file.is_file():
        return set()
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("flags"):
            return set(line.split(":", 1)[1].split())
    return set()
