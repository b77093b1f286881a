"""The report decoder one word at a time, with a cache of fixed length: what is exported and served."""

from __future__ import annotations

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional

from radserve.models.tokenizer import START, PackTokenizer
from radserve.models.train.architecture import RadCoCa


class DecoderStep(nn.Module):
    """One word of every report in the batch, each at its own position.

    `token`, `position` (N, 1) int64, `image_tokens` (N, P, C), `cache` (N, 2 * L, T, W) -> `logits` (N, V),
    `cache_out`. The cache holds keys and values of the self-attention layers in turn (layer 0 keys, layer 0 values,
    layer 1 keys ...), text layers before multimodal layers; it starts as zeros, and rows after `position` are masked.
    """

    def __init__(self, model: RadCoCa) -> None:
        super().__init__()
        self.text, self.decoder = model.word_tower, model.text_decoder
        self.heads = model.config.text_heads
        self.cache_shape = (2 * model.config.cached_layers, model.config.context_length, model.config.text_width)
        self.steps: Tensor
        self.register_buffer("steps", torch.arange(model.config.context_length))

    def empty_cache(self, batch: int) -> Tensor:
        """The cache before the first word."""
        return torch.zeros(batch, *self.cache_shape)

    def forward(self, token: Tensor, position: Tensor, image_tokens: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        here, visible = self.steps == position, self.steps <= position  # (N, T)
        x = self.text.token_embedding(token) + functional.embedding(position, self.text.positional_embedding)
        kept: list[Tensor] = []
        for block in self.text.transformer.resblocks:
            x = self._recall(block, x, cache, kept, here, visible)
        x = self.text.ln_final(x)
        for block, cross in zip(self.decoder.resblocks, self.decoder.cross_attn, strict=True):
            x = self._recall(block, x, cache, kept, here, visible)
            x = self._look(cross, x, image_tokens)
        logits = self.decoder.ln_final(x) @ self.decoder.text_projection
        return logits.squeeze(1), torch.stack(kept, dim=1)

    def _recall(
        self, block: ResidualAttentionBlock, x: Tensor, cache: Tensor, kept: list[Tensor], here: Tensor, visible: Tensor
    ) -> Tensor:
        """A causal self-attention block; appends its new keys and values to `kept`."""
        query, key, value = _projections(block.attn, block.ln_1(x))
        keys = torch.where(here.unsqueeze(-1), key, cache[:, len(kept)])
        values = torch.where(here.unsqueeze(-1), value, cache[:, len(kept) + 1])
        kept += [keys, values]
        return self._finish(block, x, query, keys, values, visible)

    def _look(self, block: ResidualAttentionBlock, x: Tensor, image_tokens: Tensor) -> Tensor:
        """A cross-attention block over the image tokens."""
        query = _projections(block.attn, block.ln_1(x))[0]
        _, keys, values = _projections(block.attn, block.ln_1_kv(image_tokens))
        return self._finish(block, x, query, keys, values, None)

    def _finish(
        self,
        block: ResidualAttentionBlock,
        x: Tensor,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        visible: Tensor | None,
    ) -> Tensor:
        attended = self._attend(query, keys, values, visible)
        x = x + block.ls_1(block.attn.out_proj(attended))
        out: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
        return out

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None) -> Tensor:
        width = query.shape[-1] // self.heads
        query, keys, values = (
            each.reshape(-1, each.shape[1], self.heads, width).transpose(1, 2) for each in (query, keys, values)
        )
        weights = query @ keys.transpose(2, 3) * width**-0.5
        if visible is not None:
            weights = weights.masked_fill(~visible[:, None, None, :], float("-inf"))
        mixed: Tensor = weights.softmax(dim=-1) @ values
        return mixed.transpose(1, 2).flatten(2)


def _projections(attention: nn.MultiheadAttention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = functional.linear(x, attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
    return query, key, value


@torch.inference_mode()
def reports_of_tokens(
    model: RadCoCa, tokenizer: PackTokenizer, image_tokens: Tensor, start: str = START, max_tokens: int = 48
) -> list[list[int]]:
    """The reports of `scoring.greedy_reports` from image tokens (N, P, C), many times faster."""
    decoder = DecoderStep(model)
    parts = torch.split(image_tokens, 64)  # the cache of more is slow memory
    return [report for part in parts for report in _reports(decoder, tokenizer, part, start, max_tokens)]


def _reports(
    decoder: DecoderStep, tokenizer: PackTokenizer, image_tokens: Tensor, start: str, max_tokens: int
) -> list[list[int]]:
    cache = decoder.empty_cache(len(image_tokens))
    words = [torch.full((len(image_tokens), 1), tokenizer.special_id(start))]
    ended = torch.zeros_like(words[0], dtype=torch.bool)
    for step in range(max_tokens):
        logits, cache = decoder(words[-1], torch.full_like(words[-1], step), image_tokens, cache)
        words.append(logits.argmax(dim=-1, keepdim=True))
        ended |= words[-1] == tokenizer.end_id
        if bool(ended.all()):
            break
    return [_until_end(row, tokenizer.end_id) for row in torch.cat(words[1:], dim=1).tolist()]


def _until_end(tokens: list[int], end_id: int) -> list[int]:
    return tokens[: tokens.index(end_id)] if end_id in tokens else tokens
