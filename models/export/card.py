"""Writes the model card of the default pack from its records: no figure in it is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

from radserve.models.export import pack_facts
from radserve.models.export.parity import ParityReport
from radserve.models.train.checkpoint import TrainingRecord
from radserve.models.train.evaluate import EVALUATION_FILE
from radserve.models.train.loop import Recipe

CARD_FILE = "MODEL_CARD.md"

_CARD = Template("""\
# cxr-bus-mini $version

**Research only. Not a medical device, not for clinical use.** It exists so that every part of radserve runs and can
be measured without a network or a GPU. It reads images of 28 x 28 pixels: most of what a radiologist looks at is gone
at that size.

## What it is

A small CoCa (contrastive captioner) of open_clip: a convolutional image tower, a causal text tower and a report
decoder, trained from random weights (seed $seed) by this project. It answers two questions, each as a zero-shot
comparison of prompts, and writes a two-section report text.

| finding | input | higher score means |
|---|---|---|
| Pneumonia | chest radiograph (CR, DX) | pneumonia more likely |
| Malignant breast lesion | breast ultrasound (US) | malignancy more likely (label **0** of BreastMNIST) |

The embedding of an image is the sum of the embeddings of its 49 patches, so the product of a patch with the
difference of the two prompt embeddings is that patch's exact share of the score. A patch sees its surroundings too:
the map shows where evidence was gathered, not the outline of a lesion.

## Data

MedMNIST v2: Yang, J. et al., "MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D biomedical image
classification", Scientific Data 10:41 (2023), doi 10.1038/s41597-022-01721-8, licence CC BY 4.0. Official splits,
28 x 28, changed only by augmentation in memory.

- PneumoniaMNIST (4,708 / 524 / 624 images in train / val / test): chest radiographs of children of one to five years
  from one hospital in Guangzhou. Source: Kermany, D. S. et al., "Identifying Medical Diagnoses and Treatable Diseases
  by Image-Based Deep Learning", Cell 172:1122 (2018), doi 10.1016/j.cell.2018.02.010, CC BY 4.0.
- BreastMNIST (546 / 78 / 156): breast ultrasound of women of 25 to 75 years from one hospital in Cairo. Source:
  Al-Dhabyani, W. et al., "Dataset of breast ultrasound images", Data in Brief 28:104863 (2020),
  doi 10.1016/j.dib.2019.104863. Normal and benign images form one class.

The report sentences and prompts were written by this project and say only what a label says. They are not reports of
radiologists, and the decoder has never seen one.

## Training

$steps steps of $batch images, classes balanced (so a score assumes that both states are equally likely), and
$seconds s on $threads CPU threads. Loss: cross-entropy on the prompt pairs, contrast with all texts of the same class
as positives, and next-word cross-entropy. The final weights are an exponential moving average; no checkpoint was
picked by its result. Pixels are normalised per image: fixed numbers gave the same AUROC on the validation split, but
the decisions changed when brightness and contrast of its images did.

Then the decoder alone learns for $agreement_steps more steps to say what the classifier decides at its operating
point, on augmented and blended training images: the text is **not a second opinion**, it puts the classifier's answer
into words.

## Figures

Validation split, which also gave the temperature and the threshold (Youden), hence too good:

| finding | images | AUROC | NLL | temperature | threshold | contradicting reports |
|---|---|---|---|---|---|---|
$validation

Test split, read once by `python -m radserve.models.train.evaluate` (plain PyTorch; 95 % bootstrap interval):

| finding | images (positive) | AUROC | 95 % interval | sensitivity | specificity | contradicting reports |
|---|---|---|---|---|---|---|
$test

ONNX against PyTorch on $images images ($images_from): image embedding $image_difference, text embedding
$text_difference (largest absolute difference), greedy reports identical $identical of $compared.

## Limits

- Children's chest films of one hospital: an adult, lateral, portable or rotated film is outside the training data.
- With 78 validation images the operating point for breast ultrasound is coarse, and 42 malignant test images leave a
  wide interval.
- The official splits of BreastMNIST overlap: 59 of the 156 test images have a near twin in the training split (found by
  `radserve evaluate duplicates`). docs/measurements.md gives the AUROC without them.
- Neither data set gives sex, age or device per image: performance by group is unknown, and bias cannot be excluded.
- MedMNIST squeezes ultrasound images to a square and cuts chest films to theirs; the pack's preprocessing does too.
- It knows no other condition, no laterality, no size and no earlier study, and cannot refuse a foreign image.
- Its vocabulary is $words words; a prompt with other words is read as unknown words.

## Licence

Weights: Apache-2.0. Data: CC BY 4.0 with the attribution above.
""")


def write_card(folder: Path, record: TrainingRecord, parity: ParityReport) -> None:
    """Write MODEL_CARD.md for the pack in `folder`; uses its evaluation record when there is one."""
    config = json.loads((folder / "model.json").read_text())
    card = _CARD.substitute(
        version=pack_facts.VERSION,
        seed=record.seed,
        steps=record.steps,
        batch=2 * sum(Recipe().quotas),
        agreement_steps=record.agreement_steps,
        seconds=round(record.seconds),
        threads=record.threads,
        validation="\n".join(_validation(record)),
        test="\n".join(_test(folder / EVALUATION_FILE)),
        images=parity.image_count,
        images_from=parity.images,
        image_difference=f"{parity.image_embedding:.1e}",
        text_difference=f"{parity.text_embedding:.1e}",
        identical=parity.reports_identical,
        compared=parity.reports_compared,
        words=config["vocabulary_size"],
    )
    (folder / CARD_FILE).write_text(card)


def _validation(record: TrainingRecord) -> Iterator[str]:
    for label, each in record.labels.items():
        fit = each.calibration
        yield (
            f"| {label} | {each.images} | {fit.auroc:.3f} | {fit.negative_log_likelihood:.3f} "
            f"| {fit.temperature:.2f} | {fit.threshold:.3f} | {each.contradictions} of {each.images} |"
        )


def _test(path: Path) -> Iterator[str]:
    if not path.exists():
        yield "| not measured yet | | | | | | |"
        return
    document: dict[str, dict[str, Any]] = json.loads(path.read_text())
    for label, each in document.items():
        yield (
            f"| {label} | {each['images']} ({each['positives']}) | {each['auroc']:.3f} "
            f"| {each['auroc_low']:.3f} to {each['auroc_high']:.3f} | {each['sensitivity']:.3f} "
            f"| {each['specificity']:.3f} | {each['contradictions']} of {each['images']} |"
        )
