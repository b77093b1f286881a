"""A whole result of made-up findings over a small image, for tests of what is written from results.

image = sample_image(cr(array))
result = sample_result(image)                  # one positive and one negative finding
result = sample_result(image, report=None)     # any field of StudyResult
"""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from radserve.clinical_context import ClinicalContext, LaboratoryValue
from radserve.findings import CodedConcept, Finding, HeatMap, Region
from radserve.geometry import SpatialTransform
from radserve.image import Image, PixelProperties, Provenance
from radserve.plugins import PluginRef
from radserve.references import AcquisitionContext, InstanceRef, SourceContext
from radserve.reports import GenerationRecord, Report, ReportSection
from radserve.results import (
    LabelPromptRecord,
    PackRef,
    PromptRecord,
    ProvenanceRecord,
    ResultWarning,
    SeriesSummary,
    StudyResult,
    TaskAnswer,
    WarningCode,
)

PACK = PackRef(name="sample-pack", version="1.2.0", model_version=3, digest="0123456789abcdef" * 4)
PNEUMONIA = CodedConcept("233604007", "SCT", "Pneumonia")
LUNG = CodedConcept("39607008", "SCT", "Lung")
MASS = CodedConcept("4147007", "SCT", "Mass")


def sample_image(ds: Dataset, **properties: Any) -> Image:
    """The image of a grey dataset with an identity modality LUT; `properties` change those of the pixels."""
    array = ds_array(ds)
    given: dict[str, Any] = {
        "photometric_interpretation": ds.PhotometricInterpretation,
        "bits_stored": ds.BitsStored,
        "value_range": (0, 2**ds.BitsStored - 1),
        **properties,
    }
    return Image(
        array=array,
        properties=PixelProperties(**given),
        provenance=Provenance(transfer_syntax_uid=str(ExplicitVRLittleEndian)),
        context=AcquisitionContext(modality=ds.Modality, body_part=ds.get("BodyPartExamined", "")),
        source=sample_source(ds),
    )


def ds_array(ds: Dataset) -> np.ndarray[Any, Any]:
    """The pixels of an uncompressed grey dataset as (frames, rows, columns), read without a decoder."""
    kind = "i" if ds.PixelRepresentation else "u"
    shape = (int(ds.get("NumberOfFrames") or 1), ds.Rows, ds.Columns)
    values = np.frombuffer(ds.PixelData, f"<{kind}{ds.BitsAllocated // 8}", count=int(np.prod(shape)))
    return values.reshape(shape)


def sample_source(ds: Dataset) -> SourceContext:
    """The pixel-less header of a dataset."""
    header = copy.deepcopy(ds)
    del header.PixelData
    if not hasattr(header, "file_meta"):
        header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    header.save_as(buffer, enforce_file_format=True, implicit_vr=False, little_endian=True)
    uids = ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.SOPClassUID
    return SourceContext(InstanceRef(*map(str, uids)), buffer.getvalue())


def sample_finding(image: Image, label: str = "Pneumonia", probability: float = 0.87, frame: int = 1) -> Finding:
    """A finding in the middle of the image, its heat map a bump on a 7 x 7 grid over the whole frame."""
    shape = (image.array.shape[1], image.array.shape[2])
    rows, columns = shape
    top, bottom, left, right = rows / 4, rows * 3 / 4, columns / 3, columns * 2 / 3
    outline = np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]])
    offsets = np.arange(7) - 3.0
    bump = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / 4).astype(np.float32)
    return Finding(
        label=label,
        code=PNEUMONIA if label == "Pneumonia" else MASS,
        site=LUNG,
        score=0.75,
        probability=probability,
        threshold=0.5,
        region=Region(image.instance, frame, outline, HeatMap(bump, SpatialTransform.resize(shape, (7, 7)))),
        tracking_identifier=f"sample-pack {label} 1",
        tracking_uid=f"2.25.{1000 + len(label)}",
    )


def sample_result(*images: Image, **fields: Any) -> StudyResult:
    """A result of one study with a positive and a negative finding on each image."""
    first = images[0]
    given: dict[str, Any] = {
        "study_instance_uid": first.instance.study_instance_uid,
        "series": (
            SeriesSummary(
                first.instance.series_instance_uid, first.context.modality, "CHEST", len(images), True, "cxr"
            ),
        ),
        "findings": tuple(
            finding
            for image in images
            for finding in (
                sample_finding(image, frame=image.frames),
                sample_finding(image, "Malignant lesion", 0.031, image.frames),
            )
        ),
        "report": Report(
            (ReportSection("findings", "Opacity in the left lung."), ReportSection("impression", "Über."))
        ),
        "pack": PACK,
        "context": ClinicalContext(
            indication="cough",
            age_years=44.0,
            sex="F",
            laboratory_values=(LaboratoryValue("CRP", "85", "mg/L"),),
            prior_study_instance_uid="1.2.3",
        ),
        "sources": tuple(image.source for image in images),
        "timings_ms": (("decode", 12.5), ("infer", 30.0)),
        "warnings": (ResultWarning(WarningCode.INTENDED_USE_UNKNOWN, "The age is not known."),),
        "generation": GenerationRecord("en", "beam", (("beams", 4),), "1.0", "ab" * 32, 2, 1, 7, (("unsupported", 1),)),
        "provenance": ProvenanceRecord(
            "CC-BY-4.0",
            "nothing",
            (("source", "a set"),),
            "ef" * 32,
            (PluginRef("radserve.preprocessors", "median", "acme", "1.2", "acme:Median"),),
        ),
        "prompts": PromptRecord(
            "cxr",
            "1",
            "cd" * 32,
            "en",
            "contrastive",
            "1.0",
            (LabelPromptRecord("Pneumonia", ("a",), ("b",), ("c",), ("d",)),),
        ),
        "tasks": (TaskAnswer("view", first.instance.series_instance_uid, "PA", (("PA", 0.75), ("AP", 0.25))),),
        **fields,
    }
    return StudyResult(**given)
