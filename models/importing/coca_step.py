"""One word of a report by any CoCa of open_clip, with the cache of fixed length that packs have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from radserve.models.train.decoder_step import DecoderStep


class CocaDecoderStep(DecoderStep):
    """`DecoderStep` for a CoCa of any size. The words of a text tower with a class token are not normalised."""

    def __init__(self, model: Any) -> None:
        nn.Module.__init__(self)
        tower, decoder = model.text, model.text_decoder
        words: Any = _Words(tower)
        self.text, self.decoder = words, decoder
        blocks = [*tower.transformer.resblocks, *decoder.resblocks]
        self.heads = blocks[0].attn.num_heads
        length = min(tower.context_length, decoder.context_length)
        self.cache_shape = (2 * len(blocks), length, tower.token_embedding.embedding_dim)
        self.steps: Tensor
        self.register_buffer("steps", torch.arange(length))


class _Words(nn.Module):
    """What the step needs of a text tower."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.token_embedding = tower.token_embedding
        self.positional_embedding = tower.positional_embedding
        self.transformer = tower.transformer
        self.ln_final = nn.Identity() if tower.cls_emb is not None else tower.ln_final
