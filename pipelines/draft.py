"""The structured draft: what was asked, what was done, what the model wrote, and what it measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from radserve.findings import ClinicalContext, Finding, PackRef, Report, ReportSection
from radserve.references import AcquisitionContext

WITHHELD = "Text withheld: it contradicted the model's own findings, which stand under Model findings."
UNSURE = "Text withheld: the model cannot assess the image; its numbers stand under Model findings."


@dataclass(frozen=True, slots=True)
class SeriesDraft:
    """What was written of one series, by section, and the findings of that series.

    `images` were analysed, `unread` could not be read. `template`: the text was put together from the findings, not
    written by a decoder. `withheld` is the sentence that stands in place of a text that is not delivered.
    """

    acquisition: AcquisitionContext
    images: int
    sections: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]
    withheld: str = ""
    template: bool = False
    unread: int = 0


def compose_draft(
    context: ClinicalContext, drafts: Sequence[SeriesDraft], pack: PackRef, left_out: Sequence[str] = ()
) -> Report:
    """Put the draft together: Indication, Technique, Comparison, the written sections, Model findings, Notice.

    Everything the requester said stands in Indication and Comparison, word for word. `left_out`: sentences on series
    that could not be read.
    """
    written = dict.fromkeys(name for draft in drafts for name, _ in draft.sections)
    sections = [
        ReportSection("Indication", _indication(context)),
        ReportSection("Technique", "\n".join((*map(_technique, drafts), *left_out))),
        ReportSection("Comparison", _comparison(context)),
        *(ReportSection(name, _written(name, drafts)) for name in written),
        ReportSection("Model findings", "\n".join(_measured(each) for draft in drafts for each in draft.findings)),
        ReportSection("Notice", _notice(pack, template=any(draft.template for draft in drafts))),
    ]
    return Report(tuple(sections))


def template_sections(findings: Sequence[Finding]) -> tuple[tuple[str, str], ...]:
    """Findings and Impression in plain sentences, for a pack without a report decoder: nothing but the findings."""
    present = [each for each in findings if each.positive and not each.cannot_assess]
    absent = [each for each in findings if not each.positive and not each.cannot_assess]
    unsure = [each for each in findings if each.cannot_assess]
    lines = [f"{each.label}: found{_measures(each)}." for each in present]
    if absent:
        lines.append(f"Not found: {', '.join(each.label for each in absent)}.")
    if unsure:
        lines.append(f"Cannot be assessed: {', '.join(each.label for each in unsure)}.")
    impression = f"Found: {', '.join(each.label for each in present)}." if present else "No finding above threshold."
    return ("Findings", " ".join(lines)), ("Impression", impression)


def _measures(finding: Finding) -> str:
    found = [f"{each.name.meaning.lower()} {each.value:.3g} {each.unit.value}" for each in finding.measurements]
    return f", {', '.join(found)}" if found else ""


def _notice(pack: PackRef, *, template: bool) -> str:
    how = "put together from the findings of" if template else "written by"
    return (
        f"Draft {how} {pack.name} {pack.version} (pipeline {pack.digest[:12]}). Not verified by a person. "
        "Research use only."
    )


def _indication(context: ClinicalContext) -> str:
    lines = [context.indication or "Not given."]
    if context.age_years is not None:
        lines.append(f"Age: {context.age_years:g} years.")
    if context.sex:
        lines.append(f"Sex: {context.sex}.")
    lines += [f"{each.name}: {' '.join(filter(None, (each.value, each.unit)))}." for each in context.laboratory_values]
    return "\n".join(lines)


def _technique(draft: SeriesDraft) -> str:
    acquisition = draft.acquisition
    view = f"view {acquisition.view_position}" if acquisition.view_position else "view not stated"
    body_part = acquisition.body_part or "body part not stated"
    count = "1 image" if draft.images == 1 else f"{draft.images} images"
    unread = f", {draft.unread} more could not be read and were not analysed" if draft.unread else ""
    return f"{acquisition.modality}, {body_part}, {view}, {count}{unread}."


def _comparison(context: ClinicalContext) -> str:
    if not context.prior_study_instance_uid:
        return "None."
    return f"Prior study {context.prior_study_instance_uid} was named. No comparison was made."


def _written(name: str, drafts: Sequence[SeriesDraft]) -> str:
    texts = [draft.withheld or dict(draft.sections).get(name, "") for draft in drafts]
    if len(drafts) == 1:
        return texts[0]
    return "\n".join(f"Series {number}: {text}" for number, text in enumerate(texts, start=1) if text)


def _measured(finding: Finding) -> str:
    state = "cannot be assessed" if finding.cannot_assess else "positive" if finding.positive else "negative"
    return f"{finding.label}: {state}, probability {finding.probability:.3f} (threshold {finding.threshold:.3f})."
