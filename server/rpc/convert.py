"""Between the core's values and the messages of radserve.v1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from radserve._checks import invalid
from radserve.clinical_context import ClinicalContext, LaboratoryValue
from radserve.decoding import DecodingOptions, DecodingStrategy
from radserve.findings import CodedConcept, Finding, HeatMap, Region
from radserve.models.pack import ModelPack
from radserve.models.pack_types import PackInput
from radserve.pipelines.authoring import ReportOptions
from radserve.references import AcquisitionContext, InstanceRef
from radserve.reports import GenerationRecord, Report
from radserve.results import PackRef, PromptRecord, ProvenanceRecord, SeriesSummary, StudyResult, TaskAnswer
from radserve.server.operation.shadow_store import ShadowSummary
from radserve.server.operation.versions import VersionStatus
from radserve.v1 import common_pb2, inference_pb2, model_pb2, study_pb2


def context_from_message(message: common_pb2.ClinicalContext) -> ClinicalContext:
    """Raises RadserveError INVALID_ARGUMENT for a value that cannot be (age, sex, UID)."""
    return ClinicalContext(
        indication=message.indication,
        age_years=message.age_years if message.HasField("age_years") else None,
        sex=message.sex,
        laboratory_values=tuple(
            LaboratoryValue(each.name, each.value, each.unit) for each in message.laboratory_values
        ),
        prior_study_instance_uid=message.prior_study_instance_uid,
    )


def context_to_message(context: ClinicalContext) -> common_pb2.ClinicalContext:
    return common_pb2.ClinicalContext(
        indication=context.indication,
        age_years=context.age_years,
        sex=context.sex,
        laboratory_values=[
            common_pb2.LaboratoryValue(name=each.name, value=each.value, unit=each.unit)
            for each in context.laboratory_values
        ],
        prior_study_instance_uid=context.prior_study_instance_uid,
    )


def report_options_from_message(message: inference_pb2.ReportOptions) -> ReportOptions:
    """Raises RadserveError INVALID_ARGUMENT for an option that cannot be."""
    decoding = message.decoding
    given = {field.name: value for field, value in decoding.ListFields() if field.name != "strategy"}
    return ReportOptions(message.language or "en", DecodingOptions(_strategy(decoding.strategy), **given))


def report_options_to_message(options: ReportOptions) -> inference_pb2.ReportOptions:
    decoding = options.decoding
    strategy = inference_pb2.DecodingStrategy.Value(f"DECODING_STRATEGY_{decoding.strategy.name}")
    given = {**decoding.parameters, "max_tokens": decoding.max_tokens}
    message = inference_pb2.DecodingOptions(strategy=strategy, **given)  # type: ignore[arg-type]
    return inference_pb2.ReportOptions(language=options.language, decoding=message)


def _strategy(number: int) -> DecodingStrategy:
    names = {0: "GREEDY", **{value: name for name, value in inference_pb2.DecodingStrategy.items() if value}}
    if number not in names:
        raise invalid("decoding strategy", number, f"one of {[each.value for each in DecodingStrategy]}")
    return DecodingStrategy[names[number].removeprefix("DECODING_STRATEGY_")]


def _concept(concept: CodedConcept) -> common_pb2.CodedConcept:
    return common_pb2.CodedConcept(value=concept.value, scheme=concept.scheme, meaning=concept.meaning)


def _pack(pack: PackRef) -> common_pb2.PackReference:
    return common_pb2.PackReference(
        name=pack.name, version=pack.version, model_version=pack.model_version, digest=pack.digest, parity=pack.parity
    )


def _region(region: Region) -> common_pb2.Region:
    outline = [] if region.outline is None else region.outline.tolist()
    return common_pb2.Region(
        series_instance_uid=region.instance.series_instance_uid,
        sop_instance_uid=region.instance.sop_instance_uid,
        frame=region.frame,
        outline=[common_pb2.Point(column=column, row=row) for column, row in outline],
        heat_map=_heat_map(region.heat_map) if region.heat_map else None,
    )


def _heat_map(heat_map: HeatMap) -> common_pb2.HeatMap:
    rows, columns = heat_map.values.shape
    return common_pb2.HeatMap(
        rows=rows,
        columns=columns,
        values=heat_map.values.ravel().tolist(),
        grid_to_source=heat_map.grid_to_source.matrix.ravel().tolist(),
    )


def _finding(finding: Finding) -> common_pb2.Finding:
    return common_pb2.Finding(
        label=finding.label,
        code=_concept(finding.code),
        site=_concept(finding.site),
        score=finding.score,
        probability=finding.probability,
        threshold=finding.threshold,
        positive=finding.positive,
        region=_region(finding.region),
        tracking_identifier=finding.tracking_identifier,
        tracking_uid=finding.tracking_uid,
        measurements=[
            common_pb2.Measurement(name=_concept(each.name), value=each.value, unit=_concept(each.unit))
            for each in finding.measurements
        ],
        ood_score=finding.ood_score,
        cannot_assess=finding.cannot_assess,
        exemplars=[common_pb2.Exemplar(**asdict(each)) for each in finding.exemplars],
    )


def _report(report: Report) -> common_pb2.Report:
    sections = [common_pb2.ReportSection(name=each.name, text=each.text) for each in report.sections]
    sentences = [
        common_pb2.ReportSentence(
            section=each.section,
            text=each.text,
            evidence=[common_pb2.Evidence(kind=e.kind.value, reference=e.reference) for e in each.evidence],
        )
        for each in report.sentences
    ]
    return common_pb2.Report(text=report.text, sections=sections, status=report.status, sentences=sentences)


def _series_summary(series: SeriesSummary) -> common_pb2.SeriesSummary:
    return common_pb2.SeriesSummary(
        series_instance_uid=series.series_instance_uid,
        modality=series.modality,
        body_part=series.body_part,
        instances=series.instances,
        analysed=series.analysed,
        input_name=series.input_name,
    )


def _generation(record: GenerationRecord) -> common_pb2.GenerationRecord:
    return common_pb2.GenerationRecord(
        language=record.language,
        strategy=record.strategy,
        parameters=dict(record.parameters),
        never_allowed_version=record.never_allowed_version,
        never_allowed_sha256=record.never_allowed_sha256,
        texts=record.texts,
        withheld=record.withheld,
        sentences=record.sentences,
        faults=dict(record.faults),
        backend=record.backend,
        model=record.model,
    )


def _prompts(record: PromptRecord) -> common_pb2.PromptRecord:
    fields = {
        name: getattr(record, name) for name in ("id", "version", "sha256", "language", "mode", "ontology_version")
    }
    labels = [common_pb2.LabelPromptRecord(**asdict(each)) for each in record.labels]
    return common_pb2.PromptRecord(**fields, labels=labels)


def _provenance(record: ProvenanceRecord) -> common_pb2.ProvenanceRecord:
    return common_pb2.ProvenanceRecord(
        licence=record.licence,
        initialised_from=record.initialised_from,
        data=dict(record.data),
        model_card_sha256=record.model_card_sha256,
        plugins=[
            common_pb2.PluginReference(point=each.group, name=each.name, package=each.package, version=each.version)
            for each in record.plugins
        ],
    )


def _task(answer: TaskAnswer) -> common_pb2.TaskAnswer:
    scores = [common_pb2.OptionScore(option=option, score=score) for option, score in answer.scores]
    return common_pb2.TaskAnswer(
        task=answer.task, series_instance_uid=answer.series_instance_uid, option=answer.option, scores=scores
    )


def result_to_message(result: StudyResult) -> common_pb2.StudyResult:
    return common_pb2.StudyResult(
        study_instance_uid=result.study_instance_uid,
        series=[_series_summary(each) for each in result.series],
        findings=[_finding(each) for each in result.findings],
        report=_report(result.report) if result.report else None,
        pack=_pack(result.pack),
        context=context_to_message(result.context),
        status="draft",
        warnings=[common_pb2.ResultWarning(code=each.code, message=each.message) for each in result.warnings],
        timings=[common_pb2.StageTiming(stage=stage, milliseconds=ms) for stage, ms in result.timings_ms],
        generation=_generation(result.generation) if result.generation else None,
        prompts=_prompts(result.prompts) if result.prompts else None,
        tasks=[_task(each) for each in result.tasks],
        provenance=_provenance(result.provenance) if result.provenance else None,
    )


def study_to_message(
    study_instance_uid: str, instances: Sequence[tuple[InstanceRef, AcquisitionContext]]
) -> study_pb2.Study:
    """A study with its series in the order in which they are first met."""
    series: dict[str, study_pb2.Series] = {}
    for instance, acquisition in instances:
        uid = instance.series_instance_uid
        message = series.setdefault(
            uid,
            study_pb2.Series(series_instance_uid=uid, modality=acquisition.modality, body_part=acquisition.body_part),
        )
        message.instances.add(sop_instance_uid=instance.sop_instance_uid, sop_class_uid=instance.sop_class_uid)
    return study_pb2.Study(study_instance_uid=study_instance_uid, series=series.values())


def _pack_input(use: PackInput) -> model_pb2.PackInput:
    least, greatest = use.intended_use.age_years or (None, None)
    return model_pb2.PackInput(
        name=use.name,
        modalities=use.modalities,
        body_parts=use.body_parts,
        views=use.intended_use.views,
        least_age_years=least,
        greatest_age_years=greatest,
        labels=use.labels,
    )


def pack_to_message(pack: ModelPack, *, ready: bool) -> model_pb2.Model:
    return model_pb2.Model(
        pack=_pack(pack.ref),
        description=pack.description,
        licence=pack.licence,
        risk_tier=pack.risk_tier,
        inputs=[_pack_input(each) for each in pack.inputs],
        labels=[
            model_pb2.PackLabel(name=each.name, code=_concept(each.code), threshold=each.threshold)
            for each in pack.labels
        ],
        ready=ready,
    )


def status_to_message(status: VersionStatus, summary: ShadowSummary, missed: int) -> model_pb2.Model:
    """What a version does; to be merged with what it is."""
    message = model_pb2.Model(
        state=f"MODEL_STATE_{status.state.name}",
        deprecated=status.deprecated,
        requests=status.users,
    )
    if summary.studies or summary.failures or missed:
        labels = [
            model_pb2.LabelAgreement(
                label=each.label,
                compared=each.compared,
                agreeing=each.agreeing,
                delivered_positive=each.delivered_positive,
                shadow_positive=each.shadow_positive,
                mean_difference=each.mean_difference,
                largest_absolute_difference=each.largest_difference,
            )
            for each in summary.labels
        ]
        message.shadow.MergeFrom(
            model_pb2.ShadowSummary(studies=summary.studies, failures=summary.failures, missed=missed, labels=labels)
        )
    return message
