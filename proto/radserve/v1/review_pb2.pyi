from radserve.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Decision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECISION_UNSPECIFIED: _ClassVar[Decision]
    DECISION_ACCEPTED: _ClassVar[Decision]
    DECISION_EDITED: _ClassVar[Decision]
    DECISION_REJECTED: _ClassVar[Decision]
DECISION_UNSPECIFIED: Decision
DECISION_ACCEPTED: Decision
DECISION_EDITED: Decision
DECISION_REJECTED: Decision

class RecordReviewRequest(_message.Message):
    __slots__ = ("result", "decision", "final")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    result: _common_pb2.StudyResult
    decision: Decision
    final: _containers.RepeatedCompositeFieldContainer[_common_pb2.ReportSection]
    def __init__(self, result: _Optional[_Union[_common_pb2.StudyResult, _Mapping]] = ..., decision: _Optional[_Union[Decision, str]] = ..., final: _Optional[_Iterable[_Union[_common_pb2.ReportSection, _Mapping]]] = ...) -> None: ...

class RecordReviewResponse(_message.Message):
    __slots__ = ("review_id",)
    REVIEW_ID_FIELD_NUMBER: _ClassVar[int]
    review_id: str
    def __init__(self, review_id: _Optional[str] = ...) -> None: ...
