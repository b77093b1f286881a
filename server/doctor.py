"""`radserve doctor`: what is installed, and whether it works."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from radserve.dicom_io.codecs import missing_codecs
from radserve.dicom_io.parse import TRANSFER_SYNTAXES
from radserve.errors import RadserveError
from radserve.evaluation.report_metrics import REPORT_METRICS
from radserve.models.catalogue import PackCatalogue, split_reference
from radserve.models.devices import chosen_provider, find_devices
from radserve.models.pack import ModelPack
from radserve.models.triton.client import TritonRunner
from radserve.models.triton.server import EmbeddedTriton
from radserve.owned_folder import owned_folder
from radserve.pipelines.template_report import REPORT_TEMPLATES
from radserve.plugins import Point, load
from radserve.preprocessors import PREPROCESSORS
from radserve.server.packs import site_catalogue
from radserve.server.plugin_senders import SENDERS
from radserve.server.settings import Settings

NEEDED = (
    "grpcio",
    "highdicom",
    "imagecodecs",
    "monai",
    "numpy",
    "onnxruntime",
    "pydicom",
    "torch",
    "tritonclient",
)
READY_SECONDS = 10.0
OPTIONAL = ("nvidia-pytriton", "onnxruntime-gpu", "tensorrt-cu13", "open-clip-torch", "pydicom-data")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: it works (True), is broken (False), or is optional and not there (None)."""

    name: str
    ok: bool | None
    found: str


async def examine(settings: Settings) -> list[Check]:
    """Look at everything; never raises for what it finds."""
    catalogue = site_catalogue(settings)
    return [
        Check("python", platform.python_version_tuple()[:2] == ("3", "11"), platform.python_version()),
        *_packages(),
        _numpy(),
        *_providers(),
        *_decoders(),
        *_packs(catalogue, settings.default_pack),
        *plugin_checks(settings),
        _data_dir(settings.data_dir),
        await _triton(settings, catalogue),
    ]


def _packages() -> Iterator[Check]:
    for name in (*NEEDED, *OPTIONAL):
        try:
            yield Check(name, True, metadata.version(name))
        except metadata.PackageNotFoundError:
            optional = name in OPTIONAL
            yield Check(name, None if optional else False, "not installed" + (" (optional)" if optional else ""))


def _numpy() -> Check:
    version = metadata.version("numpy")
    fits = int(version.partition(".")[0]) < 2
    return Check(
        "numpy for the embedded Triton", fits, version if fits else f"{version}: its Python backend needs 1.26"
    )


def _providers() -> Iterator[Check]:
    import onnxruntime

    devices = find_devices()
    chosen = chosen_provider(devices)
    yield Check("devices", True, str(devices))
    yield Check("ONNX Runtime providers", True, ", ".join(onnxruntime.get_available_providers()))
    yield Check("graphs run on", True, f"{chosen.name}: {chosen.reason}")


def _decoders() -> Iterator[Check]:
    missing = missing_codecs()
    found = f"{len(TRANSFER_SYNTAXES)} transfer syntaxes"
    yield Check("DICOM decoders", not missing, f"missing: {', '.join(missing)}" if missing else found)


def _packs(catalogue: PackCatalogue, default: str) -> Iterator[Check]:
    for name in catalogue.names():
        pack = catalogue.get(name)
        yield Check(f"pack {name}", True, f"{pack.version}, digest {pack.digest[:12]}")
    for name, error in catalogue.broken.items():
        yield Check(f"pack {name}", False, f"{error.code}: {error.client_message}")
    if split_reference(default)[0] not in (*catalogue.names(), *catalogue.broken):
        yield Check("default pack", False, f"{default!r} is not among the packs")


def plugin_checks(settings: Settings) -> Iterator[Check]:
    """Every plug-in of every point, with its package, or why it cannot be used; whether the settings name it."""
    from radserve.models.importing.run import IMPORTERS

    points: tuple[Point[Any], ...] = (IMPORTERS, PREPROCESSORS, REPORT_METRICS, REPORT_TEMPLATES, SENDERS)
    named = {PREPROCESSORS.group: settings.preprocessors, REPORT_TEMPLATES.group: settings.report_templates}
    for point in points:
        found = load(point)
        for plugin in found.values():
            text = plugin.package + (f": {plugin.problem}" if plugin.problem else "")
            if plugin.name not in named.get(point.group, (plugin.name,)):
                text += " (not named in the settings: not used)"
            yield Check(f"plug-in {point.group} {plugin.name}", not plugin.problem, text)
        if not found:
            yield Check(f"plug-ins {point.group}", None, "none installed (optional)")


def _data_dir(folder: Path) -> Check:
    nearest = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    return Check(
        "data folder", os.access(nearest, os.W_OK), "writable" if os.access(nearest, os.W_OK) else "not writable"
    )


async def _triton(settings: Settings, catalogue: PackCatalogue) -> Check:
    """Start the embedded Triton (or ask the outside one) and see that every graph answers."""
    packs = [catalogue.get(name) for name in catalogue.names()]
    name = f"Triton at {settings.triton_url}" if settings.triton_url else "embedded Triton"
    try:
        if settings.triton_url:
            return Check(name, True, await _ask(settings.triton_url, packs))
        with owned_folder("doctor") as folder:
            async with EmbeddedTriton(packs, log_folder=folder) as triton:
                return Check(name, True, await _ask(triton.url, packs))
    except RadserveError as error:
        return Check(name, False, f"{error.code}: {error.client_message}")


async def _ask(url: str, packs: Sequence[ModelPack]) -> str:
    """The server's version, once every graph of the packs is ready there."""
    runner = TritonRunner(url, packs)
    try:
        await runner.wait_ready([model for pack in packs for model in pack.models], READY_SECONDS)
        server = await runner.server_metadata()
        return f"{server.name} {server.version}, {sum(len(pack.models) for pack in packs)} graphs ready"
    finally:
        await runner.close()
