"""Vision encoders of Hugging Face (RAD-DINO, DINOv2, ViT) with a linear head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from radserve.models.export.onnx_graphs import GraphPlan
from radserve.models.importing.imported import Imported, cause_of, named_index, refused, square_chain
from radserve.models.importing.labels_file import ImportLabel, LabelsFile
from radserve.models.importing.text_towers import read_json
from radserve.models.importing.weights import state_dict

HEAD_FILE = "head.safetensors"
_BICUBIC = {2: "bilinear", 3: "bicubic"}  # of Pillow's resampling filters


class HeadedEncoder(nn.Module):
    """`pixels` (N, 3, H, W) -> `logits` (N, K): the encoder's class token through the head."""

    def __init__(self, encoder: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, pixels: Tensor) -> Tensor:
        found = self.encoder(pixel_values=pixels).last_hidden_state[:, 0]
        logits: Tensor = self.head(found)
        return logits


def read_hf_vision(source: str, labels: LabelsFile, options: dict[str, str]) -> Imported:
    """Read a folder of transformers and its linear head (option `head`, else head.safetensors in it).

    The head holds `weight` (K, width) and `bias` (K) over the class token after the last norm, as a linear probe.
    """
    from transformers import AutoModel

    folder = Path(source)
    if not folder.is_dir():
        raise refused(f"{source!r} is no folder; a model of the hub is named hf-hub:OWNER/NAME")
    if not any(folder.glob("*.safetensors")):
        raise refused(f"folder {folder.name!r} holds no .safetensors; convert pickled weights first")
    try:
        encoder, loading = AutoModel.from_pretrained(
            source,
            use_safetensors=True,
            trust_remote_code=False,  # not said, the library asks the person at the terminal
            attn_implementation="eager",
            output_loading_info=True,
        )
    except Exception as error:  # a configuration or a file that it does not know ends in any of Python's own
        raise refused(f"transformers cannot make a model of {folder.name!r}: {cause_of(error)}", error) from error
    # What is missing the library draws at random and says so in a log. The pooler is not asked.
    if missing := sorted(key for key in loading["missing_keys"] if not key.startswith("pooler.")):
        raise refused(f"the weights of {folder.name!r} lack {len(missing)} tensors, the first {missing[0]!r}")
    encoder.eval()
    head = _head(Path(options["head"]) if options.get("head") else folder / HEAD_FILE, encoder.config.hidden_size)
    stated = _stated(folder)
    size = _size(stated, encoder)
    names = stated.get("labels", [])

    def scoring(label: ImportLabel, place: int) -> dict[str, Any]:
        index = named_index(label, place, names)
        return {
            "kind": "output",
            "graph": "classifier",
            "output": "logits",
            "index": index,
            "activation": label.activation or "sigmoid",
        }

    network = HeadedEncoder(encoder, head)
    return Imported(
        kind="hf-vision",
        input_kind="image",
        preprocess=square_chain(
            size,
            3,
            stated.get("image_mean", (0.485, 0.456, 0.406)),
            stated.get("image_std", (0.229, 0.224, 0.225)),
            mode=_BICUBIC.get(stated.get("resample", 3), "bicubic"),
        ),
        scoring=scoring,
        plans=(GraphPlan("classifier", network, {"pixels": torch.zeros(2, 3, *size)}, ("logits",)),),
        answers=head.out_features,
        facts={
            "architecture": f"{type(encoder).__name__} with a linear head",
            "parameters": f"{sum(each.numel() for each in network.parameters()):,}",
            "image size": f"{size[0]} x {size[1]}",
        },
    )


def _head(path: Path, width: int) -> nn.Linear:
    if path.suffix != ".safetensors":
        raise refused(f"the head {path.name!r} is no .safetensors file")
    state = state_dict(path)
    weight = state.get("weight")
    if weight is None or weight.ndim != 2 or weight.shape[1] != width:
        raise refused(f"the head {path.name!r} has no weight of shape (labels, {width})")
    head = nn.Linear(width, weight.shape[0])
    try:
        head.load_state_dict({"weight": weight, "bias": state.get("bias", torch.zeros(weight.shape[0]))})
    except RuntimeError as error:
        raise refused(f"the head {path.name!r} has a bias of another length than its weight", error) from error
    return head.eval()


def _stated(folder: Path) -> dict[str, Any]:
    path = folder / "preprocessor_config.json"
    return read_json(path.read_text()) if path.is_file() else {}


def _size(stated: dict[str, Any], encoder: Any) -> tuple[int, int]:
    size = stated.get("crop_size") or stated.get("size") or encoder.config.image_size
    if isinstance(size, dict):
        size = (size.get("height"), size.get("width")) if "height" in size else size.get("shortest_edge")
    if not all(isinstance(each, int) and each > 0 for each in (size if isinstance(size, list | tuple) else [size])):
        raise refused("preprocessor_config.json states a size that is neither height and width nor shortest_edge")
    rows, columns = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    return rows, columns
