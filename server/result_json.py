"""Results and failures as JSON: the form of result.json and failures.json (docs/result.schema.json)."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from radserve.findings import Finding, HeatMap, Region
from radserve.reports import GenerationRecord, Report
from radserve.results import ProvenanceRecord, StudyFailure, StudyResult

SCHEMA_VERSION = "1.1"


def result_to_json(result: StudyResult) -> dict[str, Any]:
    """Return a result as plain dicts, lists, strings and numbers; the sources' headers stay out.

    Outlines are (column, row) and heat maps (row, column), as in `Region` and `HeatMap`, None where there is none.
    Masks stay out: the SEG has them. `report` is None where none was asked for.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "draft",
        "study_instance_uid": result.study_instance_uid,
        "series": [asdict(series) for series in result.series],
        "findings": [_finding(finding) for finding in result.findings],
        "report": _report(result.report) if result.report else None,
        "pack": asdict(result.pack),
        "context": asdict(result.context)
        | {"laboratory_values": [asdict(v) for v in result.context.laboratory_values]},
        "timings_ms": dict(result.timings_ms),
        "generation": _generation(result.generation) if result.generation else None,
        "prompts": asdict(result.prompts) if result.prompts else None,
        "provenance": _provenance(result.provenance) if result.provenance else None,
        "tasks": [asdict(each) | {"scores": dict(each.scores)} for each in result.tasks],
        "warnings": [{"code": warning.code.value, "message": warning.message} for warning in result.warnings],
    }


def failure_to_json(failure: StudyFailure) -> dict[str, Any]:
    """Return a failure as an entry of failures.json; `file` is the caller's own name for the input."""
    return {
        "code": failure.code.value,
        "message": failure.message,
        "file": failure.reference,
        "study_instance_uid": failure.study_instance_uid,
    }


def to_bytes(value: Any) -> bytes:
    """Return JSON as UTF-8 with sorted keys and a last line end: the same value gives the same bytes.

    Raises ValueError for NaN and infinities, which JSON does not have.
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    # Lone surrogates stand for the bytes of odd file names; "\udcff" is what JSON has for them.
    return text.encode("utf-8", "backslashreplace")


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "label": finding.label,
        "code": asdict(finding.code),
        "site": asdict(finding.site),
        "score": float(finding.score),
        "probability": float(finding.probability),
        "threshold": float(finding.threshold),
        "positive": bool(finding.positive),
        "region": _region(finding.region),
        "tracking_identifier": finding.tracking_identifier,
        "tracking_uid": finding.tracking_uid,
        "measurements": [
            {"name": asdict(each.name), "value": float(each.value), "unit": asdict(each.unit)}
            for each in finding.measurements
        ],
        "ood_score": None if finding.ood_score is None else float(finding.ood_score),
        "cannot_assess": bool(finding.cannot_assess),
        "exemplars": [asdict(each) for each in finding.exemplars],
    }


def _region(region: Region) -> dict[str, Any]:
    return {
        "series_instance_uid": region.instance.series_instance_uid,
        "sop_instance_uid": region.instance.sop_instance_uid,
        "frame": region.frame,
        "outline": None if region.outline is None else region.outline.tolist(),
        "heat_map": _heat_map(region.heat_map) if region.heat_map else None,
    }


def _heat_map(heat_map: HeatMap) -> dict[str, Any]:
    return {
        "values": [[_shortest(value) for value in row] for row in heat_map.values],
        "grid_to_source": heat_map.grid_to_source.matrix.tolist(),
    }


def _generation(record: GenerationRecord) -> dict[str, Any]:
    return asdict(record) | {"parameters": dict(record.parameters), "faults": dict(record.faults)}


def _provenance(record: ProvenanceRecord) -> dict[str, Any]:
    plugins = [
        {"point": each.group, "name": each.name, "package": each.package, "version": each.version}
        for each in record.plugins
    ]
    return asdict(record) | {"data": dict(record.data), "plugins": plugins}


def _report(report: Report) -> dict[str, Any]:
    return {
        "text": report.text,
        "sections": [asdict(section) for section in report.sections],
        "sentences": [
            {
                "section": each.section,
                "text": each.text,
                "evidence": [{"kind": e.kind.value, "reference": e.reference} for e in each.evidence],
            }
            for each in report.sentences
        ],
        "status": report.status,
    }


def _shortest(value: Any) -> float:
    """The shortest decimal that reads back as the same float32."""
    return float(str(value))
