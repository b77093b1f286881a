"""`import_model`: one call from a checkpoint to a pack, for any kind, those of other packages too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from radserve.errors import RadserveError
from radserve.models.importing.builder import build_pack, check_place
from radserve.models.importing.hub import PREFIX, fetch
from radserve.models.importing.imported import Imported, cause_of, refused
from radserve.models.importing.labels_file import LabelsFile, read_labels
from radserve.models.importing.quiet import quiet_libraries
from radserve.models.importing.weights import source_hash
from radserve.models.pack import ModelPack
from radserve.models.pack_files import PACK_FILE
from radserve.plugins import Plugin, Point, load


@runtime_checkable
class Reader(Protocol):
    """Reads the checkpoints of one kind."""

    def __call__(self, source: str, labels: LabelsFile, options: dict[str, str], /) -> Imported:
        """Raises RadserveError with the cause where the source cannot be imported."""
        ...


KINDS = ("open_clip", "torchxrayvision", "hf-vision", "monai-bundle", "onnx")
OPTIONS = {
    "open_clip": ("model",),
    "torchxrayvision": ("weights", "size"),
    "hf-vision": ("head",),
    "monai-bundle": ("size",),
    "onnx": ("output",),
}
IMPORTERS = Point[Reader]("radserve.importers", Reader, frozenset(KINDS))
"""The name of a plug-in here is the kind."""
PRECISIONS = ("fp32", "fp16")


def import_model(
    source: str,
    labels: Path,
    out: Path,
    *,
    kind: str = "",
    precision: str = "fp32",
    options: Mapping[str, str] | None = None,
) -> ModelPack:
    """Import `source` and put the pack in the place of `out`.

    `kind` is found by the files of the source where that is sure; `hf-hub:OWNER/NAME[@REVISION]` is fetched first.
    Raises PackError with the cause.
    """
    if precision not in PRECISIONS:
        raise refused(f"precision {precision!r} is not one of {list(PRECISIONS)}")
    check_place(out)
    stated = read_labels(labels)
    path, name = Path(source.removeprefix("local-dir:")), ""
    if source.startswith(PREFIX):
        path, name = fetch(source)
        source = str(path)
    read = _reader(kind or detect(source))
    with quiet_libraries():
        found = read(source, stated, dict(options or {}))
        digest = source_hash(path) if path.exists() else "not stated (from a list)"
        name = name or (path.name if path.exists() else source)
        return build_pack(found, stated, name, digest, out, precision)


def readers() -> dict[str, Reader]:
    """Every kind by its name: ours, and those of installed packages that can be used."""
    from radserve.models.importing.hf_vision_kind import read_hf_vision
    from radserve.models.importing.monai_bundle_kind import read_monai_bundle
    from radserve.models.importing.onnx_kind import read_onnx
    from radserve.models.importing.open_clip_kind import read_open_clip
    from radserve.models.importing.torchxrayvision_kind import read_torchxrayvision

    own = (read_open_clip, read_torchxrayvision, read_hf_vision, read_monai_bundle, read_onnx)
    others = {name: plugin.value for name, plugin in load(IMPORTERS).items() if plugin.value}
    return {**dict(zip(KINDS, own, strict=True)), **others}


def _reader(kind: str) -> Reader:
    known = readers()
    if kind in KINDS:
        return _ours(kind, known[kind])
    if plugin := load(IMPORTERS).get(kind):
        return _naming(plugin)
    raise refused(f"kind {kind!r} is not one of {sorted(known)}")


def _ours(kind: str, read: Reader) -> Reader:
    """A reader of ours; an option it does not know, and what a library raises, is a refusal with the cause."""

    def reader(source: str, labels: LabelsFile, options: dict[str, str], /) -> Imported:
        for option in options:
            if option not in OPTIONS[kind]:
                takes = " and ".join(OPTIONS[kind]) or "no option"
                raise refused(f"option {option!r} is not known: the kind {kind} takes {takes}")
        try:
            return read(source, labels, options)
        except RadserveError:
            raise
        except Exception as error:
            raise refused(f"{Path(source).name!r} cannot be read as {kind}: {cause_of(error)}", error) from error

    return reader


def _naming(plugin: Plugin[Reader]) -> Reader:
    """The reader of a plug-in; what it raises, but for errors of ours, names the plug-in."""
    read = plugin.usable()

    def reader(source: str, labels: LabelsFile, options: dict[str, str], /) -> Imported:
        try:
            return read(source, labels, options)
        except RadserveError:
            raise
        except Exception as error:
            raise plugin.failed(error) from error

    return reader


def detect(source: str) -> str:
    """The kind of a source by its files. Raises PACK_INVALID where they do not tell."""
    if source.startswith("local-dir:"):
        return "open_clip"
    path = Path(source)
    if path.is_dir():
        marks = {
            "open_clip_config.json": "open_clip",
            "configs/metadata.json": "monai-bundle",
            "preprocessor_config.json": "hf-vision",
            PACK_FILE: "",
        }
        for mark, kind in marks.items():
            if (path / mark).is_file():
                if not kind:
                    raise refused(f"folder {path.name!r} is a pack already: `radserve models add` takes it")
                return kind
    elif path.suffix == ".onnx":
        return "onnx"
    elif not path.exists():
        raise refused(
            f"there is no file or folder {path.name!r}; a name of open_clip's own list needs --kind open_clip"
        )
    raise refused(f"{path.name!r} does not tell its kind by its files: name it with --kind")
