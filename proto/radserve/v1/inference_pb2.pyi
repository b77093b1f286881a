from radserve.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DecodingStrategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECODING_STRATEGY_UNSPECIFIED: _ClassVar[DecodingStrategy]
    DECODING_STRATEGY_GREEDY: _ClassVar[DecodingStrategy]
    DECODING_STRATEGY_BEAM: _ClassVar[DecodingStrategy]
    DECODING_STRATEGY_SAMPLE: _ClassVar[DecodingStrategy]
DECODING_STRATEGY_UNSPECIFIED: DecodingStrategy
DECODING_STRATEGY_GREEDY: DecodingStrategy
DECODING_STRATEGY_BEAM: DecodingStrategy
DECODING_STRATEGY_SAMPLE: DecodingStrategy

class InlineInstances(_message.Message):
    __slots__ = ("instances",)
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, instances: _Optional[_Iterable[bytes]] = ...) -> None: ...

class SeriesSelector(_message.Message):
    __slots__ = ("study_instance_uid", "series_instance_uid")
    STUDY_INSTANCE_UID_FIELD_NUMBER: _ClassVar[int]
    SERIES_INSTANCE_UID_FIELD_NUMBER: _ClassVar[int]
    study_instance_uid: str
    series_instance_uid: str
    def __init__(self, study_instance_uid: _Optional[str] = ..., series_instance_uid: _Optional[str] = ...) -> None: ...

class AnalysisInput(_message.Message):
    __slots__ = ("study_instance_uid", "series", "inline", "pack", "context", "context_document", "prompt_set", "report_options")
    STUDY_INSTANCE_UID_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    INLINE_FIELD_NUMBER: _ClassVar[int]
    PACK_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_SET_FIELD_NUMBER: _ClassVar[int]
    REPORT_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    study_instance_uid: str
    series: SeriesSelector
    inline: InlineInstances
    pack: str
    context: _common_pb2.ClinicalContext
    context_document: bytes
    prompt_set: str
    report_options: ReportOptions
    def __init__(self, study_instance_uid: _Optional[str] = ..., series: _Optional[_Union[SeriesSelector, _Mapping]] = ..., inline: _Optional[_Union[InlineInstances, _Mapping]] = ..., pack: _Optional[str] = ..., context: _Optional[_Union[_common_pb2.ClinicalContext, _Mapping]] = ..., context_document: _Optional[bytes] = ..., prompt_set: _Optional[str] = ..., report_options: _Optional[_Union[ReportOptions, _Mapping]] = ...) -> None: ...

class DecodingOptions(_message.Message):
    __slots__ = ("strategy", "beams", "length_penalty", "temperature", "top_k", "top_p", "seed", "max_tokens")
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    BEAMS_FIELD_NUMBER: _ClassVar[int]
    LENGTH_PENALTY_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    strategy: DecodingStrategy
    beams: int
    length_penalty: float
    temperature: float
    top_k: int
    top_p: float
    seed: int
    max_tokens: int
    def __init__(self, strategy: _Optional[_Union[DecodingStrategy, str]] = ..., beams: _Optional[int] = ..., length_penalty: _Optional[float] = ..., temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ..., seed: _Optional[int] = ..., max_tokens: _Optional[int] = ...) -> None: ...

class ReportOptions(_message.Message):
    __slots__ = ("language", "decoding")
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    DECODING_FIELD_NUMBER: _ClassVar[int]
    language: str
    decoding: DecodingOptions
    def __init__(self, language: _Optional[str] = ..., decoding: _Optional[_Union[DecodingOptions, _Mapping]] = ...) -> None: ...

class ClassifyLesionsRequest(_message.Message):
    __slots__ = ("input",)
    INPUT_FIELD_NUMBER: _ClassVar[int]
    input: AnalysisInput
    def __init__(self, input: _Optional[_Union[AnalysisInput, _Mapping]] = ...) -> None: ...

class ClassifyLesionsResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _common_pb2.StudyResult
    def __init__(self, result: _Optional[_Union[_common_pb2.StudyResult, _Mapping]] = ...) -> None: ...

class GenerateReportRequest(_message.Message):
    __slots__ = ("input",)
    INPUT_FIELD_NUMBER: _ClassVar[int]
    input: AnalysisInput
    def __init__(self, input: _Optional[_Union[AnalysisInput, _Mapping]] = ...) -> None: ...

class ReportPiece(_message.Message):
    __slots__ = ("series_instance_uid", "text")
    SERIES_INSTANCE_UID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    series_instance_uid: str
    text: str
    def __init__(self, series_instance_uid: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class GenerateReportResponse(_message.Message):
    __slots__ = ("piece", "result")
    PIECE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    piece: ReportPiece
    result: _common_pb2.StudyResult
    def __init__(self, piece: _Optional[_Union[ReportPiece, _Mapping]] = ..., result: _Optional[_Union[_common_pb2.StudyResult, _Mapping]] = ...) -> None: ...

class AnalyseStudyRequest(_message.Message):
    __slots__ = ("input", "outputs")
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    input: AnalysisInput
    outputs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, input: _Optional[_Union[AnalysisInput, _Mapping]] = ..., outputs: _Optional[_Iterable[str]] = ...) -> None: ...

class ArtifactChunk(_message.Message):
    __slots__ = ("name", "media_type", "data", "last")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    name: str
    media_type: str
    data: bytes
    last: bool
    def __init__(self, name: _Optional[str] = ..., media_type: _Optional[str] = ..., data: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class AnalyseStudyResponse(_message.Message):
    __slots__ = ("piece", "result", "artifact")
    PIECE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    piece: ReportPiece
    result: _common_pb2.StudyResult
    artifact: ArtifactChunk
    def __init__(self, piece: _Optional[_Union[ReportPiece, _Mapping]] = ..., result: _Optional[_Union[_common_pb2.StudyResult, _Mapping]] = ..., artifact: _Optional[_Union[ArtifactChunk, _Mapping]] = ...) -> None: ...
