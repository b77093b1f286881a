from radserve.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PackInput(_message.Message):
    __slots__ = ("name", "modalities", "body_parts", "views", "least_age_years", "greatest_age_years", "labels")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODALITIES_FIELD_NUMBER: _ClassVar[int]
    BODY_PARTS_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    LEAST_AGE_YEARS_FIELD_NUMBER: _ClassVar[int]
    GREATEST_AGE_YEARS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    modalities: _containers.RepeatedScalarFieldContainer[str]
    body_parts: _containers.RepeatedScalarFieldContainer[str]
    views: _containers.RepeatedScalarFieldContainer[str]
    least_age_years: float
    greatest_age_years: float
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., modalities: _Optional[_Iterable[str]] = ..., body_parts: _Optional[_Iterable[str]] = ..., views: _Optional[_Iterable[str]] = ..., least_age_years: _Optional[float] = ..., greatest_age_years: _Optional[float] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class PackLabel(_message.Message):
    __slots__ = ("name", "code", "threshold")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    name: str
    code: _common_pb2.CodedConcept
    threshold: float
    def __init__(self, name: _Optional[str] = ..., code: _Optional[_Union[_common_pb2.CodedConcept, _Mapping]] = ..., threshold: _Optional[float] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("pack", "description", "licence", "risk_tier", "inputs", "labels", "ready")
    PACK_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    RISK_TIER_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    pack: _common_pb2.PackReference
    description: str
    licence: str
    risk_tier: str
    inputs: _containers.RepeatedCompositeFieldContainer[PackInput]
    labels: _containers.RepeatedCompositeFieldContainer[PackLabel]
    ready: bool
    def __init__(self, pack: _Optional[_Union[_common_pb2.PackReference, _Mapping]] = ..., description: _Optional[str] = ..., licence: _Optional[str] = ..., risk_tier: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[PackInput, _Mapping]]] = ..., labels: _Optional[_Iterable[_Union[PackLabel, _Mapping]]] = ..., ready: _Optional[bool] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "default_pack")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_PACK_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    default_pack: str
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., default_pack: _Optional[str] = ...) -> None: ...
