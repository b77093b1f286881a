"""How often generated text went beyond the findings: the checker's counts in results, as rates with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from radserve.evaluation.rates import clopper_pearson_interval
from radserve.evaluation.tables import refusal


def hallucination_rates(results: Iterable[Mapping[str, Any]], level: float = 0.95) -> dict[str, Any]:
    """Rates over result.json objects: texts withheld of all texts, and faults of each class of all sentences.

    Results without generated text count as `without_text` only. A class may count once more than sentences say
    (omitted findings belong to no sentence), so faults are told per sentence without an interval. Raises
    RadserveError where no result has a text.
    """
    found, texts, withheld, sentences, without = 0, 0, 0, 0, 0
    faults: Counter[str] = Counter()
    for result in results:
        found += 1
        record = result.get("generation")
        if not record:
            without += 1
            continue
        texts += record["texts"]
        withheld += record["withheld"]
        sentences += record["sentences"]
        faults.update(record["faults"])
    if not texts:
        raise refusal(f"none of the {found} results has a generated text")
    low, high = clopper_pearson_interval(withheld, texts, level)
    return {
        "results": found,
        "without_text": without,
        "texts": texts,
        "withheld": withheld,
        "withheld_rate": {"value": withheld / texts, "low": low, "high": high, "level": level},
        "sentences": sentences,
        "faults": dict(sorted(faults.items())),
        "faults_per_sentence": {name: count / sentences for name, count in sorted(faults.items())} if sentences else {},
    }
