"""Runs the exported graphs with ONNX Runtime, for the parity check and the tests of the export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import onnxruntime

from radserve.models.pack_graphs import DECODER_STEP, IMAGE_ENCODER, TEXT_ENCODER
from radserve.models.tokenizer import START, PackTokenizer

FloatArray = npt.NDArray[np.float32]


class OnnxModel:
    """The graphs of a pack folder on the CPU; `image_encoder` is the name of the one that sees the images.

    `files` are those of the graphs that are not named after them.
    """

    def __init__(
        self, folder: Path, image_encoder: str = IMAGE_ENCODER, files: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._image, self._text, self._step = (
            _session(folder / files.get(name, f"{name}.onnx")) for name in (image_encoder, TEXT_ENCODER, DECODER_STEP)
        )

    def encode_image(self, pixels: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Embedding (N, E), image tokens (N, P, C) and patch embeddings (N, P, E) of (N, 1, 28, 28)."""
        embedding, tokens, patches = self._image.run(None, {"pixels": pixels})
        return embedding, tokens, patches

    def encode_text(self, tokens: npt.NDArray[np.int64]) -> FloatArray:
        """Embeddings (N, E) of (N, T)."""
        (embedding,) = self._text.run(None, {"tokens": tokens})
        return embedding  # type: ignore[no-any-return]

    def step(
        self, token: npt.NDArray[np.int64], position: npt.NDArray[np.int64], image_tokens: FloatArray, cache: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Logits (N, V) and the new cache; see `graphs.DecoderStep`."""
        inputs = {"token": token, "position": position, "image_tokens": image_tokens, "cache": cache}
        logits, cache_out = self._step.run(None, inputs)
        return logits, cache_out

    def empty_cache(self, batch: int) -> FloatArray:
        shape = next(each.shape for each in self._step.get_inputs() if each.name == "cache")
        return np.zeros((batch, *shape[1:]), dtype=np.float32)

    def greedy_reports(
        self, tokenizer: PackTokenizer, image_tokens: FloatArray, start: str = START, max_tokens: int = 48
    ) -> list[list[int]]:
        """Token ids of the most likely report of each image, without start and end."""
        count = len(image_tokens)
        cache, reports = self.empty_cache(count), [[] for _ in range(count)]  # type: tuple[FloatArray, list[list[int]]]
        token = np.full((count, 1), tokenizer.special_id(start), dtype=np.int64)
        ended = np.zeros(count, dtype=bool)
        for step in range(max_tokens):
            logits, cache = self.step(token, np.full_like(token, step), image_tokens, cache)
            word = logits.argmax(axis=1)
            ended |= word == tokenizer.end_id
            _append(reports, word, ended)
            if ended.all():
                break
            token = word[:, None].astype(np.int64)
        return reports

    def caption_logits(self, captions: npt.NDArray[np.int64], image_tokens: FloatArray) -> FloatArray:
        """Logits (N, T, V) of the words after every word of the captions (N, T), by one step per word."""
        cache, logits = self.empty_cache(len(captions)), []
        for step in range(captions.shape[1]):
            token = captions[:, step : step + 1]
            words, cache = self.step(token, np.full_like(token, step), image_tokens, cache)
            logits.append(words)
        return np.stack(logits, axis=1)


def _append(reports: Sequence[list[int]], words: npt.NDArray[np.int64], ended: npt.NDArray[np.bool_]) -> None:
    for report, word, done in zip(reports, words.tolist(), ended.tolist(), strict=True):
        if not done:
            report.append(word)


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
