"""Distillation: a smaller image encoder learns to give what the pack's own gives, embedding, tokens and patches.

The teacher is the pack's ONNX graph, so any encoder with a square map of patches can be one. Text encoder, decoder,
prompts and calibration stay as they are. Images are shifted and blended, and teacher and student see the same ones
("function matching", Beyer et al., CVPR 2022, arXiv 2106.05237).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from radserve.errors import ErrorCode, PackError
from radserve.models.compress.samples import FloatArray, Samples
from radserve.models.compress.scores import pack_scores
from radserve.models.onnx_graph import OnnxGraph
from radserve.models.pack import ModelPack

OPSET = 18
BATCH = 128
RATE = 3e-3


class Student(nn.Module):
    """A few convolutions to a map of `grid` x `grid`, then tokens (N, P, C) and patches (N, P, E) that add up to the
    unit embedding (N, E)."""

    def __init__(self, channels: int, width: int, grid: int, tokens: int, embedding: int) -> None:
        super().__init__()
        self.grid = grid
        self.body = nn.Sequential(
            _block(channels, width, 2), _block(width, 2 * width, 2), _block(2 * width, 2 * width, 1)
        )
        self.tokens = nn.Conv2d(2 * width, tokens, 1)
        self.projection = nn.Conv2d(2 * width, embedding, 1, bias=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        side = 4 * self.grid
        if pixels.shape[-2:] != (side, side):
            pixels = functional.interpolate(pixels, size=(side, side), mode="bilinear", align_corners=False)
        features = self.body(pixels)
        patches = self.projection(features)
        total = patches.sum(dim=(2, 3), keepdim=True)
        length = total.norm(dim=1, keepdim=True)
        by_patch = (patches / length).flatten(2).transpose(1, 2)
        return (total / length).flatten(1), self.tokens(features).flatten(2).transpose(1, 2), by_patch


def distill_encoder(
    pack: ModelPack, encoder: str, train: Sequence[Samples], *, steps: int, width: int, seed: int = 0
) -> bytes:
    """Train a student of an image encoder on the images of `train`, which are those it sees; return its graph.

    Raises PACK_INVALID for an encoder without places.
    """
    teacher = pack.graphs[encoder]
    if not (teacher.has_output("image_tokens") and teacher.has_output("patch_embeddings")):
        raise PackError(ErrorCode.PACK_INVALID, "distillation needs an image encoder with tokens and patch embeddings")
    patches, tokens = teacher.tensor("image_tokens").shape[1:]
    grid = math.isqrt(patches)
    if grid * grid != patches:
        raise PackError(ErrorCode.PACK_INVALID, f"distillation needs a square map of patches, got {patches} patches")
    torch.manual_seed(seed)
    embedding = teacher.tensor("embedding").shape[1]
    channels = teacher.inputs[0].shape[1]
    student = Student(channels, width, grid, tokens, embedding)
    scores = pack_scores(pack)
    found = [scores.directions[each.label] for each in train if each.label in scores.directions]
    if not found:
        raise PackError(ErrorCode.PACK_INVALID, "distillation needs a label that is scored by prompts")
    directions = torch.tensor(np.stack(found), dtype=torch.float32)
    _learn(student, scores.graphs[encoder], train, directions, steps, seed)
    return _export(student.eval(), teacher.inputs[0].shape[1:])


def _learn(
    student: Student, teacher: OnnxGraph, train: Sequence[Samples], directions: Tensor, steps: int, seed: int
) -> None:
    optimiser = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    student.train()
    for pixels in _batches(train, steps, seed):
        taught = {name: torch.from_numpy(array) for name, array in teacher.run({"pixels": pixels}).items()}
        embedding, tokens, _ = student(torch.from_numpy(pixels))
        difference = embedding - taught["embedding"]
        scale = taught["image_tokens"].pow(2).mean().clamp(min=1e-6)
        loss = (
            (1 - functional.cosine_similarity(embedding, taught["embedding"])).mean()
            + (difference @ directions.T).pow(2).mean()
            + (tokens - taught["image_tokens"]).pow(2).mean() / scale
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()


def _batches(train: Sequence[Samples], steps: int, seed: int) -> Iterator[FloatArray]:
    """Images of all labels in equal parts, shifted by up to two pixels; half of them blended with another."""
    rng = np.random.default_rng(seed)
    share = BATCH // len(train)
    for _ in range(steps):
        drawn = [each.pixels[rng.integers(0, len(each.pixels), share)] for each in train]
        pixels = np.concatenate(drawn)
        down, right = rng.integers(-2, 3, 2)
        padded = np.pad(pixels, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
        rows, columns = pixels.shape[2:]
        pixels = padded[:, :, 2 + down : 2 + down + rows, 2 + right : 2 + right + columns]
        part = (rng.random((len(pixels), 1, 1, 1)) * (rng.random((len(pixels), 1, 1, 1)) < 0.5)).astype(np.float32)
        blended = (1 - part) * pixels + part * pixels[rng.permutation(len(pixels))]
        yield np.ascontiguousarray(blended, dtype=np.float32)


def _block(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU()
    )


def _export(student: Student, shape: tuple[int, ...]) -> bytes:
    names = ("embedding", "image_tokens", "patch_embeddings")
    batch = torch.export.Dim("batch", min=1, max=4096)
    with tempfile.TemporaryDirectory() as folder:
        program = torch.onnx.export(
            student,
            (torch.zeros(2, *shape),),
            input_names=["pixels"],
            output_names=list(names),
            dynamic_shapes=({0: batch},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        if program is None:
            raise RuntimeError("the exporter returned nothing")
        for node in program.model.graph:
            for value in node.outputs:
                if value.name in names and not value.is_graph_output():
                    value.name = f"{value.name}_inner"
        path = Path(folder) / "student.onnx"
        program.save(str(path), external_data=False)
        return path.read_bytes()
