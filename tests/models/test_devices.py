"""Devices are those the driver names; without a GPU, or beside one, graphs run on the CPU and the reason is told."""

from __future__ import annotations

from pathlib import Path

from radserve.models.devices import chosen_provider, find_devices


def test_a_machine_without_a_driver_has_no_gpu_and_says_why_it_takes_the_cpu(tmp_path: Path) -> None:
    devices = find_devices(tmp_path / "absent")
    assert devices.gpus == () and devices.cores >= 1
    assert str(devices).endswith("GPUs: none")
    chosen = chosen_provider(devices)
    assert chosen.name == "CPUExecutionProvider"
    assert "no NVIDIA GPU" in chosen.reason


def test_gpus_are_named_and_an_outside_triton_is_advised(tmp_path: Path) -> None:
    for number, name in enumerate(("NVIDIA L4", "NVIDIA A10")):
        (tmp_path / f"0000:0{number}:00.0").mkdir()
        (tmp_path / f"0000:0{number}:00.0" / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t 16\n")
    devices = find_devices(tmp_path)
    assert devices.gpus == ("NVIDIA L4", "NVIDIA A10")
    assert "NVIDIA L4" in chosen_provider(devices).reason and "--triton" in chosen_provider(devices).reason
