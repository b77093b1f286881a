"""Analysing a study of some images."""

from __future__ import annotations

from radserve.pipelines.authoring import ReportText
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.study import AnalysisRequest, StudyAnalyser
from radserve.references import StudyRef
from radserve.results import StudyResult

NO_DEADLINE = Deadline()


async def analyse(analyser: StudyAnalyser, request: AnalysisRequest) -> tuple[StudyResult, str]:
    text, results = [], []
    async for event in analyser.analyse(request, NO_DEADLINE):
        if isinstance(event, ReportText):
            text.append(event.text)
        else:
            results.append(event.result)
    (result,) = results
    return result, "".join(text)


def study_of(images: list) -> AnalysisRequest:
    return AnalysisRequest(StudyRef(images[0].instance.study_instance_uid))
