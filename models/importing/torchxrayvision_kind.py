"""TorchXRayVision classifiers: DenseNet-121 and ResNet checkpoints, with exact class activation maps.

Their last layers are a global average and a linear layer, so a label's logit is the mean of its own map plus a bias.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from radserve.models.export.onnx_graphs import GraphPlan
from radserve.models.importing.imported import Chain, Imported, named_index, refused
from radserve.models.importing.labels_file import ImportLabel, LabelsFile
from radserve.models.importing.weights import load_weights, tensors_of

HALF_RANGE = 1024.0  # pixels from -1024 to 1024
SIZES = {"densenet": 224, "resnet": 512}


class Classifier(nn.Module):
    """`pixels` (N, 1, H, W) -> `logits` (N, K) and `maps` (N, K, h, w), which add up to the logits less the bias."""

    def __init__(self, features: nn.Module, last: nn.Linear) -> None:
        super().__init__()
        self.features, self.last = features, last

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        found = functional.relu(self.features(pixels))
        maps = functional.conv2d(found, self.last.weight[:, :, None, None]) / (found.shape[2] * found.shape[3])
        return self.last(found.mean(dim=(2, 3))), maps


def read_torchxrayvision(source: str, labels: LabelsFile, options: dict[str, str]) -> Imported:
    """Read a checkpoint of the library: a whole module as it publishes DenseNets, or a state dict.

    `weights` is the library's own name of it (densenet121-res224-all ...), which tells labels and operating points.
    """
    import torchxrayvision as xrv

    loaded = load_weights(Path(source), allowed=_classes())
    stated = xrv.models.model_urls.get(options.get("weights", ""), {})
    if options.get("weights") and not stated:
        raise refused(f"weights {options['weights']!r} is not a name of TorchXRayVision")
    names = [*stated.get("labels", xrv.datasets.default_pathologies)]
    state = loaded.state_dict() if isinstance(loaded, nn.Module) else tensors_of(loaded, Path(source))
    network, kind = _network(state)
    size = int(options.get("size", stated.get("input_resolution", SIZES[kind])))
    outputs = network.last.out_features
    if len(names) != outputs:
        names = []
    thresholds = stated.get("op_threshs") if names else None
    own = _own_thresholds(loaded) if isinstance(loaded, nn.Module) else None
    points = {
        name: float(value)
        for name, value in zip(names, own or thresholds or [], strict=False)
        if name and not math.isnan(value)  # not a number: the library states none for it
    }

    def scoring(label: ImportLabel, place: int) -> dict[str, Any]:
        index = named_index(label, place, names)
        shared = {"kind": "output", "graph": "classifier", "output": "logits", "map": "maps"}
        return {**shared, "index": index, "activation": label.activation or "sigmoid"}

    return Imported(
        kind="torchxrayvision",
        input_kind="image",
        preprocess=xrv_chain(size),
        scoring=scoring,
        plans=(GraphPlan("classifier", network, {"pixels": torch.zeros(2, 1, size, size)}, ("logits", "maps")),),
        thresholds=points,
        answers=outputs,
        facts={
            "architecture": f"TorchXRayVision {kind}",
            "parameters": f"{sum(each.numel() for each in network.parameters()):,}",
            "image size": f"{size} x {size}, pixels from -1024 to 1024",
            "operating points": "the library's" if points else "not stated",
        },
    )


def xrv_chain(size: int) -> Chain:
    """Windowed pixels from -1024 to 1024, the middle square."""
    spread = {"a_min": 0.0, "a_max": 1.0, "b_min": -HALF_RANGE, "b_max": HALF_RANGE}
    resize = {"spatial_size": [size, size]}
    return (("VoiWindow", {}), ("CropToSquare", {}), ("ResizeAntialias", resize), ("ScaleIntensityRange", spread))


def _network(state: dict[str, Tensor]) -> tuple[Classifier, str]:
    """The network that fits a state dict, of any depth of the two families."""
    import torchvision
    import torchxrayvision as xrv

    if "classifier.weight" in state and "features.conv0.weight" in state:
        state = {key: value for key, value in state.items() if key != "op_threshs"}
        growth, blocks, first = _densenet_shape(state)
        dense = xrv.models.DenseNet(
            growth_rate=growth,
            block_config=blocks,
            num_init_features=first,
            num_classes=state["classifier.weight"].shape[0],
            in_channels=state["features.conv0.weight"].shape[1],
        )
        _load(dense, state)
        return Classifier(dense.features, dense.classifier).eval(), "densenet"
    state = {key.removeprefix("model."): value for key, value in state.items() if key != "op_threshs"}
    if "fc.weight" in state and "conv1.weight" in state:
        layers = [len({key.split(".")[1] for key in state if key.startswith(f"layer{n}.")}) for n in range(1, 5)]
        block = (
            torchvision.models.resnet.Bottleneck
            if "layer1.0.conv3.weight" in state
            else torchvision.models.resnet.BasicBlock
        )
        resnet = torchvision.models.ResNet(block, layers, num_classes=state["fc.weight"].shape[0])
        resnet.conv1 = nn.Conv2d(state["conv1.weight"].shape[1], 64, kernel_size=7, stride=2, padding=3, bias=False)
        _load(resnet, state)
        body = nn.Sequential(
            OrderedDict((name, each) for name, each in resnet.named_children() if name not in ("avgpool", "fc"))
        )
        return Classifier(body, resnet.fc).eval(), "resnet"
    raise refused("the checkpoint is neither a DenseNet nor a ResNet of TorchXRayVision")


def _densenet_shape(state: dict[str, Tensor]) -> tuple[int, tuple[int, ...], int]:
    blocks: list[int] = []
    while any(key.startswith(f"features.denseblock{len(blocks) + 1}.") for key in state):
        prefix = f"features.denseblock{len(blocks) + 1}."
        blocks.append(len({key.split(".")[2] for key in state if key.startswith(prefix)}))
    growth = state["features.denseblock1.denselayer1.conv2.weight"].shape[0]
    return growth, tuple(blocks), state["features.conv0.weight"].shape[0]


def _load(model: nn.Module, state: dict[str, Tensor]) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise refused("the checkpoint's tensors are not those of its network", error) from error


def _own_thresholds(module: nn.Module) -> list[float] | None:
    points = getattr(module, "op_threshs", None)
    return points.tolist() if isinstance(points, Tensor) else None


def _classes() -> list[type]:
    """The classes of a DenseNet of the library, saved as a whole: nothing else may be in such a file."""
    import torchxrayvision as xrv

    own = [xrv.models.DenseNet, xrv.models._DenseLayer, xrv.models._DenseBlock, xrv.models._Transition]
    layers = [nn.Sequential, nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Linear]
    return [*own, *layers, OrderedDict, set]
