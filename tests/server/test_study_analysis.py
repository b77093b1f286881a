"""What the workflow's analysis puts into the objects of a study: what is missing, and why there is no result."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from radserve.errors import DicomError, ErrorCode, RadserveError
from radserve.image import Image
from radserve.pipelines.study import Analysis, AnalysisRequest
from radserve.pipelines.workflow import AnalysisJob
from radserve.server.study_analysis import StoredStudyAnalysis
from radserve.work import ResultRecord
from tests.support.dicoms import cr, save
from tests.support.results import PACK, sample_image, sample_result
from tests.support.workflow import InlineWorkers

DATA_SET = cr(np.arange(64 * 48, dtype=np.uint16).reshape(64, 48))


@dataclass(frozen=True)
class PackOfOneAnswer:
    """An analyser whose result has the warnings that it is asked with; or one that fails."""

    image: Image
    error: RadserveError | None = None
    source: Any = None
    pack: Any = field(default_factory=lambda: type("Pack", (), {"ref": PACK}))

    async def analyse(self, request: AnalysisRequest, deadline: object) -> AsyncIterator[Analysis]:
        if self.error:
            raise self.error
        yield Analysis(sample_result(self.image, warnings=request.warnings), (self.image,))


@dataclass(frozen=True)
class Site:
    """What the analysis asks of a site: one file, one pack."""

    path_of_all: Path
    analyser: PackOfOneAnswer

    def path(self, instance: object) -> Path:
        return self.path_of_all

    @asynccontextmanager
    async def lease(self, pack: str) -> AsyncIterator[PackOfOneAnswer]:
        yield self.analyser


async def sr_of(tmp_path: Path, *, incomplete: bool, error: RadserveError | None = None) -> pydicom.Dataset:
    image = sample_image(DATA_SET)
    site: Any = Site(save(DATA_SET, tmp_path / "image.dcm"), PackOfOneAnswer(image, error))
    nothing: Any = None
    workers: Any = InlineWorkers()
    analysis = StoredStudyAnalysis(site, nothing, nothing, site, workers)
    study = image.instance.study_instance_uid
    record = ResultRecord("2.25.1", study, 1, PACK.name, PACK.digest, incomplete=incomplete)
    (made,) = [
        each for each in await analysis.analyse(AnalysisJob(record, (image.instance,), ("sr",))) if each.output == "sr"
    ]
    return pydicom.dcmread(io.BytesIO(made.artifact.data))


@pytest.mark.parametrize(("incomplete", "flag"), [(True, "PARTIAL"), (False, "COMPLETE")])
async def test_the_sr_of_a_study_says_whether_instances_are_missing(
    tmp_path: Path, incomplete: bool, flag: str
) -> None:
    document = await sr_of(tmp_path, incomplete=incomplete)
    assert document.CompletionFlag == flag
    comments = [item.TextValue for item in document.ContentSequence if item.ValueType == "TEXT"]
    assert any("STUDY_INCOMPLETE" in comment for comment in comments) is incomplete


async def test_a_study_that_cannot_be_analysed_has_an_sr_that_says_why(tmp_path: Path) -> None:
    error = DicomError(ErrorCode.NO_APPLICABLE_INPUT, "nothing for this model")
    document = await sr_of(tmp_path, incomplete=False, error=error)
    assert (document.CompletionFlag, document.CompletionFlagDescription) == ("PARTIAL", "NO_APPLICABLE_INPUT")
