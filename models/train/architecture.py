"""The network of the default pack: open_clip's CoCa with small convolutional image towers.

CoCa (Yu et al., 2022, arXiv 2205.01917): an image tower, a causal text tower for the contrastive part, and a
multimodal decoder that cross-attends to the image tokens. Only the image towers are ours. An input may have towers of
its own, which learn against the texts as they are (Zhai et al., "LiT", CVPR 2022, with the other tower locked); the
decoder is shared, since the tokens of all towers have one shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from open_clip.coca_model import CoCa
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.nn import functional

from radserve.models.train.image_towers import ImageTower, JointImageTower, OwnImageTower
from radserve.models.train.model_config import IMAGE_CHANNELS, ModelConfig, Normalisation, Tower

__all__ = ["IMAGE_CHANNELS", "ModelConfig", "Normalisation", "RadCoCa", "Tower", "bounded_scale"]

_LARGEST_LOG_SCALE = math.log(30.0)


def bounded_scale(log_scale: Tensor) -> Tensor:
    """The factor from a cosine difference to a logit; bounded, since an unbounded one overfits."""
    return log_scale.clamp(max=_LARGEST_LOG_SCALE).exp()


class TextTower(TextTransformer):  # type: ignore[misc]  # open_clip ships no types
    """open_clip's causal text tower, for texts shorter than the context too."""

    def _embeds(self, text: Tensor) -> tuple[Tensor, Tensor]:
        embedded, mask = super()._embeds(text)
        length = text.shape[1]
        return embedded, mask[:length, :length]


class JointTextTower(nn.Module):
    """Text towers side by side, as `JointImageTower`; the report decoder reads the words of the first."""

    def __init__(self, towers: Sequence[TextTower]) -> None:
        super().__init__()
        self.towers = nn.ModuleList(towers)

    def forward(self, text: Tensor) -> tuple[Tensor, Tensor]:
        found = [tower(text) for tower in self.towers]
        pooled = [functional.normalize(each, dim=-1) for each, _ in found]
        return torch.cat(pooled, dim=1) * len(found) ** -0.5, found[0][1]


class RadCoCa(CoCa):  # type: ignore[misc]  # open_clip ships no types
    """open_clip's CoCa with our image towers, `TextTower`, and a decoder that starts from drawn weights."""

    def __init__(self, config: ModelConfig, pretrained: bool = False) -> None:
        text = {
            "context_length": config.context_length,
            "vocab_size": config.vocabulary_size,
            "width": config.text_width,
            "heads": config.text_heads,
            "layers": config.text_layers,
            "pad_id": config.pad_id,
            "eos_id": config.end_id,
            "pool_type": "eos",
            "output_tokens": True,
        }
        multimodal = {
            "context_length": config.context_length,
            "width": config.text_width,
            "heads": config.text_heads,
            "layers": config.multimodal_layers,
        }
        # open_clip always builds a vision transformer; the smallest one stands in until it is replaced below.
        vision = {"image_size": 28, "patch_size": 14, "width": 8, "head_width": 8, "layers": 1, "output_tokens": True}
        super().__init__(config.embedding_size, multimodal, text, vision, pad_id=config.pad_id)
        self.config = config
        towers = [TextTower(**text, output_dim=config.embedding_size) for _ in range(config.members)]
        joint = config.members > 1
        self.visual: Any = JointImageTower(config) if joint else ImageTower(config, pretrained)
        self.text: Any = JointTextTower(towers) if joint else towers[0]
        self.logit_scale = nn.Parameter(torch.tensor(10.0).log())
        own = {name: OwnImageTower(kinds, config) for name, kinds in config.own_towers.items()}
        self.own = nn.ModuleDict(own)
        self.own_scales = nn.ParameterDict({name: torch.tensor(10.0).log() for name in own})
        self._initialise_decoder()

    @property
    def word_tower(self) -> TextTower:
        """The text tower whose tokens the report decoder reads."""
        return self.text.towers[0] if self.config.members > 1 else self.text  # type: ignore[no-any-return]

    @property
    def scale(self) -> Tensor:
        """The factor from a cosine difference to a logit, of inputs without towers of their own."""
        return bounded_scale(self.logit_scale)

    def scale_of(self, input_name: str) -> Tensor:
        """The same of an input."""
        return bounded_scale(self.own_scales[input_name] if input_name in self.own else self.logit_scale)

    def own_tower(self, input_name: str) -> OwnImageTower:
        """The towers of an input that has some of its own."""
        found = self.own[input_name]
        assert isinstance(found, OwnImageTower)  # noqa: S101  # a ModuleDict does not know what it holds
        return found

    def tower_of(self, input_name: str) -> ImageTower | JointImageTower | OwnImageTower:
        """What sees the images of an input: towers of its own, or those of all inputs."""
        return self.own_tower(input_name) if input_name in self.own else self.visual

    def encode(self, pixels: Tensor, input_name: str) -> tuple[Tensor, Tensor]:
        """Unit embeddings (N, E) and tokens (N, P, C) of an input's images (N, 1, 28, 28), normalised."""
        pooled, tokens = self.tower_of(input_name)(pixels)
        return functional.normalize(pooled, dim=-1), tokens

    def _initialise_decoder(self) -> None:
        # open_clip leaves text_projection as uninitialised memory when a CoCa is built from scratch.
        width, layers = self.config.text_width, self.config.multimodal_layers
        nn.init.normal_(self.text_decoder.text_projection, std=width**-0.5)
        for block in [*self.text_decoder.resblocks, *self.text_decoder.cross_attn]:
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
