"""result_json against the published schema, in both directions: nothing more and nothing less than it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator, ValidationError

from radserve.clinical_context import ClinicalContext
from radserve.errors import ErrorCode
from radserve.findings import Exemplar, Measurement, Region
from radserve.models.catalogue import PackCatalogue
from radserve.models.ontology import built_in_ontology
from radserve.models.prompts.rendering import render
from radserve.pipelines.prompts import prompt_record
from radserve.pipelines.segment import MILLILITRE, VOLUME
from radserve.reports import Evidence, EvidenceKind, ReportSentence
from radserve.results import StudyFailure, WarningCode
from radserve.server.result_json import failure_to_json, result_to_json, to_bytes
from tests.support.dicoms import cr
from tests.support.prompt_sets import read
from tests.support.results import sample_image, sample_result

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "result.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)


@pytest.fixture(scope="module")
def sample() -> Any:
    result = sample_result(sample_image(cr(np.zeros((40, 30), dtype=np.uint16))))
    measured = Measurement(VOLUME, 12.5, MILLILITRE)
    more: Any = {"measurements": (measured,), "exemplars": (Exemplar("Set/3", True, 0.9),)}
    findings = tuple(replace(each, **more) for each in result.findings)
    assert result.report is not None
    evidence = Evidence(EvidenceKind.FINDING, findings[0].tracking_uid)
    report = replace(result.report, sentences=(ReportSentence("Findings", "Opacity.", (evidence,)),))
    return replace(result, findings=findings, report=report)


def test_the_schema_itself_is_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_a_full_result_matches_the_schema(sample: Any) -> None:
    VALIDATOR.validate(json.loads(to_bytes(result_to_json(sample))))


def test_a_result_without_report_and_context_matches_the_schema() -> None:
    image = sample_image(cr(np.zeros((40, 30), dtype=np.uint16)))
    value = result_to_json(sample_result(image, report=None, context=ClinicalContext(), timings_ms=(), warnings=()))
    VALIDATOR.validate(json.loads(to_bytes(value)))
    assert value["report"] is None and value["context"]["age_years"] is None


def test_a_finding_without_a_place_matches_the_schema(sample: Any) -> None:
    region = sample.findings[0].region
    bare = replace(sample.findings[0], region=Region(region.instance, region.frame))
    value = json.loads(to_bytes(result_to_json(replace(sample, findings=(bare,)))))
    VALIDATOR.validate(value)
    assert value["findings"][0]["region"]["outline"] is None and value["findings"][0]["region"]["heat_map"] is None


def resolve(schema: dict[str, Any]) -> dict[str, Any]:
    for option in schema.get("anyOf", []):
        if "$ref" in option:
            return resolve(option)
    if "$ref" in schema:
        return resolve(SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]])
    return schema


def objects(schema: dict[str, Any], value: Any, place: str = "$") -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Every object of the schema with the value that stands there."""
    schema = resolve(schema)
    if "items" in schema:
        assert value, f"the sample has nothing at {place}"
        yield from objects(schema["items"], value[0], f"{place}[]")
    if schema.get("type") == "object":
        yield place, schema, value
        for name, part in schema.get("properties", {}).items():
            yield from objects(part, value[name], f"{place}.{name}")


def test_every_object_of_the_schema_is_closed_and_every_property_is_written(sample: Any) -> None:
    seen = list(objects(SCHEMA, json.loads(to_bytes(result_to_json(sample)))))
    assert len(seen) >= 12
    for place, schema, value in seen:
        if place in (
            "$.timings_ms",
            "$.generation.parameters",
            "$.generation.faults",
            "$.tasks[].scores",
            "$.provenance.data",
        ):  # free names, numbers or texts only
            assert schema["additionalProperties"]["type"] in ("number", "integer", "string")
            continue
        assert schema["additionalProperties"] is False, place
        assert set(schema["properties"]) == set(schema["required"]) == set(value), place


def test_every_warning_code_is_in_the_schema() -> None:
    assert set(SCHEMA["$defs"]["warning"]["properties"]["code"]["enum"]) == {code.value for code in WarningCode}


@pytest.mark.parametrize(
    ("name", "value"), [("status", "final"), ("extra", 1), ("findings", []), ("study_instance_uid", "../x")]
)
def test_the_schema_refuses_what_is_not_a_result(sample: Any, name: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        VALIDATOR.validate({**result_to_json(sample), name: value})


def test_values_survive_the_way_through_json(sample: Any) -> None:
    read = json.loads(to_bytes(result_to_json(sample)))
    for given, found in zip(sample.findings, read["findings"], strict=True):
        assert (found["label"], found["probability"], found["positive"]) == (
            given.label,
            given.probability,
            given.positive,
        )
        np.testing.assert_array_equal(np.array(found["region"]["outline"]), given.region.outline)
        heat_map = found["region"]["heat_map"]
        np.testing.assert_array_equal(np.array(heat_map["values"], dtype=np.float32), given.region.heat_map.values)
        np.testing.assert_array_equal(np.array(heat_map["grid_to_source"]), given.region.heat_map.grid_to_source.matrix)
    assert read["report"]["text"] == sample.report.text
    assert read["context"]["laboratory_values"] == [{"name": "CRP", "value": "85", "unit": "mg/L"}]


def test_the_same_result_gives_the_same_bytes_and_text_stays_readable(sample: Any) -> None:
    data = to_bytes(result_to_json(sample))
    assert data == to_bytes(dict(reversed(list(result_to_json(sample).items()))))
    assert "Über" in data.decode("utf-8") and data.endswith(b"}\n")


def test_no_header_of_a_source_reaches_the_json(sample: Any) -> None:
    assert b"Doe" in sample.sources[0].header
    assert b"Doe" not in to_bytes(result_to_json(sample))


def test_numbers_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        to_bytes({"value": float("nan")})


def test_file_names_that_are_no_text_survive() -> None:
    reference = b"folder/\xff.dcm".decode("utf-8", "surrogateescape")
    failure = failure_to_json(StudyFailure(ErrorCode.NOT_DICOM, "not a DICOM file", reference))
    assert json.loads(to_bytes(failure))["file"] == reference


def test_a_failure_names_code_message_and_file() -> None:
    failure = StudyFailure(ErrorCode.NOT_DICOM, "not a DICOM file", "folder/a.txt")
    assert failure_to_json(failure) == {
        "code": "NOT_DICOM",
        "message": "not a DICOM file",
        "file": "folder/a.txt",
        "study_instance_uid": "",
    }


def test_prompts_that_knowledge_added_stand_beside_those_of_the_set(sample: Any, tmp_path: Path) -> None:
    """The ablation is the flag: without it the second list is empty, and the first is the same."""
    pack = PackCatalogue().get("cxr-bus-mini")
    documents = []
    for expand in (True, False):
        prompts = replace(read(tmp_path), expand=expand)
        record = prompt_record(render(prompts, pack, built_in_ontology()))
        documents.append(json.loads(to_bytes(result_to_json(replace(sample, prompts=record))))["prompts"])
        VALIDATOR.validate(json.loads(to_bytes(result_to_json(replace(sample, prompts=record)))))
    expanded, plain = documents
    label, same = expanded["labels"][0], plain["labels"][0]
    assert label["positive"] == same["positive"] and "positive for pneumonia ." in label["positive"]
    assert "positive for bronchopneumonia ." in label["added_positive"] and label["added_negative"]
    assert same["added_positive"] == same["added_negative"] == []
    assert expanded["ontology_version"] == built_in_ontology().version and plain["ontology_version"] == ""
    assert expanded["sha256"] != plain["sha256"]
