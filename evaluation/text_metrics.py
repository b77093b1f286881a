"""How alike generated and reference reports are, word by word: BLEU, ROUGE and a METEOR-like score.

Each function takes hypotheses and, for each of them, one reference or several, and returns values per report, so that
intervals and paired tests (text_significance) resample reports. CIDEr stands in text_cider. None of these knows
medicine: a report may score high and say the opposite (labeller_scores looks at what it says).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from radserve.evaluation.tables import refusal

FloatArray = NDArray[np.float64]
BLEU_ORDER = 4

_WORDS = re.compile(r"[a-z0-9]+")
_ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}
_PUNCTUATION = re.compile(r"""([!"#$%&()*+/:;<=>?@\[\\\]^_`{|}~])""")


def words(text: str) -> list[str]:
    """Return the runs of letters a-z and digits of `text` in lower case, as ROUGE counts words."""
    return _WORDS.findall(text.lower())


def bleu_tokens(text: str) -> list[str]:
    """Return the tokens of the "13a" rule of NIST's mteval-v13a, case kept: what published BLEU scores use."""
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES.items():
        text = text.replace(entity, character)
    text = _PUNCTUATION.sub(r" \1 ", f" {text} ")
    text = re.sub(r"([^0-9])([.,])", r"\1 \2 ", text)  # a point or comma stays only between two digits
    text = re.sub(r"([.,])([^0-9])", r" \1 \2", text)
    return re.sub(r"([0-9])(-)", r"\1 \2 ", text).split()


@dataclass(frozen=True)
class Bleu:
    """BLEU of a corpus, 0 to 100, with its parts: precisions (%) of 1- to 4-grams and lengths in tokens."""

    score: float
    precisions: tuple[float, ...]
    brevity_penalty: float
    hypothesis_length: int
    reference_length: int


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Bleu:
    """Return the corpus BLEU (Papineni et al., ACL 2002; 13a tokens, exponential smoothing, closest reference length).

    `references[i]` are the references of `hypotheses[i]`.
    Raises RadserveError INVALID_ARGUMENT when there are no reports, the lengths differ or a report has no reference.
    """
    return bleu_of(bleu_statistics(hypotheses, references).sum(axis=0))


def sentence_bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
    """Return the BLEU of each report (0 to 100), n-gram orders without any n-gram left out ("effective order")."""
    statistics = bleu_statistics(hypotheses, references)
    return np.array([bleu_of(row, effective_order=True).score for row in statistics], dtype=np.float64)


def bleu_statistics(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Return (reports, 10): hypothesis and reference length, 4 counts of matched n-grams, 4 counts of all n-grams.

    Their sum over reports is all that `bleu_of` needs, which is what resampling uses.
    """
    check_reports(hypotheses, references)
    return np.array([_bleu_row(each, refs) for each, refs in zip(hypotheses, references, strict=True)], dtype=np.int64)


def bleu_of(statistics: NDArray[np.int64], *, effective_order: bool = False) -> Bleu:
    """Return BLEU from summed statistics, shape (10,)."""
    lengths, matched, total = statistics[:2], statistics[2 : 2 + BLEU_ORDER], statistics[2 + BLEU_ORDER :]
    hypothesis, reference = int(lengths[0]), int(lengths[1])
    penalty = 1.0
    if hypothesis < reference:
        penalty = math.exp(1 - reference / hypothesis) if hypothesis else 0.0
    precisions = [0.0] * BLEU_ORDER
    smoothing, orders = 1.0, 0
    for order in range(BLEU_ORDER):
        if total[order] == 0:
            break
        orders = order + 1
        if matched[order] == 0:
            smoothing *= 2.0
            precisions[order] = 100.0 / (smoothing * int(total[order]))
        else:
            precisions[order] = 100.0 * int(matched[order]) / int(total[order])
    used = orders if effective_order else BLEU_ORDER
    score = 0.0
    if matched.any() and used and min(precisions[:used]) > 0:
        score = penalty * math.exp(sum(map(math.log, precisions[:used])) / used)
    return Bleu(score, tuple(precisions), penalty, hypothesis, reference)


@dataclass(frozen=True)
class Rouge:
    """Precision, recall and F1 of each report, float64 of shape (reports,), 0 to 1."""

    precision: FloatArray
    recall: FloatArray
    f1: FloatArray


def rouge_n(hypotheses: Sequence[str], references: Sequence[Sequence[str]], order: int) -> Rouge:
    """Return ROUGE-n (Lin, 2004): clipped n-gram overlap; of several references the one with the best F1.

    Words are those of `words`, unstemmed.
    """
    return _best_rouge(hypotheses, references, lambda said, truth: _overlap(said, truth, order))


def rouge_l(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Rouge:
    """Return ROUGE-L (Lin, 2004) over the whole report: the longest common subsequence of words, F with beta 1."""
    return _best_rouge(
        hypotheses, references, lambda said, truth: _ratios(longest_common(said, truth), len(said), len(truth))
    )


def meteor_like(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    alpha: float = 0.9,
    beta: float = 3.0,
    gamma: float = 0.5,
) -> FloatArray:
    """Return a METEOR-like score of each report, shape (reports,), 0 to 1; of several references the best.

    As Lavie and Agarwal (WMT 2007), but for two things: words match when equal or when equal without a plural ending
    (Harman's S-stemmer), never by synonym, and the alignment pairs words greedily from the end. Hence "like": values
    are not comparable with METEOR's published ones.
    """
    check_reports(hypotheses, references)
    return np.array(
        [
            max(_meteor(words(said), words(truth), alpha, beta, gamma) for truth in truths)
            for said, truths in zip(hypotheses, references, strict=True)
        ],
        dtype=np.float64,
    )


def singular(word: str) -> str:
    """Return `word` without a plural ending by Harman's S-stemmer (JASIS 42:7-15, 1991)."""
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")):
        return word[:-1]
    return word


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence of two lists of words."""
    previous = [0] * (len(other) + 1)
    for word in one:
        current = [0]
        for column, candidate in enumerate(other):
            current.append(previous[column] + 1 if word == candidate else max(previous[column + 1], current[-1]))
        previous = current
    return previous[-1]


def ngrams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    """Return how often each run of `order` tokens occurs."""
    return Counter(tuple(tokens[start : start + order]) for start in range(len(tokens) - order + 1))


def check_reports(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Raise RadserveError INVALID_ARGUMENT unless every hypothesis has at least one reference."""
    if len(hypotheses) != len(references):
        raise refusal(f"reports: got {len(references)} lists of references for {len(hypotheses)} hypotheses")
    if not hypotheses:
        raise refusal("reports: got none, expected at least one")
    for row, each in enumerate(references, start=1):
        if isinstance(each, str) or not each:
            raise refusal(f"references, row {row}: got {'text' if each else 'none'}, expected a list of at least one")


def _bleu_row(hypothesis: str, references: Sequence[str]) -> list[int]:
    said = bleu_tokens(hypothesis)
    truths = [bleu_tokens(each) for each in references]
    closest = min((abs(len(each) - len(said)), len(each)) for each in truths)[1]
    matched, total = [], []
    for order in range(1, BLEU_ORDER + 1):
        counts, allowed = ngrams(said, order), Counter[tuple[str, ...]]()
        for each in truths:
            allowed |= ngrams(each, order)
        matched.append(sum((counts & allowed).values()))
        total.append(sum(counts.values()))
    return [len(said), closest, *matched, *total]


def _best_rouge(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    score: Callable[[list[str], list[str]], tuple[float, float, float]],
) -> Rouge:
    check_reports(hypotheses, references)
    best = np.array(
        [
            max((score(words(said), words(truth)) for truth in truths), key=lambda each: each[2])
            for said, truths in zip(hypotheses, references, strict=True)
        ],
        dtype=np.float64,
    )
    best.setflags(write=False)
    return Rouge(best[:, 0], best[:, 1], best[:, 2])


def _overlap(said: list[str], truth: list[str], order: int) -> tuple[float, float, float]:
    one, other = ngrams(said, order), ngrams(truth, order)
    return _ratios(sum((one & other).values()), sum(one.values()), sum(other.values()))


def _ratios(common: int, said: int, truth: int) -> tuple[float, float, float]:
    precision, recall = common / max(said, 1), common / max(truth, 1)
    return precision, recall, 2 * precision * recall / (precision + recall) if common else 0.0


def _meteor(said: list[str], truth: list[str], alpha: float, beta: float, gamma: float) -> float:
    pairs = sorted(_aligned(said, truth))
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(said), len(pairs) / len(truth)
    mean = precision * recall / (alpha * precision + (1 - alpha) * recall)
    runs = 1 + sum((b[0] - a[0], b[1] - a[1]) != (1, 1) for a, b in pairwise(pairs))
    return mean * (1.0 - gamma * math.pow(runs / len(pairs), beta))


def _aligned(said: list[str], truth: list[str]) -> list[tuple[int, int]]:
    """Pair equal words, then words of equal singular, each pass from the end; a word is used once."""
    pairs: dict[int, int] = {}
    for form in (str, singular):
        used = set(pairs.values())
        places: dict[str, list[int]] = {}
        for place in range(len(truth)):
            if place not in used:
                places.setdefault(form(truth[place]), []).append(place)
        for place in reversed(range(len(said))):
            if place not in pairs and places.get(form(said[place])):
                pairs[place] = places[form(said[place])].pop()
    return list(pairs.items())
