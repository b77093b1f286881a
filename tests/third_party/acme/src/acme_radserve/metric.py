"""The share of a report's words that its first reference has too."""

from __future__ import annotations


def same_words(hypotheses, references):
    pairs = [(said.split(), truths[0].split()) for said, truths in zip(hypotheses, references, strict=True)]
    return [sum(word in truth for word in said) / max(1, len(said)) for said, truth in pairs]
