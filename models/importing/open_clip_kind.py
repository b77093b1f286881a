"""open_clip checkpoints: CLIP, SigLIP-like and CoCa, with timm image towers and Hugging Face text towers."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from radserve.errors import RadserveError
from radserve.models.export.onnx_graphs import GraphPlan
from radserve.models.importing.coca_step import CocaDecoderStep
from radserve.models.importing.imported import Chain, Imported, ScoringOf, cause_of, refused, square_chain
from radserve.models.importing.labels_file import ImportLabel, LabelsFile
from radserve.models.importing.text_towers import bert_config, pack_tokenizer_of
from radserve.models.importing.weights import state_dict

CONFIG_FILE = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")


class ImageTower(nn.Module):
    """`pixels` (N, C, H, W) -> `embedding` (N, E), a unit vector; with `tokens` also `image_tokens` (N, P, W)."""

    def __init__(self, model: Any, *, tokens: bool) -> None:
        super().__init__()
        self.visual = model.visual
        self.tokens = tokens

    def forward(self, pixels: Tensor) -> Any:
        visual: Any = self.visual
        found = visual(pixels)
        embedding, *rest = found if isinstance(found, tuple) else (found,)
        unit = functional.normalize(embedding, dim=-1)
        return (unit, rest[0]) if self.tokens else unit


class TextTower(nn.Module):
    """`tokens` (N, T) int64 -> `embedding` (N, E), a unit vector."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        model: Any = self.model
        found: Tensor = model.encode_text(tokens, normalize=True)
        return found


def read_open_clip(source: str, labels: LabelsFile, options: dict[str, str]) -> Imported:
    """Read `local-dir:FOLDER`, a folder, a checkpoint (option `model`: its architecture), or MODEL/PRETRAINED."""
    model, tokenizer = _model(source, options)
    model.eval()
    channels, size = 3, _pair(model.visual.image_size)
    # The first length that both towers and the tokenizer know: that of the text tower's configuration.
    length = int(getattr(tokenizer, "context_length", None) or model.context_length)
    pixels, tokens = torch.zeros(2, channels, *size), torch.ones(2, length, dtype=torch.int64)
    captions = hasattr(model, "text_decoder")
    writes = captions and labels.decoder is not None  # a CoCa may be imported for its scores alone
    plans = [
        GraphPlan(
            "image_encoder",
            ImageTower(model, tokens=writes),
            {"pixels": pixels},
            ("embedding", "image_tokens") if writes else ("embedding",),
        ),
        GraphPlan("text_encoder", TextTower(model), {"tokens": tokens}, ("embedding",)),
    ]
    if labels.decoder:
        if not captions:
            raise refused("the labels file asks for a decoder; this model has none (it is no CoCa)")
        plans.append(_decoder_plan(model, pixels, labels.decoder.max_tokens))
    scale = float(model.logit_scale.detach().exp())
    bias = float(model.logit_bias.detach()) if getattr(model, "logit_bias", None) is not None else None
    facts = {
        "architecture": type(model).__name__,
        "parameters": f"{sum(each.numel() for each in model.parameters()):,}",
        "image size": f"{size[0]} x {size[1]}",
        "context length": str(length),
        "logit scale": f"{scale:.4g}" + (f", bias {bias:.4g}" if bias is not None else ""),
    }
    return Imported(
        kind="open_clip",
        input_kind="image",
        preprocess=_chain(model, size),
        scoring=_scoring(scale, bias),
        plans=tuple(plans),
        tokenizer=pack_tokenizer_of(tokenizer, length, [p for each in labels.labels for p in each.positive]),
        facts=facts,
    )


def _model(source: str, options: dict[str, str]) -> tuple[Any, Any]:
    import open_clip

    folder = Path(source.removeprefix("local-dir:"))
    try:
        if folder.is_dir():
            return _local(folder)
        if folder.is_file():
            name = options.get("model", "")
            if not name:
                raise refused(f"{folder.name!r} is a checkpoint: name its architecture with --option model=NAME")
            model = open_clip.create_model(name, load_weights=False, pretrained_text=False)
            open_clip.load_checkpoint(model, str(_checked(folder)), weights_only=True)
            return model, open_clip.get_tokenizer(name)
        name, _, tag = source.partition("/")
        model = open_clip.create_model(name, pretrained=tag or None, require_pretrained=True, weights_only=True)
        return model, open_clip.get_tokenizer(name)
    except RadserveError:
        raise
    except Exception as error:  # a configuration that it does not know ends in any of Python's own
        raise refused(f"open_clip cannot make a model of {Path(source).name!r}: {cause_of(error)}", error) from error


def _local(folder: Path) -> tuple[Any, Any]:
    """A folder of the hub's form. A text tower of Hugging Face gets its configuration from its own weights."""
    import open_clip

    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None or not (folder / CONFIG_FILE).is_file():
        raise refused(f"folder {folder.name!r} has no {CONFIG_FILE} or none of {list(WEIGHTS)}")
    state = state_dict(weights)
    with tempfile.TemporaryDirectory(prefix="radserve-import-") as scratch:
        prepared = Path(scratch)
        for each in folder.iterdir():
            if each.is_file() and each != weights:
                shutil.copyfile(each, prepared / each.name)
        config = json.loads((folder / CONFIG_FILE).read_text())
        text = config.get("model_cfg", config).get("text_cfg", {})
        if text.get("hf_model_name"):
            if not (prepared / "config.json").is_file():
                (prepared / "config.json").write_text(json.dumps(bert_config(state, text["hf_model_name"])))
            text["hf_model_name"] = str(prepared)
            (prepared / CONFIG_FILE).write_text(json.dumps(config))
        name = f"local-dir:{prepared}"
        model = open_clip.create_model(name, load_weights=False, pretrained_text=False)
        open_clip.load_checkpoint(model, str(weights), weights_only=True)
        return model, open_clip.get_tokenizer(name)


def _checked(path: Path) -> Path:
    state_dict(path)  # refuses what is more than weights, by name
    return path


def _decoder_plan(model: Any, pixels: Tensor, most: int) -> GraphPlan:
    step = CocaDecoderStep(model)
    if most > step.cache_shape[1]:
        raise refused(f"decoder.max_tokens: got {most}, expected at most the model's {step.cache_shape[1]}")
    with torch.inference_mode():
        tokens = model.visual(pixels)[1]
    number = torch.zeros(2, 1, dtype=torch.int64)
    inputs = {
        "token": torch.ones_like(number),
        "position": number,
        "image_tokens": torch.zeros_like(tokens),
        "cache": torch.zeros(2, *step.cache_shape),
    }
    return GraphPlan("decoder_step", step, inputs, ("logits", "cache_out"))


def _chain(model: Any, size: tuple[int, int]) -> Chain:
    stated = getattr(model.visual, "preprocess_cfg", {}) or {}
    return square_chain(
        size,
        3,
        stated.get("mean", (0.48145466, 0.4578275, 0.40821073)),
        stated.get("std", (0.26862954, 0.26130258, 0.27577711)),
        resize=stated.get("resize_mode", "shortest"),
        mode=stated.get("interpolation", "bicubic"),
    )


def _scoring(scale: float, bias: float | None) -> ScoringOf:
    def scoring(label: ImportLabel, place: int) -> dict[str, Any]:
        del place
        if not label.positive:
            raise refused(f"label {label.name!r} has no positive prompts, which open_clip models are asked by")
        if label.negative:
            return {"kind": "prompts", "logit_scale": scale}
        if bias is None:
            raise refused(f"label {label.name!r} has no negative prompts; only a model with a logit bias does without")
        return {"kind": "prompts", "logit_scale": scale, "logit_bias": bias, "contrast": "single"}

    return scoring


def _pair(size: Any) -> tuple[int, int]:
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))
