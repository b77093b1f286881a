"""What this machine computes on, and which of it the embedded Triton and the in-process runner use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/gpus")
CPU = "CPUExecutionProvider"


@dataclass(frozen=True, slots=True)
class Devices:
    """The processor cores, and the NVIDIA GPUs by the names their driver gives them."""

    cores: int
    gpus: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.cores} processor cores; GPUs: {', '.join(self.gpus) or 'none'}"


@dataclass(frozen=True, slots=True)
class ChosenProvider:
    """The execution provider of ONNX Runtime that graphs run on here, and why."""

    name: str
    reason: str


def find_devices(driver: Path = DRIVER) -> Devices:
    """What the operating system and the NVIDIA driver tell."""
    names = []
    for information in sorted(driver.glob("*/information")):
        lines = information.read_text(errors="replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("Model:")), "unknown")
        names.append(model)
    return Devices(os.cpu_count() or 1, tuple(names))


def chosen_provider(devices: Devices) -> ChosenProvider:
    """Graphs run on the CPU in the embedded Triton, whose only backend here is the Python one."""
    if devices.gpus:
        reason = f"the embedded Triton does not use the {devices.gpus[0]}: an outside Triton does (--triton)"
    else:
        reason = "this machine shows no NVIDIA GPU"
    return ChosenProvider(CPU, reason)
