"""What pack.toml of the default pack says beyond what training measured: codes, intended use, preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from radserve.models.train.architecture import Normalisation

NAME: Final = "cxr-bus-mini"
VERSION: Final = "2.3.0"
MODEL_VERSION: Final = 1
MAX_TOKENS: Final = 48
SECTIONS: Final = ("Findings", "Impression")
DESCRIPTION: Final = (
    "Small CoCa for 28 x 28 chest radiographs (pneumonia) and breast ultrasound (malignant lesion); research only"
)
TRAINING: Final = {
    "source": "PneumoniaMNIST and BreastMNIST of MedMNIST v2, 28 x 28",
    "doi": "10.1038/s41597-022-01721-8",
    "licence": "CC BY 4.0",
    "splits": "official: train to learn, val (breast: and train out of fold) to calibrate, test to measure",
    "overlap": "59 of the 156 breast test images have a near twin in the train split; figures with and without them",
    "origin_chest": "Kermany et al., Cell 2018, doi 10.1016/j.cell.2018.02.010, CC BY 4.0",
    "origin_breast": "Al-Dhabyani et al., Data in Brief 2020, doi 10.1016/j.dib.2019.104863",
    "texts": "written by the radserve project",
}
MAX_BATCH_SIZES: Final = {"image_encoder": 64, "text_encoder": 64, "decoder_step": 32}
PREFERRED_BATCH_SIZES: Final = {"image_encoder": (8, 16), "decoder_step": (4, 8, 16)}

Chain = tuple[tuple[str, dict[str, object]], ...]


@dataclass(frozen=True)
class InputFacts:
    """An input of the pack. Ages are those of the people in the source data."""

    name: str
    label: str
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    age_years: tuple[int, int]
    views: tuple[str, ...]
    crop_to_square: bool  # MedMNIST cut the chest films to their middle square, and squeezed the ultrasound images


@dataclass(frozen=True)
class LabelFacts:
    """A label's codes as (value, scheme, meaning)."""

    name: str
    code: tuple[str, str, str]
    site: tuple[str, str, str]


INPUTS: Final = (
    InputFacts(
        name="chest_radiograph",
        label="Pneumonia",
        modalities=("CR", "DX"),
        body_parts=("CHEST", "THORAX", "LUNG"),
        age_years=(1, 5),
        views=("AP", "PA"),
        crop_to_square=True,
    ),
    InputFacts(
        name="breast_ultrasound",
        label="Malignant breast lesion",
        modalities=("US",),
        body_parts=("BREAST",),
        age_years=(25, 75),
        views=(),
        crop_to_square=False,
    ),
)
LABELS: Final = (
    LabelFacts("Pneumonia", ("233604007", "SCT", "Pneumonia"), ("39607008", "SCT", "Lung")),
    LabelFacts(
        "Malignant breast lesion",
        ("254837009", "SCT", "Malignant neoplasm of breast"),
        ("76752008", "SCT", "Breast"),
    ),
)


def preprocessing(facts: InputFacts, normalisation: Normalisation) -> Chain:
    """The chain of an input: transform names with their arguments, in order."""
    fixed: dict[str, object] = {"subtrahend": normalisation.subtrahend, "divisor": normalisation.divisor}
    return (
        ("VoiWindow", {}),
        *((("CropToSquare", {}),) if facts.crop_to_square else ()),
        ("ResizeAntialias", {"spatial_size": [28, 28]}),
        ("NormalizeIntensity", {} if normalisation.per_image else fixed),
    )
