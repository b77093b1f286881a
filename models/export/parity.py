"""The gate of the export: ONNX Runtime must give what PyTorch gives, or there is no pack."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from radserve.errors import ErrorCode, PackError
from radserve.models.export.onnx_graphs import OPSET, encoder_name
from radserve.models.export.onnx_model import OnnxModel
from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.architecture import RadCoCa
from radserve.models.train.prompt_file import Prompts
from radserve.models.train.scoring import greedy_reports, prepared_pixels
from radserve.models.train.wordings import START_TOKENS, WORDINGS

TOLERANCE = 1e-4
LOGIT_TOLERANCE = 1e-3  # logits reach about 20, embeddings 1


@dataclass(frozen=True)
class ParityReport:
    """Largest absolute differences between ONNX and PyTorch, and how many greedy reports were the same."""

    opset: int
    images: str
    image_count: int
    image_embedding: float
    image_tokens: float
    text_embedding: float
    patch_sum: float
    decoder_logits: float
    reports_compared: int
    reports_identical: int
    tolerance: float = TOLERANCE
    logit_tolerance: float = LOGIT_TOLERANCE

    @property
    def passed(self) -> bool:
        # `not (x > tolerance)` would let NaN through.
        differences = (self.image_embedding, self.text_embedding, self.patch_sum)
        same = self.reports_identical == self.reports_compared
        close = all(difference <= self.tolerance for difference in differences)
        return same and close and self.decoder_logits <= self.logit_tolerance

    def save(self, folder: Path) -> None:
        (folder / "parity.json").write_text(json.dumps(asdict(self), indent=2) + "\n")


def check_parity(
    model: RadCoCa,
    tokenizer: PackTokenizer,
    prompts: Prompts,
    folder: Path,
    images: Mapping[str, npt.NDArray[np.uint8]],
    images_from: str,
    max_tokens: int,
) -> ParityReport:
    """Compare the graphs in `folder` with `model` on every prompt and on `images`, by input, (N, 28, 28) uint8.

    Reports are decoded with ONNX and its cache on one side, and by full recomputation through CoCa's own forward on
    the other. Raises PackError (PACK_INVALID) with the figures when they differ.
    """
    reports = []
    for name, seen in images.items():
        graphs = OnnxModel(folder, encoder_name(name, model.config.own_towers))
        reports.append(_compare(model, tokenizer, prompts, graphs, name, seen, images_from, max_tokens))
    report = _worst(reports)
    if not report.passed:
        raise PackError(ErrorCode.PACK_INVALID, f"ONNX and PyTorch differ: {json.dumps(asdict(report))}")
    return report


@torch.inference_mode()
def _compare(
    model: RadCoCa,
    tokenizer: PackTokenizer,
    prompts: Prompts,
    graphs: OnnxModel,
    input_name: str,
    images: npt.NDArray[np.uint8],
    images_from: str,
    max_tokens: int,
) -> ParityReport:
    pixels = prepared_pixels(model, images)
    embedding, tokens = (each.numpy() for each in model.encode(pixels, input_name))
    found = graphs.encode_image(pixels.numpy())
    captions = _some_captions(tokenizer, len(images))
    texts = np.stack([tokenizer.encode_prompt(text) for sides in prompts.values() for side in sides for text in side])
    text_embedding = model.encode_text(torch.from_numpy(texts)).numpy()
    starts = START_TOKENS.values()
    expected = [
        each for start in starts for each in greedy_reports(model, tokenizer, images, input_name, start, max_tokens)
    ]
    reports = [each for start in starts for each in graphs.greedy_reports(tokenizer, found[1], start, max_tokens)]
    return ParityReport(
        opset=OPSET,
        images=images_from,
        image_count=len(images),
        image_embedding=_difference(found[0], embedding),
        image_tokens=_difference(found[1], tokens),
        text_embedding=_difference(graphs.encode_text(texts), text_embedding),
        patch_sum=_difference(found[2].sum(axis=1), found[0]),
        decoder_logits=_difference(graphs.caption_logits(captions, found[1]), _caption_logits(model, captions, tokens)),
        reports_compared=len(expected),
        reports_identical=sum(one == other for one, other in zip(expected, reports, strict=True)),
    )


def _some_captions(tokenizer: PackTokenizer, count: int) -> npt.NDArray[np.int64]:
    """`count` training reports (count, T), cut to the shortest, so that no row has padding."""
    texts = [text for wording in WORDINGS for state in (True, False) for text in wording.reports(state)]
    rows = [[tokenizer.start_id, *tokenizer.encode_words(text)] for text in texts]
    rows = [rows[index * len(rows) // count] for index in range(count)]
    return np.array([row[: min(map(len, rows))] for row in rows], dtype=np.int64)


def _caption_logits(
    model: RadCoCa, captions: npt.NDArray[np.int64], tokens: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    seen = torch.from_numpy(tokens)
    output = model(None, torch.from_numpy(captions), image_latent=seen, image_embs=seen, output_labels=False)
    logits: npt.NDArray[np.float32] = output["logits"].numpy()
    return logits


def _worst(reports: Sequence[ParityReport]) -> ParityReport:
    """The largest differences of all, and all reports together. NaN is the largest."""
    differences = ("image_embedding", "image_tokens", "text_embedding", "patch_sum", "decoder_logits")
    counts = ("image_count", "reports_compared", "reports_identical")
    found: dict[str, Any] = {
        **{name: float(np.max([getattr(each, name) for each in reports])) for name in differences},
        **{name: sum(getattr(each, name) for each in reports) for name in counts},
    }
    return replace(reports[0], **found)


def seeded_images(count: int, seed: int = 7) -> npt.NDArray[np.uint8]:
    """Smooth random images (count, 28, 28) uint8, for an export where the data sets are not at hand."""
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(0, 255, (count, 7, 7)).astype(np.float32)
    smooth = torch.nn.functional.interpolate(torch.from_numpy(coarse)[:, None], size=(28, 28), mode="bilinear")
    noise = generator.normal(0, 8, (count, 28, 28))
    images: npt.NDArray[np.uint8] = np.clip(smooth[:, 0].numpy() + noise, 0, 255).astype(np.uint8)
    return images


def _difference(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    return float(np.abs(one - other).max())
