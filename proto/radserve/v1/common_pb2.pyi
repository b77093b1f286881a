from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CodedConcept(_message.Message):
    __slots__ = ("value", "scheme", "meaning")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    MEANING_FIELD_NUMBER: _ClassVar[int]
    value: str
    scheme: str
    meaning: str
    def __init__(self, value: _Optional[str] = ..., scheme: _Optional[str] = ..., meaning: _Optional[str] = ...) -> None: ...

class LaboratoryValue(_message.Message):
    __slots__ = ("name", "value", "unit")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    unit: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., unit: _Optional[str] = ...) -> None: ...

class ClinicalContext(_message.Message):
    __slots__ = ("indication", "age_years", "sex", "laboratory_values", "prior_study_instance_uid")
    INDICATION_FIELD_NUMBER: _ClassVar[int]
    AGE_YEARS_FIELD_NUMBER: _ClassVar[int]
    SEX_FIELD_NUMBER: _ClassVar[int]
    LABORATORY_VALUES_FIELD_NUMBER: _ClassVar[int]
    PRIOR_STUDY_INSTANCE_UID_FIELD_NUMBER: _ClassVar[int]
    indication: str
    age_years: float
    sex: str
    laboratory_values: _containers.RepeatedCompositeFieldContainer[LaboratoryValue]
    prior_study_instance_uid: str
    def __init__(self, indication: _Optional[str] = ..., age_years: _Optional[float] = ..., sex: _Optional[str] = ..., laboratory_values: _Optional[_Iterable[_Union[LaboratoryValue, _Mapping]]] = ..., prior_study_instance_uid: _Optional[str] = ...) -> None: ...

class PackReference(_message.Message):
    __slots__ = ("name", "version", "model_version", "digest", "parity")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PARITY_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    model_version: int
    digest: str
    parity: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., model_version: _Optional[int] = ..., digest: _Optional[str] = ..., parity: _Optional[str] = ...) -> None: ...

class ResultWarning(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Point(_message.Message):
    __slots__ = ("column", "row")
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    column: float
    row: float
    def __init__(self, column: _Optional[float] = ..., row: _Optional[float] = ...) -> None: ...

class HeatMap(_message.Message):
    __slots__ = ("rows", "columns", "values", "grid_to_source")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    GRID_TO_SOURCE_FIELD_NUMBER: _ClassVar[int]
    rows: int
    columns: int
    values: _containers.RepeatedScalarFieldContainer[float]
    grid_to_source: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, rows: _Optional[int] = ..., columns: _Optional[int] = ..., values: _Optional[_Iterable[float]] = ..., grid_to_source: _Optional[_Iterable[float]] = ...) -> None: ...

class Region(_message.Message):
    __slots__ = ("series_instance_uid", "sop_instance_uid", "frame", "outline", "heat_map")
    SERIES_INSTANCE_UID_FIELD_NUMBER: _ClassVar[int]
    SOP_INSTANCE_UID_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    OUTLINE_FIELD_NUMBER: _ClassVar[int]
    HEAT_MAP_FIELD_NUMBER: _ClassVar[int]
    series_instance_uid: str
    sop_instance_uid: str
    frame: int
    outline: _containers.RepeatedCompositeFieldContainer[Point]
    heat_map: HeatMap
    def __init__(self, series_instance_uid: _Optional[str] = ..., sop_instance_uid: _Optional[str] = ..., frame: _Optional[int] = ..., outline: _Optional[_Iterable[_Union[Point, _Mapping]]] = ..., heat_map: _Optional[_Union[HeatMap, _Mapping]] = ...) -> None: ...

class Measurement(_message.Message):
    __slots__ = ("name", "value", "unit")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    name: CodedConcept
    value: float
    unit: CodedConcept
    def __init__(self, name: _Optional[_Union[CodedConcept, _Mapping]] = ..., value: _Optional[float] = ..., unit: _Optional[_Union[CodedConcept, _Mapping]] = ...) -> None: ...

class Exemplar(_message.Message):
    __slots__ = ("id", "positive", "cosine")
    ID_FIELD_NUMBER: _ClassVar[int]
    POSITIVE_FIELD_NUMBER: _ClassVar[int]
    COSINE_FIELD_NUMBER: _ClassVar[int]
    id: str
    positive: bool
    cosine: float
    def __init__(self, id: _Optional[str] = ..., positive: _Optional[bool] = ..., cosine: _Optional[float] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("label", "code", "site", "score", "probability", "threshold", "positive", "region", "tracking_identifier", "tracking_uid", "measurements", "ood_score", "cannot_assess", "exemplars")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    POSITIVE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    TRACKING_IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    TRACKING_UID_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENTS_FIELD_NUMBER: _ClassVar[int]
    OOD_SCORE_FIELD_NUMBER: _ClassVar[int]
    CANNOT_ASSESS_FIELD_NUMBER: _ClassVar[int]
    EXEMPLARS_FIELD_NUMBER: _ClassVar[int]
    label: str
    code: CodedConcept
    site: CodedConcept
    score: float
    probability: float
    threshold: float
    positive: bool
    region: Region
    tracking_identifier: str
    tracking_uid: str
    measurements: _containers.RepeatedCompositeFieldContainer[Measurement]
    ood_score: float
    cannot_assess: bool
    exemplars: _containers.RepeatedCompositeFieldContainer[Exemplar]
    def __init__(self, label: _Optional[str] = ..., code: _Optional[_Union[CodedConcept, _Mapping]] = ..., site: _Optional[_Union[CodedConcept, _Mapping]] = ..., score: _Optional[float] = ..., probability: _Optional[float] = ..., threshold: _Optional[float] = ..., positive: _Optional[bool] = ..., region: _Optional[_Union[Region, _Mapping]] = ..., tracking_identifier: _Optional[str] = ..., tracking_uid: _Optional[str] = ..., measurements: _Optional[_Iterable[_Union[Measurement, _Mapping]]] = ..., ood_score: _Optional[float] = ..., cannot_assess: _Optional[bool] = ..., exemplars: _Optional[_Iterable[_Union[Exemplar, _Mapping]]] = ...) -> None: ...

class ReportSection(_message.Message):
    __slots__ = ("name", "text")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    text: str
    def __init__(self, name: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("kind", "reference")
    KIND_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    reference: str
    def __init__(self, kind: _Optional[str] = ..., reference: _Optional[str] = ...) -> None: ...

class ReportSentence(_message.Message):
    __slots__ = ("section", "text", "evidence")
    SECTION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    section: str
    text: str
    evidence: _containers.RepeatedCompositeFieldContainer[Evidence]
    def __init__(self, section: _Optional[str] = ..., text: _Optional[str] = ..., evidence: _Optional[_Iterable[_Union[Evidence, _Mapping]]] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("text", "sections", "status", "sentences")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SECTIONS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SENTENCES_FIELD_NUMBER: _ClassVar[int]
    text: str
    sections: _containers.RepeatedCompositeFieldContainer[ReportSection]
    status: str
    sentences: _containers.RepeatedCompositeFieldContainer[ReportSentence]
    def __init__(self, text: _Optional[str] = ..., sections: _Optional[_Iterable[_Union[ReportSection, _Mapping]]] = ..., status: _Optional[str] = ..., sentences: _Optional[_Iterable[_Union[ReportSentence, _Mapping]]] = ...) -> None: ...

class SeriesSummary(_message.Message):
    __slots__ = ("series_instance_uid", "modality", "body_part", "instances", "analysed", "input_name")
    SERIES_INSTANCE_UID_FIELD_NUMBER: _ClassVar[int]
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    BODY_PART_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    ANALYSED_FIELD_NUMBER: _ClassVar[int]
    INPUT_NAME_FIELD_NUMBER: _ClassVar[int]
    series_instance_uid: str
    modality: str
    body_part: str
    instances: int
    analysed: bool
    input_name: str
    def __init__(self, series_instance_uid: _Optional[str] = ..., modality: _Optional[str] = ..., body_part: _Optional[str] = ..., instances: _Optional[int] = ..., analysed: _Optional[bool] = ..., input_name: _Optional[str] = ...) -> None: ...

class StageTiming(_message.Message):
    __slots__ = ("stage", "milliseconds")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    stage: str
    milliseconds: float
    def __init__(self, stage: _Optional[str] = ..., milliseconds: _Optional[float] = ...) -> None: ...

class GenerationRecord(_message.Message):
    __slots__ = ("language", "strategy", "parameters", "never_allowed_version", "never_allowed_sha256", "texts", "withheld", "sentences", "faults", "backend", "model")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class FaultsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    NEVER_ALLOWED_VERSION_FIELD_NUMBER: _ClassVar[int]
    NEVER_ALLOWED_SHA256_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    WITHHELD_FIELD_NUMBER: _ClassVar[int]
    SENTENCES_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    language: str
    strategy: str
    parameters: _containers.ScalarMap[str, float]
    never_allowed_version: str
    never_allowed_sha256: str
    texts: int
    withheld: int
    sentences: int
    faults: _containers.ScalarMap[str, int]
    backend: str
    model: str
    def __init__(self, language: _Optional[str] = ..., strategy: _Optional[str] = ..., parameters: _Optional[_Mapping[str, float]] = ..., never_allowed_version: _Optional[str] = ..., never_allowed_sha256: _Optional[str] = ..., texts: _Optional[int] = ..., withheld: _Optional[int] = ..., sentences: _Optional[int] = ..., faults: _Optional[_Mapping[str, int]] = ..., backend: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class LabelPromptRecord(_message.Message):
    __slots__ = ("label", "positive", "negative", "added_positive", "added_negative")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    POSITIVE_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_FIELD_NUMBER: _ClassVar[int]
    ADDED_POSITIVE_FIELD_NUMBER: _ClassVar[int]
    ADDED_NEGATIVE_FIELD_NUMBER: _ClassVar[int]
    label: str
    positive: _containers.RepeatedScalarFieldContainer[str]
    negative: _containers.RepeatedScalarFieldContainer[str]
    added_positive: _containers.RepeatedScalarFieldContainer[str]
    added_negative: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, label: _Optional[str] = ..., positive: _Optional[_Iterable[str]] = ..., negative: _Optional[_Iterable[str]] = ..., added_positive: _Optional[_Iterable[str]] = ..., added_negative: _Optional[_Iterable[str]] = ...) -> None: ...

class PromptRecord(_message.Message):
    __slots__ = ("id", "version", "sha256", "language", "mode", "ontology_version", "labels")
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    ONTOLOGY_VERSION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    id: str
    version: str
    sha256: str
    language: str
    mode: str
    ontology_version: str
    labels: _containers.RepeatedCompositeFieldContainer[LabelPromptRecord]
    def __init__(self, id: _Optional[str] = ..., version: _Optional[str] = ..., sha256: _Optional[str] = ..., language: _Optional[str] = ..., mode: _Optional[str] = ..., ontology_version: _Optional[str] = ..., labels: _Optional[_Iterable[_Union[LabelPromptRecord, _Mapping]]] = ...) -> None: ...

class OptionScore(_message.Message):
    __slots__ = ("option", "score")
    OPTION_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    option: str
    score: float
    def __init__(self, option: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class TaskAnswer(_message.Message):
    __slots__ = ("task", "series_instance_uid", "option", "scores")
    TASK_FIELD_NUMBER: _ClassVar[int]
    SERIES_INSTANCE_UID_FIELD_NUMBER: _ClassVar[int]
    OPTION_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    task: str
    series_instance_uid: str
    option: str
    scores: _containers.RepeatedCompositeFieldContainer[OptionScore]
    def __init__(self, task: _Optional[str] = ..., series_instance_uid: _Optional[str] = ..., option: _Optional[str] = ..., scores: _Optional[_Iterable[_Union[OptionScore, _Mapping]]] = ...) -> None: ...

class PluginReference(_message.Message):
    __slots__ = ("point", "name", "package", "version")
    POINT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    point: str
    name: str
    package: str
    version: str
    def __init__(self, point: _Optional[str] = ..., name: _Optional[str] = ..., package: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class ProvenanceRecord(_message.Message):
    __slots__ = ("licence", "initialised_from", "data", "model_card_sha256", "plugins")
    class DataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    INITIALISED_FROM_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    MODEL_CARD_SHA256_FIELD_NUMBER: _ClassVar[int]
    PLUGINS_FIELD_NUMBER: _ClassVar[int]
    licence: str
    initialised_from: str
    data: _containers.ScalarMap[str, str]
    model_card_sha256: str
    plugins: _containers.RepeatedCompositeFieldContainer[PluginReference]
    def __init__(self, licence: _Optional[str] = ..., initialised_from: _Optional[str] = ..., data: _Optional[_Mapping[str, str]] = ..., model_card_sha256: _Optional[str] = ..., plugins: _Optional[_Iterable[_Union[PluginReference, _Mapping]]] = ...) -> None: ...

class StudyResult(_message.Message):
    __slots__ = ("study_instance_uid", "series", "findings", "report", "pack", "context", "status", "warnings", "timings", "generation", "prompts", "tasks", "provenance")
    STUDY_INSTANCE_UID_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    PACK_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    study_instance_uid: str
    series: _containers.RepeatedCompositeFieldContainer[SeriesSummary]
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    report: Report
    pack: PackReference
    context: ClinicalContext
    status: str
    warnings: _containers.RepeatedCompositeFieldContainer[ResultWarning]
    timings: _containers.RepeatedCompositeFieldContainer[StageTiming]
    generation: GenerationRecord
    prompts: PromptRecord
    tasks: _containers.RepeatedCompositeFieldContainer[TaskAnswer]
    provenance: ProvenanceRecord
    def __init__(self, study_instance_uid: _Optional[str] = ..., series: _Optional[_Iterable[_Union[SeriesSummary, _Mapping]]] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., report: _Optional[_Union[Report, _Mapping]] = ..., pack: _Optional[_Union[PackReference, _Mapping]] = ..., context: _Optional[_Union[ClinicalContext, _Mapping]] = ..., status: _Optional[str] = ..., warnings: _Optional[_Iterable[_Union[ResultWarning, _Mapping]]] = ..., timings: _Optional[_Iterable[_Union[StageTiming, _Mapping]]] = ..., generation: _Optional[_Union[GenerationRecord, _Mapping]] = ..., prompts: _Optional[_Union[PromptRecord, _Mapping]] = ..., tasks: _Optional[_Iterable[_Union[TaskAnswer, _Mapping]]] = ..., provenance: _Optional[_Union[ProvenanceRecord, _Mapping]] = ...) -> None: ...
