"""MONAI bundles: metadata.json with a TorchScript model, or with weights and the network of its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from radserve.models.export.onnx_graphs import GraphPlan
from radserve.models.importing.imported import Chain, Imported, refused
from radserve.models.importing.labels_file import LabelsFile
from radserve.models.importing.onnx_kind import output_scoring
from radserve.models.importing.text_towers import read_json
from radserve.models.importing.torchscript import load_script
from radserve.models.importing.weights import state_dict

METADATA, SCRIPT, WEIGHTS = "configs/metadata.json", "models/model.ts", "models/model.pt"
CONFIGS = ("configs/inference.json", "configs/train.json")
NETWORK_KEYS = ("network_def", "network", "net")
# A bundle's own names of intensity transforms (dictionary form) that mean the same here.
_TRANSFORMS = {
    "ScaleIntensityRanged": "ScaleIntensityRange",
    "ScaleIntensityd": "ScaleIntensity",
    "NormalizeIntensityd": "NormalizeIntensity",
    "ScaleIntensityRangePercentilesd": "ScaleIntensityRangePercentiles",
    "Orientationd": "Orientation",
    "Spacingd": "Spacing",
    "Resized": "Resize",
}
_LEFT_OUT = ("LoadImaged", "EnsureChannelFirstd", "EnsureTyped", "CastToTyped", "ToTensord", "DeleteItemsd")
_NOT_ARGUMENTS = ("_target_", "keys", "allow_missing_keys", "meta_keys", "image_only")


def read_monai_bundle(source: str, labels: LabelsFile, options: dict[str, str]) -> Imported:
    """Read a bundle folder. Its network comes from monai.networks.nets only: a configuration cannot run other code."""
    folder = Path(source)
    if not (folder / METADATA).is_file():
        raise refused(f"folder {folder.name!r} has no {METADATA}")
    metadata = read_json((folder / METADATA).read_text())
    shape = _shape(metadata, options)
    network, scripted = _network(folder)
    example = torch.zeros(2, *shape)
    try:
        with torch.inference_mode():
            found = network(example)
    except (RuntimeError, ValueError) as error:
        cause = f"the bundle's network does not take an input of {tuple(example.shape[1:])} (channels, then sizes)"
        raise refused(f"{cause}; another size: --option size=SLICES,ROWS,COLUMNS", error) from error
    if not isinstance(found, torch.Tensor):
        raise refused("the bundle's network gives more than one output")
    segments = found.ndim == example.ndim
    graph, output = ("segmenter", "mask") if segments else ("classifier", "logits")
    if not segments and found.ndim != 2:
        raise refused(f"the bundle's network gives {tuple(found.shape)}, expected (N, K) or the axes of its input")
    plan = GraphPlan(graph, network, {"pixels": example}, (output,))
    return Imported(
        kind="monai-bundle",
        input_kind="volume" if len(shape) == 4 else "image",
        # What the labels file states for all inputs has not to be understood here.
        preprocess=() if all(each.preprocess for each in labels.inputs) else _chain(folder, shape),
        scoring=lambda label, place: output_scoring(label, place, graph, output, segments=segments),
        plans=(plan,),
        answers=found.shape[1],
        scripted=frozenset((graph,)) if scripted else frozenset(),
        facts={
            "architecture": f"MONAI bundle {metadata.get('name', folder.name)} {metadata.get('version', '')}".strip(),
            "task": str(metadata.get("task", "not stated")),
            "intended use": str(metadata.get("intended_use", "not stated")),
            "data source": str(metadata.get("data_source", "not stated")),
            "input": f"{tuple(shape)}",
        },
    )


def _network(folder: Path) -> tuple[nn.Module, bool]:
    if (folder / SCRIPT).is_file():
        return load_script(folder / SCRIPT).eval(), True
    if not (folder / WEIGHTS).is_file():
        raise refused(f"folder {folder.name!r} has neither {SCRIPT} nor {WEIGHTS}")
    network = _declared(_configured(folder))
    try:
        network.load_state_dict(state_dict(folder / WEIGHTS))
    except RuntimeError as error:
        raise refused(f"the tensors of {WEIGHTS} are not those of the declared network", error) from error
    return network.eval(), False


def _configured(folder: Path) -> dict[str, Any]:
    for name in CONFIGS:
        if (folder / name).is_file():
            return read_json((folder / name).read_text())
    raise refused(f"folder {folder.name!r} has none of {list(CONFIGS)}")


def _declared(config: dict[str, Any]) -> nn.Module:
    from monai.networks import nets

    stated = next((config[key] for key in NETWORK_KEYS if isinstance(config.get(key), dict)), None)
    if stated is None or "_target_" not in stated:
        raise refused(f"the bundle's configuration has no network under {list(NETWORK_KEYS)}")
    name = str(stated["_target_"]).rpartition(".")[2]
    kind = getattr(nets, name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise refused(f"the network {stated['_target_']!r} is not one of monai.networks.nets")
    arguments = {key: value for key, value in stated.items() if key != "_target_"}
    for key, value in arguments.items():
        if _is_expression(value):
            raise refused(f"the network's argument {key!r} is an expression ({value!r}); state its value instead")
    try:
        made: nn.Module = kind(**arguments)
    except (TypeError, ValueError) as error:
        raise refused(f"the network {name} does not take the bundle's arguments", error) from error
    return made


def _is_expression(value: Any) -> bool:
    """Whether a value of a bundle's configuration is code or a reference, alone or in a list."""
    items = value if isinstance(value, list) else [value]
    return any(isinstance(each, str) and each.startswith(("$", "@", "%")) for each in items)


def _shape(metadata: dict[str, Any], options: dict[str, str]) -> tuple[int, ...]:
    """(channels, [slices,] rows, columns): of the option `size`, else of the metadata, whose sizes must be numbers."""
    inputs = metadata.get("network_data_format", {}).get("inputs", {})
    stated: dict[str, Any] = next(iter(inputs.values()), {}) if isinstance(inputs, dict) else {}
    channels = int(stated.get("num_channels", 1))
    spatial = options.get("size", "").split(",") if options.get("size") else stated.get("spatial_shape", [])
    try:
        sizes = tuple(int(size) for size in spatial)
    except ValueError:
        sizes = ()
    if len(sizes) not in (2, 3) or min(sizes) < 1:
        cause = f"the bundle's spatial_shape is {spatial!r}, expected two or three sizes"
        raise refused(f"{cause}; give --option size=SLICES,ROWS,COLUMNS")
    return channels, *sizes


def _chain(folder: Path, shape: tuple[int, ...]) -> Chain:
    """The bundle's own transforms where all are known here; the size of the network at the end in any case."""
    chain: list[tuple[str, dict[str, Any]]] = []
    config = _configured(folder) if any((folder / name).is_file() for name in CONFIGS) else {}
    stated = config.get("preprocessing", {})
    steps = stated.get("transforms", []) if isinstance(stated, dict) else []
    for step in steps if isinstance(steps, list) else []:
        name = str(step.get("_target_", "")).rpartition(".")[2]
        if name in _LEFT_OUT:
            continue
        if name not in _TRANSFORMS:
            raise refused(f"the bundle's transform {name!r} is not known here; state `preprocess` in the labels file")
        arguments = {key: value for key, value in step.items() if key not in _NOT_ARGUMENTS}
        for key, value in arguments.items():
            if _is_expression(value):
                cause = f"the argument {key!r} of the bundle's transform {name!r} is an expression ({value!r})"
                raise refused(f"{cause}; state `preprocess` in the labels file")
        chain.append((_TRANSFORMS[name], arguments))
    if not chain:
        chain.append(("VoiWindow", {}))
    mode = "trilinear" if len(shape) == 4 else "bilinear"
    if chain[-1][0] != "Resize":
        chain.append(("Resize", {"spatial_size": list(shape[1:]), "mode": mode}))
    return tuple(chain)
