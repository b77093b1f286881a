"""The graphs of a pack: three names with a contract of their own, and classifiers and segmenters under any other."""

from __future__ import annotations

from dataclasses import dataclass

from radserve.tensors import TensorSpec

IMAGE_ENCODER, TEXT_ENCODER, DECODER_STEP = "image_encoder", "text_encoder", "decoder_step"
GRAPH_NAMES = (IMAGE_ENCODER, TEXT_ENCODER, DECODER_STEP)


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """One ONNX graph of a pack: its file and hash, batch sizes, and the tensors read from the graph itself."""

    name: str
    file: str
    sha256: str
    max_batch_size: int
    preferred_batch_sizes: tuple[int, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: str = "fp32"

    def tensor(self, name: str) -> TensorSpec:
        """The input or output called `name`."""
        return next(spec for spec in (*self.inputs, *self.outputs) if spec.name == name)

    def has_output(self, name: str) -> bool:
        return any(spec.name == name for spec in self.outputs)
