"""Checkpoints in the file formats of the field: the true classes, few and narrow layers, seeded random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

CODE = 'code = { value = "233604007", scheme = "SCT", meaning = "Pneumonia" }'
SITE = 'site = { value = "39607008", scheme = "SCT", meaning = "Lung" }'
WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "chest", "radio", "##graph", "of", "pneumonia", "normal", "no"),
    *("sign", "a", "the", "lungs", "are", "clear"),
)


def labels_file(folder: Path, *labels: str, head: str = "", volume: bool = False) -> Path:
    """LABELS.toml; each of `labels` is NAME, or NAME and further lines."""
    modalities = '["CT"]' if volume else '["CR", "DX"]'
    parts = [f'name = "imported"\n{head}\n[[inputs]]\nname = "images"\nmodalities = {modalities}\nbody_parts = []\n']
    for label in labels:
        name, _, rest = label.partition("\n")
        parts.append(f'\n[[labels]]\nname = "{name}"\n{CODE}\n{SITE}\n{rest}\n')
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "LABELS.toml"
    path.write_text("".join(parts))
    return path


def prompted(name: str, *, negative: bool = True) -> str:
    lines = f'{name}\npositive = ["chest radiograph of pneumonia", "a sign of pneumonia"]'
    return lines + ('\nnegative = ["normal chest radiograph", "no sign of pneumonia"]' if negative else "")


def seeded(make: Callable[[], Any], seed: int = 3) -> Any:
    """A module whose every parameter and buffer was drawn: nothing stays zero or one, where mistakes would hide."""
    torch.manual_seed(seed)
    model = make()
    with torch.no_grad():
        for name, each in [*model.named_parameters(), *model.named_buffers()]:
            if each.dtype.is_floating_point and "logit" not in name:
                if name.endswith("running_var"):
                    each.copy_(0.5 + torch.rand(each.shape))
                elif name == "text_decoder.text_projection":  # open_clip leaves it as it finds the memory
                    each.normal_(std=0.1)
                elif each.ndim == 1:
                    each.add_(0.05 * torch.randn(each.shape))
    return model.eval()


def biomedclip(
    folder: Path,
    *,
    vision: str = "test_vit",
    image: int = 160,
    config: dict[str, Any] | None = None,
    context: int = 24,
    embedding: int = 32,
) -> Any:
    """A folder as BiomedCLIP has it: a timm ViT, a BERT named by its hub name alone, a WordPiece tokenizer."""
    import open_clip
    from transformers import BertConfig, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    bert = {"vocab_size": len(WORDS), "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1,
            "intermediate_size": 96, "max_position_embeddings": 64, **(config or {})}  # fmt: skip
    named = folder.parent / "bert"
    BertConfig(**bert).save_pretrained(named)
    stated = {
        "model_cfg": {
            "embed_dim": embedding,
            "vision_cfg": {"timm_model_name": vision, "timm_model_pretrained": False, "timm_pool": "",
                           "timm_proj": "linear", "image_size": image},
            "text_cfg": {"hf_model_name": str(named), "hf_tokenizer_name": str(folder), "hf_proj_type": "mlp",
                         "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": context},
        },
        "preprocess_cfg": {"mean": [0.48, 0.45, 0.4], "std": [0.26, 0.25, 0.27], "interpolation": "bicubic",
                           "resize_mode": "shortest"},
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(stated))
    name = f"local-dir:{folder}"
    model = seeded(lambda: open_clip.create_model(name, load_weights=False, pretrained_text=False))
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    stated["model_cfg"]["text_cfg"]["hf_model_name"] = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
    (folder / "open_clip_config.json").write_text(json.dumps(stated))
    return model


def open_clip_folder(folder: Path, config: dict[str, Any]) -> Any:
    """A folder of the hub's form with open_clip's own towers, weights as safetensors."""
    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    model = seeded(lambda: open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False))
    save_file({name: each.contiguous().clone() for name, each in model.state_dict().items()},
              folder / "open_clip_model.safetensors")  # fmt: skip
    return model


SMALL_TEXT = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
SIGLIP = {
    "embed_dim": 32,
    "init_logit_bias": -3.0,
    "custom_text": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {**SMALL_TEXT, "no_causal_mask": True, "pool_type": "last", "proj_bias": True},
}
COCA = {
    "embed_dim": 32,
    "custom_text": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "attentional_pool": True,
                   "attn_pooler_heads": 2, "attn_pooler_queries": 9, "output_tokens": True},
    "text_cfg": {**SMALL_TEXT, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2,
                       "attn_pooler_heads": 2},
}  # fmt: skip


def xrv_densenet(path: Path, **sizes: Any) -> Any:
    """A DenseNet of TorchXRayVision, saved as the library publishes them: the whole module, pickled."""
    import torchxrayvision as xrv

    small = {"growth_rate": 4, "block_config": (2, 2, 2, 2), "num_init_features": 8}
    model = seeded(lambda: xrv.models.DenseNet(**(sizes or small)))
    torch.save(model, path)
    return model


def xrv_resnet(path: Path) -> Any:
    """A ResNet as TorchXRayVision builds them, one channel, its state dict."""
    import torchvision

    def make() -> Any:
        resnet = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=18)
        resnet.conv1 = torch.nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        return resnet

    model = seeded(make)
    torch.save(model.state_dict(), path)
    return model


def dino(folder: Path, labels: int = 3) -> tuple[Any, Any]:
    """A DINOv2 of transformers, as RAD-DINO is one, with a linear head beside it."""
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14)
    model = seeded(lambda: Dinov2Model(config))
    model.save_pretrained(folder)
    stated = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "resample": 3,
              "crop_size": {"height": 56, "width": 56}, "size": {"shortest_edge": 56}}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(stated))
    torch.manual_seed(5)
    head = torch.nn.Linear(32, labels).eval()
    save_file(dict(head.state_dict()), folder / "head.safetensors")
    return model, head


def monai_bundle(folder: Path, network: dict[str, Any], shape: list[int], *, script: bool) -> Any:
    """A bundle: metadata, configuration, and a TorchScript model or weights."""
    from monai.networks import nets

    arguments = {key: value for key, value in network.items() if key != "_target_"}
    model = seeded(lambda: getattr(nets, network["_target_"])(**arguments))
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    inputs = {"image": {"num_channels": 1, "spatial_shape": shape, "type": "image"}}
    metadata = {"name": "small", "version": "0.1.0", "task": "test", "intended_use": "tests",
                "network_data_format": {"inputs": inputs, "outputs": {}}}  # fmt: skip
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    window = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -1000, "a_max": 1000, "b_min": 0.0,
              "b_max": 1.0, "clip": True}  # fmt: skip
    steps = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
    ]
    if len(shape) == 2:
        steps = steps[:1]
    config = {"network_def": network, "preprocessing": {"_target_": "Compose", "transforms": [*steps, window]}}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    if script:
        torch.jit.trace(model, torch.zeros(1, 1, *shape)).save(str(folder / "models" / "model.ts"))
    else:
        torch.save(model.state_dict(), folder / "models" / "model.pt")
    return model
