"""Labelled studies with known scores, and the packs that read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from radserve.evaluation.gates import Profile
from radserve.server.reevaluation import HOUR_S, Reevaluation, ReferenceCase, gated
from tests.support.operation import PROFILE, Operated, make_versions
from tests.support.pipeline import MemorySource, images_of
from tests.support.workflow import VirtualClock

COUNT = 12
NOW = 1_800_000_000.0


class Site(Operated):
    """Packs over twelve stored studies of one image each, whose scores are known."""

    def __init__(self, folder: Path) -> None:
        make_versions(folder / "packs", "1.0.0")
        super().__init__(folder)
        images = [next(images_of(study=f"s{n}", series=f"x{n}")) for n in range(1)]
        images += [list(images_of(n + 1, study=f"s{n}", series=f"x{n}"))[n] for n in range(1, COUNT)]
        self.source = MemorySource(images)
        self.studies = [image.instance.study_instance_uid for image in images]
        self.clock = VirtualClock(NOW)

    async def scores(self) -> dict[str, float]:
        from radserve.server.reevaluation import _analysed

        async with self.packs.lease("") as analyser:
            return {uid: (await _analysed(analyser, uid)).findings[0].score for uid in self.studies}

    def job(self, cases: list[ReferenceCase], profile: Profile = PROFILE) -> Reevaluation:
        return Reevaluation(self.packs, tuple(cases), gated(profile), self.folder / "runs", self.clock, HOUR_S)

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_bytes()) for path in sorted((self.folder / "runs").glob("*.json"))]


def labelled(scores: dict[str, float], *, wrong: int) -> list[ReferenceCase]:
    """Labels that the scores tell apart, but for so many of each class, the furthest ones."""
    ranked = sorted(scores, key=lambda uid: scores[uid])
    half = COUNT // 2
    swapped = {*ranked[:wrong], *ranked[COUNT - wrong :]} if wrong else set()
    return [ReferenceCase(uid, "Pneumonia", (at >= half) != (uid in swapped)) for at, uid in enumerate(ranked)]
