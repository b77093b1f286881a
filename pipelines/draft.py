"""The structured draft: what was asked, what was done, what the model wrote, and what it measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from radserve.clinical_context import ClinicalContext
from radserve.findings import Finding
from radserve.models.ontology import Ontology, built_in_ontology
from radserve.pipelines import evidence
from radserve.pipelines.evidence import Grounds, LabelReader
from radserve.pipelines.prior import PriorReading
from radserve.pipelines.wording import ENGLISH, Wording
from radserve.references import AcquisitionContext
from radserve.reports import Evidence, EvidenceKind, Report, ReportSection, ReportSentence
from radserve.results import PackRef

WITHHELD, UNSURE = ENGLISH.withheld, ENGLISH.unsure


@dataclass(frozen=True, slots=True)
class SeriesDraft:
    """What was written of one series, by section, and the findings of that series.

    `images` were analysed, `unread` could not be read. `template`: the text was put together from the findings, not
    written by a decoder; `writer` names the model of a text service, or the report template of another package, that
    wrote it. `withheld` says why a text is not delivered: our own template takes its place, whatever `sections` hold.
    """

    acquisition: AcquisitionContext
    images: int
    sections: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]
    series_instance_uid: str
    withheld: str = ""
    template: bool = False
    unread: int = 0
    writer: str = ""


def compose_draft(
    context: ClinicalContext,
    drafts: Sequence[SeriesDraft],
    pack: PackRef,
    left_out: Sequence[str] = (),
    wording: Wording = ENGLISH,
    labels_of: LabelReader | None = None,
    prior: PriorReading | None = None,
) -> Report:
    """Put the draft together: Indication, Technique, Comparison, the written sections, Model findings, Notice.

    Everything the requester said stands in Indication and Comparison, word for word. `left_out`: sentences on series
    that could not be read. `prior`: what the model found in the prior study. `labels_of` reads what a written sentence
    speaks of; every sentence of the draft is listed with what it rests on. Raises DRAFT_WITHOUT_EVIDENCE where one
    rests on nothing.
    """
    ontology = built_in_ontology()
    texts = [_texts(draft, wording, ontology) for draft in drafts]
    grounds = [grounds_of(draft, pack, wording, ontology, labels_of) for draft in drafts]
    measured = [_measured(each, wording, ontology) for draft in drafts for each in draft.findings]
    written = dict.fromkeys(name for each in texts for name in each)
    comparison = _comparison(context, drafts, wording, ontology, prior)
    sections = [
        ReportSection("Indication", _indication(context, wording)),
        ReportSection("Technique", "\n".join((*(_technique(draft, wording) for draft in drafts), *left_out))),
        ReportSection("Comparison", "\n".join(line for line, _ in comparison)),
        *(ReportSection(name, _written([each.get(name, "") for each in texts], wording)) for name in written),
        ReportSection("Model findings", "\n".join(measured)),
        ReportSection("Notice", _notice(pack, wording, drafts)),
    ]
    sentences = [
        *evidence.lines("Indication", sections[0].text, evidence.REQUEST),
        *(each for draft in drafts for each in evidence.lines("Technique", _technique(draft, wording), _series(draft))),
        *(each for text in left_out for each in evidence.lines("Technique", text, evidence.CHECK)),
        *(ReportSentence("Comparison", line, rests_on) for line, rests_on in comparison),
        *(
            sentence
            for name in written
            for ground, text in zip(grounds, texts, strict=True)
            for sentence in evidence.written(name, text.get(name, ""), ground)
        ),
        *(
            ReportSentence("Model findings", _measured(each, wording, ontology), evidence.of_findings([each]))
            for draft in drafts
            for each in draft.findings
        ),
        *evidence.lines("Notice", sections[-1].text, [Evidence(EvidenceKind.PACK, pack.digest)]),
    ]
    return Report(tuple(sections), sentences=tuple(sentences))


def grounds_of(
    draft: SeriesDraft, pack: PackRef, wording: Wording, ontology: Ontology, labels_of: LabelReader | None
) -> Grounds:
    """What the written sentences of a series may rest on."""
    uid = draft.series_instance_uid
    return Grounds(draft.findings, draft.acquisition, uid, pack.digest, wording, ontology, labels_of)


def _series(draft: SeriesDraft) -> tuple[Evidence, ...]:
    return (Evidence(EvidenceKind.SERIES, draft.series_instance_uid),)


def template_sections(
    findings: Sequence[Finding], wording: Wording = ENGLISH, ontology: Ontology | None = None
) -> tuple[tuple[str, str], ...]:
    """Findings and Impression in plain sentences: nothing but the findings."""
    ontology = ontology or built_in_ontology()

    def names(those: Sequence[Finding]) -> str:
        return wording.join.join(wording.name(each, ontology) for each in those)

    present = [each for each in findings if each.positive and not each.cannot_assess]
    absent = [each for each in findings if not each.positive and not each.cannot_assess]
    unsure = [each for each in findings if each.cannot_assess]
    lines = [wording.found.format(name=names([each]), measures=_measures(each)) for each in present]
    if absent:
        lines.append(wording.not_found.format(names=names(absent)))
    if unsure:
        lines.append(wording.cannot_assess.format(names=names(unsure)))
    impression = wording.no_impression
    if present:
        impression = wording.impression.format(names=names(present))
    elif unsure:  # "no finding" would be an answer
        impression = wording.cannot_assess.format(names=names(unsure))
    return ("Findings", wording.stop.join(lines)), ("Impression", impression)


def _texts(draft: SeriesDraft, wording: Wording, ontology: Ontology) -> dict[str, str]:
    """The text of each section; of one that is withheld, the sentence that says so and the template."""
    if not draft.withheld:
        return dict(draft.sections)
    instead = dict(template_sections(draft.findings, wording, ontology)) if draft.findings else {}
    names = dict.fromkeys((*(name for name, _ in draft.sections), *instead))
    return {name: f"{draft.withheld}{wording.stop}{instead.get(name, '')}".strip() for name in names}


def _measures(finding: Finding) -> str:
    found = [f"{each.name.meaning.lower()} {each.value:.3g} {each.unit.value}" for each in finding.measurements]
    return f", {', '.join(found)}" if found else ""


def _notice(pack: PackRef, wording: Wording, drafts: Sequence[SeriesDraft]) -> str:
    by_decoder = not any(draft.template or draft.writer for draft in drafts)
    how = wording.written_by if by_decoder else wording.put_together
    writers = {draft.writer: wording.by_template if draft.template else wording.worded_by for draft in drafts}
    notice = wording.notice.format(how=how, name=pack.name, version=pack.version, digest=pack.digest[:12])
    return notice + "".join(words.format(name=writer) for writer, words in writers.items() if writer)


def _indication(context: ClinicalContext, wording: Wording) -> str:
    lines = [context.indication or wording.not_given]
    if context.age_years is not None:
        lines.append(wording.age.format(age=context.age_years))
    if context.sex:
        lines.append(wording.sex.format(sex=context.sex))
    lines += [f"{each.name}: {' '.join(filter(None, (each.value, each.unit)))}." for each in context.laboratory_values]
    return "\n".join(lines)


def _technique(draft: SeriesDraft, wording: Wording) -> str:
    acquisition = draft.acquisition
    count = wording.one_image if draft.images == 1 else wording.images.format(count=draft.images)
    return wording.technique.format(
        modality=acquisition.modality,
        body_part=acquisition.body_part or wording.no_body_part,
        view=f"view {acquisition.view_position}" if acquisition.view_position else wording.no_view,
        count=count + (wording.unread.format(count=draft.unread) if draft.unread else ""),
    )


def _comparison(
    context: ClinicalContext,
    drafts: Sequence[SeriesDraft],
    wording: Wording,
    ontology: Ontology,
    prior: PriorReading | None,
) -> list[tuple[str, tuple[Evidence, ...]]]:
    """The lines of Comparison with what each rests on."""
    uid = context.prior_study_instance_uid
    if prior is None:
        return [(wording.prior.format(uid=uid) if uid else wording.no_prior, evidence.REQUEST)]
    rests_on = Evidence(EvidenceKind.PRIOR, prior.study_instance_uid)
    date = f" ({prior.study_date})" if prior.study_date else ""
    lines: list[tuple[str, tuple[Evidence, ...]]]
    lines = [(wording.prior_read.format(uid=prior.study_instance_uid, date=date), (*evidence.REQUEST, rests_on))]
    for now, then in prior.beside([each for draft in drafts for each in draft.findings]):
        text = wording.compared.format(
            name=wording.name(now, ontology),
            now=_state(now, wording),
            probability=now.probability,
            then=_state(then, wording),
            prior_probability=then.probability,
        )
        lines.append((text, (*evidence.of_findings([now]), rests_on)))
    return lines


def _written(texts: Sequence[str], wording: Wording) -> str:
    if len(texts) == 1:
        return texts[0]
    numbered = enumerate(texts, start=1)
    return "\n".join(wording.series.format(number=number, text=text) for number, text in numbered if text)


def _state(finding: Finding, wording: Wording) -> str:
    positive, negative, unsure = wording.states
    return unsure if finding.cannot_assess else positive if finding.positive else negative


def _measured(finding: Finding, wording: Wording, ontology: Ontology) -> str:
    measured = wording.measured.format(
        name=wording.name(finding, ontology),
        state=_state(finding, wording),
        probability=finding.probability,
        threshold=finding.threshold,
    )
    examples = [f"{each.id} ({wording.states[not each.positive]}, {each.cosine:.3f})" for each in finding.exemplars]
    return measured + (wording.exemplars.format(examples=wording.join.join(examples)) if examples else "")
