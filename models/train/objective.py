"""What the training minimises: label-aware contrast of images and texts, prompt pairs, and captions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from radserve.models.train.architecture import RadCoCa


@dataclass(frozen=True)
class LossWeights:
    prompts: float = 1.0
    contrast: float = 0.5
    captions: float = 0.5
    label_smoothing: float = 0.05


def prompt_directions(model: RadCoCa, prompts: Tensor) -> Tensor:
    """One unit vector per (task, state): the re-normalised mean of its prompts' normalised embeddings.

    `prompts` (tasks, 2, P, T) int64, state 0 negative and 1 positive; returns (tasks, 2, E).
    """
    tasks, states, count, length = prompts.shape
    embeddings = model.encode_text(trimmed(prompts.reshape(-1, length), model.pad_id)).reshape(tasks, states, count, -1)
    return functional.normalize(embeddings.mean(dim=2), dim=-1)


def prompt_logits(images: Tensor, directions: Tensor, tasks: Tensor, logit_scale: Tensor) -> Tensor:
    """logit_scale * (cos(image, positive) - cos(image, negative)) of each image's own task, shape (N,)."""
    difference = directions[:, 1] - directions[:, 0]
    return logit_scale * (images * difference[tasks]).sum(dim=-1)


def prompt_loss(logits: Tensor, positive: Tensor, smoothing: float) -> Tensor:
    """Binary cross-entropy with smoothed labels; `positive` (N,), of a mixed image its share of the positive state."""
    targets = positive.float() * (1 - 2 * smoothing) + smoothing
    return functional.binary_cross_entropy_with_logits(logits, targets)


def trimmed(texts: Tensor, pad_id: int) -> Tensor:
    """Texts (N, T) without the columns that are padding in all of them; causal towers give the same without them."""
    return texts[:, : int((texts != pad_id).sum(dim=1).max())]


def contrast_loss(images: Tensor, texts: Tensor, image_classes: Tensor, text_classes: Tensor, scale: Tensor) -> Tensor:
    """Contrast in which every text of the same class is a positive (UniCL, Yang et al., CVPR 2022), both ways."""
    logits = scale * images @ texts.T
    same = (image_classes[:, None] == text_classes[None, :]).float()
    to_texts = -(same / same.sum(1, keepdim=True).clamp(min=1) * logits.log_softmax(1)).sum(1).mean()
    to_images = -(same / same.sum(0, keepdim=True).clamp(min=1) * logits.log_softmax(0)).sum(0).mean()
    return (to_texts + to_images) / 2


def caption_loss(model: RadCoCa, image_tokens: Tensor, text_tokens: Tensor, captions: Tensor) -> Tensor:
    """Next-word cross-entropy under teacher forcing; padding does not count.

    `text_tokens` (N, T, W) come from the text tower for `captions` (N, T).
    """
    logits = model.text_decoder(image_tokens, text_tokens)[:, :-1]
    return functional.cross_entropy(logits.transpose(1, 2), captions[:, 1:], ignore_index=model.pad_id)


def total_loss(
    model: RadCoCa,
    weights: LossWeights,
    pixels: Tensor,
    tasks: Tensor,
    positive: Tensor,
    captions: Tensor,
    captioned: Tensor,
    prompts: Tensor,
) -> Tensor:
    """The weighted sum for one batch.

    `pixels` (N, 1, 28, 28) normalised; `tasks`, `positive` (N,); `captions` (K, T) belong to the images at the
    indices `captioned` (K,), a part of the batch since the decoder costs as much as the image tower.
    """
    scale = model.scale
    images, image_tokens = model._encode_image(pixels)
    directions = prompt_directions(model, prompts)
    loss = weights.prompts * prompt_loss(
        prompt_logits(images, directions, tasks, scale), positive, weights.label_smoothing
    )
    captions = trimmed(captions, model.pad_id)
    texts, text_tokens = model._encode_text(captions)
    classes = tasks * 2 + positive.long()
    loss = loss + weights.contrast * contrast_loss(images, texts, classes, classes[captioned], scale)
    return loss + weights.captions * caption_loss(model, image_tokens[captioned], text_tokens, captions)
