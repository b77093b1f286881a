"""What a CoCa writes greedily: by the graphs of a pack with their cache, and by open_clip's class without one."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import torch

from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import ModelPack
from radserve.tensors import InferenceRequest

WORDS = 8
START = 49406  # CLIP's start of a text


def greedy(pack: ModelPack, images: np.ndarray) -> np.ndarray:
    """The likeliest token each time, through the served graphs with their cache."""

    async def run() -> np.ndarray:
        runner = OnnxRunner([pack])
        first = await runner.infer(InferenceRequest(pack.model("image_encoder"), {"pixels": images}))
        cache = np.zeros((len(images), *pack.graphs["decoder_step"].tensor("cache").shape[1:]), np.float32)
        tokens = np.full((len(images), 1), START, np.int64)
        for position in range(WORDS - 1):
            inputs = {"token": tokens[:, -1:], "position": np.full((len(images), 1), position, np.int64),
                      "image_tokens": first.outputs["image_tokens"], "cache": cache}  # fmt: skip
            step = (await runner.infer(InferenceRequest(pack.model("decoder_step"), inputs))).outputs
            cache = step["cache_out"]
            tokens = np.concatenate([tokens, step["logits"].argmax(axis=-1)[:, None]], axis=1)
        await runner.close()
        return tokens

    return asyncio.run(run())


def recomputed(model: Any, images: torch.Tensor) -> np.ndarray:
    """The same by open_clip's CoCa alone, every text as a whole anew for every word."""
    tokens = torch.full((len(images), 1), START)
    with torch.inference_mode():
        for _ in range(WORDS - 1):
            logits = model(images, tokens, output_labels=False)["logits"]
            tokens = torch.cat([tokens, logits[:, -1].argmax(dim=-1)[:, None]], dim=1)
    return tokens.numpy()
