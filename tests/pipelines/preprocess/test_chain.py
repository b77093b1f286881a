"""What a pack may declare, and how it is told what it may not."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from radserve.errors import ErrorCode, PackError
from radserve.pipelines.preprocess.allowed import ALLOWED, TransformKind
from radserve.pipelines.preprocess.chain import TransformSpec, chain_of


def test_a_chain_keeps_its_order_and_reads_as_it_was_declared() -> None:
    chain = chain_of(
        [("VoiWindow", {}), ("ResizeAntialias", {"spatial_size": [28, 28]}), ("ScaleIntensity", {"maxv": 2.0})]
    )

    assert [str(spec) for spec in chain] == [
        "VoiWindow()",
        "ResizeAntialias(spatial_size=(28, 28))",
        "ScaleIntensity(maxv=2.0)",
    ]


def test_a_spec_is_hashable_and_crosses_a_process_border_unchanged() -> None:
    spec = TransformSpec.of("Resize", {"spatial_size": [8, 9], "mode": "bilinear", "anti_aliasing": True})

    assert pickle.loads(pickle.dumps(spec)) == spec
    assert hash(spec) == hash(TransformSpec.of("Resize", dict(reversed(spec.arguments))))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("LoadImage", {}, "transform 'LoadImage' is not one of ["),
        ("Lambda", {"func": "print"}, "transform 'Lambda' is not one of ["),
        ("RandFlip", {}, "transform 'RandFlip' is random"),
        ("__class__", {}, "transform '__class__' is not one of ["),
        ("Resize", {"spatial_size": [8], "lazy": True}, "transform Resize takes no argument 'lazy'"),
        ("Resize", {}, "transform Resize needs the argument 'spatial_size'"),
        ("Resize", {"spatial_size": [0, 4]}, "Resize argument spatial_size: got (0, 4), expected sizes of at least 1"),
        ("Resize", {"spatial_size": []}, "Resize argument spatial_size: got (), expected sizes of at least 1"),
        ("Resize", {"spatial_size": [True, 4]}, "Resize argument spatial_size: got (True, 4)"),
        ("Resize", {"spatial_size": 4, "mode": "nearest"}, "Resize argument mode: got 'nearest', expected one of"),
        ("ShiftIntensity", {"offset": float("nan")}, "ShiftIntensity argument offset: got nan"),
        ("ShiftIntensity", {"offset": {"a": 1}}, "ShiftIntensity argument offset: got a dict"),
        (
            "MapIntensity",
            {"source": [0, 0], "target": [0, 1]},
            "source: got (0, 0), expected two rising numbers or more",
        ),
        ("MapIntensity", {"source": [0, 1], "target": [1]}, "target: got (1,), expected two rising numbers or more"),
        ("Spacing", {"pixdim": [0.5, 0]}, "Spacing argument pixdim: got (0.5, 0), expected lengths above 0"),
    ],
)
def test_a_transform_that_is_not_allowed_is_refused_by_name(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PackError) as refusal:
        TransformSpec.of(name, arguments)

    assert refusal.value.code is ErrorCode.PACK_INVALID
    assert message in refusal.value.client_message


def test_windowing_anywhere_but_first_is_refused() -> None:
    with pytest.raises(PackError, match="VoiWindow stands at place 2 of the chain, expected it first"):
        chain_of([("CropToSquare", {}), ("VoiWindow", {})])


def test_every_allowed_transform_and_argument_is_one_of_monai_or_ours() -> None:
    import inspect

    import monai.transforms as stock

    from radserve.pipelines.preprocess import transforms as own

    for name, rule in ALLOWED.items():
        if rule.kind is TransformKind.WINDOW:
            continue  # it is given the header's window, not arguments
        parameters = inspect.signature(getattr(own, name, None) or getattr(stock, name)).parameters
        takes_more = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        for argument in rule.arguments:
            assert argument in parameters or (takes_more and argument == "value"), (name, argument)
        required = {key for key, value in parameters.items() if value.default is value.empty}
        named = {key for key in required if parameters[key].kind is not inspect.Parameter.VAR_KEYWORD}
        assert named <= {key for key, value in rule.arguments.items() if value.required}, name
