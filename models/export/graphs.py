"""The encoders of a pack as PyTorch modules, as ONNX export traces them; the third graph is `DecoderStep`."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from radserve.models.train.architecture import RadCoCa


class ImageEncoder(nn.Module):
    """`pixels` (N, 1, 28, 28) -> `embedding` (N, E), `image_tokens` (N, P, C), `patch_embeddings` (N, P, E).

    Of an input's own towers, or of those of all other inputs. The patch embeddings add up to the embedding, so their
    product with a text direction is an exact map of the score.
    """

    def __init__(self, model: RadCoCa, input_name: str = "") -> None:
        super().__init__()
        self.tower = model.tower_of(input_name)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.tower.with_patches(pixels)


class TextEncoder(nn.Module):
    """`tokens` (N, T) int64 -> `embedding` (N, E), L2-normalised."""

    def __init__(self, model: RadCoCa) -> None:
        super().__init__()
        self.tower = model.text

    def forward(self, tokens: Tensor) -> Tensor:
        pooled, _ = self.tower(tokens)
        return functional.normalize(pooled, dim=-1)
