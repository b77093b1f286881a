from radserve.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_AVAILABLE: _ClassVar[ModelState]
    MODEL_STATE_LOADED: _ClassVar[ModelState]
    MODEL_STATE_ACTIVE: _ClassVar[ModelState]
    MODEL_STATE_SHADOW: _ClassVar[ModelState]
    MODEL_STATE_PREVIOUS: _ClassVar[ModelState]
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_AVAILABLE: ModelState
MODEL_STATE_LOADED: ModelState
MODEL_STATE_ACTIVE: ModelState
MODEL_STATE_SHADOW: ModelState
MODEL_STATE_PREVIOUS: ModelState

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
    __slots__ = ("pack", "description", "licence", "risk_tier", "inputs", "labels", "ready", "state", "deprecated", "requests", "shadow")
    PACK_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    RISK_TIER_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DEPRECATED_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    pack: _common_pb2.PackReference
    description: str
    licence: str
    risk_tier: str
    inputs: _containers.RepeatedCompositeFieldContainer[PackInput]
    labels: _containers.RepeatedCompositeFieldContainer[PackLabel]
    ready: bool
    state: ModelState
    deprecated: str
    requests: int
    shadow: ShadowSummary
    def __init__(self, pack: _Optional[_Union[_common_pb2.PackReference, _Mapping]] = ..., description: _Optional[str] = ..., licence: _Optional[str] = ..., risk_tier: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[PackInput, _Mapping]]] = ..., labels: _Optional[_Iterable[_Union[PackLabel, _Mapping]]] = ..., ready: _Optional[bool] = ..., state: _Optional[_Union[ModelState, str]] = ..., deprecated: _Optional[str] = ..., requests: _Optional[int] = ..., shadow: _Optional[_Union[ShadowSummary, _Mapping]] = ...) -> None: ...

class LabelAgreement(_message.Message):
    __slots__ = ("label", "compared", "agreeing", "delivered_positive", "shadow_positive", "mean_difference", "largest_absolute_difference")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    AGREEING_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_POSITIVE_FIELD_NUMBER: _ClassVar[int]
    SHADOW_POSITIVE_FIELD_NUMBER: _ClassVar[int]
    MEAN_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    LARGEST_ABSOLUTE_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    label: str
    compared: int
    agreeing: int
    delivered_positive: int
    shadow_positive: int
    mean_difference: float
    largest_absolute_difference: float
    def __init__(self, label: _Optional[str] = ..., compared: _Optional[int] = ..., agreeing: _Optional[int] = ..., delivered_positive: _Optional[int] = ..., shadow_positive: _Optional[int] = ..., mean_difference: _Optional[float] = ..., largest_absolute_difference: _Optional[float] = ...) -> None: ...

class ShadowSummary(_message.Message):
    __slots__ = ("studies", "failures", "missed", "labels")
    STUDIES_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    studies: int
    failures: int
    missed: int
    labels: _containers.RepeatedCompositeFieldContainer[LabelAgreement]
    def __init__(self, studies: _Optional[int] = ..., failures: _Optional[int] = ..., missed: _Optional[int] = ..., labels: _Optional[_Iterable[_Union[LabelAgreement, _Mapping]]] = ...) -> None: ...

class LoadModelRequest(_message.Message):
    __slots__ = ("pack",)
    PACK_FIELD_NUMBER: _ClassVar[int]
    pack: str
    def __init__(self, pack: _Optional[str] = ...) -> None: ...

class LoadModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class UnloadModelRequest(_message.Message):
    __slots__ = ("pack",)
    PACK_FIELD_NUMBER: _ClassVar[int]
    pack: str
    def __init__(self, pack: _Optional[str] = ...) -> None: ...

class UnloadModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class PromotionOverride(_message.Message):
    __slots__ = ("persons", "reason")
    PERSONS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    persons: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    def __init__(self, persons: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ...) -> None: ...

class PromoteModelRequest(_message.Message):
    __slots__ = ("pack", "evaluation_record", "override", "evaluation_signature")
    PACK_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_RECORD_FIELD_NUMBER: _ClassVar[int]
    OVERRIDE_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    pack: str
    evaluation_record: bytes
    override: PromotionOverride
    evaluation_signature: bytes
    def __init__(self, pack: _Optional[str] = ..., evaluation_record: _Optional[bytes] = ..., override: _Optional[_Union[PromotionOverride, _Mapping]] = ..., evaluation_signature: _Optional[bytes] = ...) -> None: ...

class PromoteModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class RollbackModelRequest(_message.Message):
    __slots__ = ("pack",)
    PACK_FIELD_NUMBER: _ClassVar[int]
    pack: str
    def __init__(self, pack: _Optional[str] = ...) -> None: ...

class RollbackModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class ShadowModelRequest(_message.Message):
    __slots__ = ("pack", "off")
    PACK_FIELD_NUMBER: _ClassVar[int]
    OFF_FIELD_NUMBER: _ClassVar[int]
    pack: str
    off: bool
    def __init__(self, pack: _Optional[str] = ..., off: _Optional[bool] = ...) -> None: ...

class ShadowModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class DeprecateModelRequest(_message.Message):
    __slots__ = ("pack", "reason")
    PACK_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    pack: str
    reason: str
    def __init__(self, pack: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class DeprecateModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "default_pack")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_PACK_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    default_pack: str
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., default_pack: _Optional[str] = ...) -> None: ...
