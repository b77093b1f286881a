"""Headers of files as the facts that routing rules ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from radserve.dicom_io.facts import FileFacts
from radserve.dicom_io.write_sr import MANUFACTURER
from radserve.pipelines.rules import SeriesFacts, StudyFacts
from radserve.references import AcquisitionContext

Tags = Mapping[str, tuple[str, ...]]


def series_facts(
    series_instance_uid: str, contexts: Sequence[AcquisitionContext], calling_ae: str, tags: Tags
) -> SeriesFacts:
    """The facts of a series from the contexts of its instances; a fact on which they differ has several values."""

    def values(name: str) -> str:
        found = dict.fromkeys(str(getattr(context, name)) for context in contexts)
        return "\\".join(value for value in found if value)

    return SeriesFacts(
        series_instance_uid,
        modality=values("modality"),
        body_part=values("body_part"),
        view=values("view_position"),
        study_description=values("study_description"),
        series_description=values("series_description"),
        calling_ae=calling_ae,
        tags=tags,
        is_result=all(context.manufacturer == MANUFACTURER for context in contexts),
    )


def facts_of_files(found: Sequence[FileFacts], calling_ae: str) -> list[StudyFacts]:
    """The studies that files make up, in the order of their UIDs. Tags are those of a series' first file."""
    studies: dict[str, dict[str, list[FileFacts]]] = {}
    for each in found:
        instance = each.header.instance
        series = studies.setdefault(instance.study_instance_uid, {})
        series.setdefault(instance.series_instance_uid, []).append(each)
    return [
        StudyFacts(
            study_uid,
            tuple(
                series_facts(uid, [each.header.context for each in files], calling_ae, files[0].tags)
                for uid, files in sorted(series.items())
            ),
        )
        for study_uid, series in sorted(studies.items())
    ]
