"""Foreign images are warned of, or refused where the site is strict; what cannot be assessed is no answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from radserve.errors import ErrorCode, RequestError
from radserve.models.gate import Gate
from radserve.models.pack_types import InputGate
from radserve.pipelines.draft import UNSURE
from radserve.pipelines.study import StudyAnalyser
from radserve.results import StudyResult, WarningCode
from tests.support.analysing import analyse, study_of
from tests.support.packs import CHANNELS
from tests.support.pipeline import images_of, make_analyser


async def _gated(tmp_path: Path, threshold: float, *, strict: bool = False) -> StudyAnalyser:
    """The tiny pack with a gate that knows no training images: the score is the mean square of the statistics."""
    analyser, _, _ = await make_analyser(tmp_path, list(images_of()), strict=strict)
    pack, gate = analyser.pack, InputGate("gate.safetensors", threshold, 0.02)
    statistics = Gate(np.zeros(2 * CHANNELS, np.float32), np.eye(2 * CHANNELS, dtype=np.float32))
    gates = MappingProxyType({each.name: statistics for each in pack.inputs})
    return replace(analyser, pack=replace(pack, inputs=tuple(replace(i, gate=gate) for i in pack.inputs), gates=gates))


async def _result(analyser: StudyAnalyser) -> StudyResult:
    return (await analyse(analyser, study_of(list(images_of()))))[0]


def _codes(result: StudyResult) -> set[WarningCode]:
    return {warning.code for warning in result.warnings}


async def test_an_image_above_the_limit_is_warned_of_with_both_numbers(tmp_path: Path) -> None:
    result = await _result(await _gated(tmp_path, threshold=0.0))
    assert WarningCode.OUT_OF_DISTRIBUTION in _codes(result)
    (warning,) = [each for each in result.warnings if each.code is WarningCode.OUT_OF_DISTRIBUTION]
    assert f"score {result.findings[0].ood_score:.3g}, limit 0" in warning.message


async def test_an_image_below_the_limit_has_its_score_and_no_warning(tmp_path: Path) -> None:
    result = await _result(await _gated(tmp_path, threshold=1e9))
    assert result.findings[0].ood_score is not None and result.findings[0].ood_score > 0
    assert WarningCode.OUT_OF_DISTRIBUTION not in _codes(result)


async def test_a_strict_site_refuses_a_foreign_image(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="unlike those this model learned from") as caught:
        await _result(await _gated(tmp_path, threshold=0.0, strict=True))
    assert caught.value.code is ErrorCode.OUTSIDE_INTENDED_USE


async def test_a_pack_without_a_gate_gives_no_score(tmp_path: Path) -> None:
    analyser, _, _ = await make_analyser(tmp_path, list(images_of()))
    assert (await _result(analyser)).findings[0].ood_score is None


@pytest.mark.parametrize(("band", "undecided"), [((0.0, 1.0), True), ((2.0, 3.0), False)])
async def test_a_probability_inside_the_band_is_no_answer_and_takes_the_text_with_it(
    tmp_path: Path, band: tuple[float, float], undecided: bool
) -> None:
    analyser, _, _ = await make_analyser(tmp_path, list(images_of()))
    probability = (await _result(analyser)).findings[0].probability
    inside = (band[0], band[1]) if undecided else (min(1.0, probability + 1e-6), 1.0)
    labels = tuple(replace(each, cannot_assess=inside, threshold=1.0) for each in analyser.pack.labels)
    result = await _result(replace(analyser, pack=replace(analyser.pack, labels=labels)))
    assert result.findings[0].cannot_assess is undecided
    assert (WarningCode.CANNOT_ASSESS in _codes(result)) is undecided
    assert result.report is not None
    assert (UNSURE in result.report.text) is undecided
    assert ("cannot be assessed" in result.report.text) is undecided
