"""What `radserve evaluate roc` is asked to do, checked."""

from __future__ import annotations

from dataclasses import dataclass

from radserve.evaluation.auc_tests import Scale, check_level
from radserve.evaluation.partial_auc import Focus
from radserve.evaluation.tables import refusal

DEFAULT_REPLICATES = 2000


@dataclass(frozen=True)
class RocOptions:
    """What to evaluate. `partial` are the bounds of the partial AUC; `compare` pairs of score columns, A - B.

    `replicates` above 0 takes the intervals of single areas from the bootstrap; so does `cluster`, which also puts
    Obuchowski's clustered variance in place of DeLong's.
    """

    label: str
    scores: tuple[str, ...]
    positive: str | None = None
    level: float = 0.95
    scale: Scale = "symmetric"
    partial: tuple[float, float] | None = None
    focus: Focus = "specificity"
    compare: tuple[tuple[str, str], ...] = ()
    unpaired: bool = False
    threshold: float | None = None
    at_sensitivity: float | None = None
    at_specificity: float | None = None
    prevalence: float | None = None
    group: str | None = None
    cluster: str | None = None
    replicates: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_level(self.level)
        if not self.scores or len(set(self.scores)) < len(self.scores):
            raise refusal(f"--score: got {list(self.scores)}, expected one or more different columns")
        for column in {name for pair in self.compare for name in pair} - set(self.scores):
            raise refusal(f"--compare: column {column!r} is not among the --score columns {list(self.scores)}")
        if self.replicates < 0:
            raise refusal(f"--bootstrap: got {self.replicates}, expected a number of replicates above 0")

        if self.seed < 0:
            raise refusal(f"--seed: got {self.seed}, expected 0 or more")

    @property
    def draws(self) -> int:
        return self.replicates or (DEFAULT_REPLICATES if self.cluster else 0)
