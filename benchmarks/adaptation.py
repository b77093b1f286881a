"""Every way of adapting a label, from few examples of each class: AUROC on val over three seeds, test once.

    python benchmarks/adaptation.py --data DIR [--base default|imagenet] [--methods ...] [--shots 1 4 16 64]

DIR holds breastmnist.npz and pneumoniamnist.npz. `default` starts from cxr-bus-mini, which learned from these training
images; `imagenet` from a network of its kind before training (ImageNet weights in one image tower, drawn ones
elsewhere), which has seen none of them. Images of a split with a near twin in a later one are left out. The models with
the most shots of the first seed are measured on test; nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from radserve.models.adapt.derive import Derivation, derive_pack
from radserve.models.adapt.heads import HEADS
from radserve.models.adapt.manifest import ContextTable, LowRankTable, Manifest, read_manifest
from radserve.models.adapt.protocol import learn
from radserve.models.catalogue import built_in_folder
from radserve.models.pack import IMAGE_ENCODER, ModelPack, load_pack
from radserve.server.adapting import embed_manifest
from radserve.server.adapting_learners import learner_of

MANIFEST = """[task]
label = "{label}"
input = "{input}"
[data]
file = "{file}"
positive = {positive}
overlap = "leave-out"
[card]
name = "{name}"
source = "MedMNIST v2, doi 10.1038/s41597-022-01721-8"
licence = "CC BY 4.0"
consent_basis = "published research data, de-identified by its authors"
deidentified = true
"""
SETS = {
    "BreastMNIST": ("Malignant breast lesion", "breast_ultrasound", "breastmnist.npz", 0),
    "PneumoniaMNIST": ("Pneumonia", "chest_radiograph", "pneumoniamnist.npz", 1),
}
VARIANTS = ("context-vectors", "context-vectors class-specific", "exemplars", "low-rank")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", choices=("default", "imagenet"), default="default")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--methods", nargs="+", default=list(VARIANTS))
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--steps", type=int, default=60, help="of the low-rank change")
    parser.add_argument("--image-batch", type=int, default=16)
    parser.add_argument("--cache", type=Path, help="Folder that keeps embeddings.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        base = load_pack(built_in_folder() / "cxr-bus-mini")
        base = untrained(base, folder / "imagenet") if given.base == "imagenet" else base
        print(f"base: {base.name} {base.version} ({base.digest[:12]})")
        for name in given.sets:
            label, use, file, positive = SETS[name]
            text = MANIFEST.format(
                label=label, input=use, file=(given.data / file).resolve(), positive=positive, name=name
            )
            (folder / f"{name}.toml").write_text(text)
            manifest = read_manifest(folder / f"{name}.toml")
            measure(base, manifest, given)


def measure(base: ModelPack, manifest: Manifest, given: argparse.Namespace) -> None:
    """Print the curve and the kept model of every method on one data set."""
    data, embedded = embed_manifest(base, manifest, given.cache)
    print(f"\n{manifest.card.name}: {[len(data.of(split)) for split in ('train', 'val', 'test')]} images")
    shown = set()
    for variant in given.methods:
        method, _, kind = variant.partition(" ")
        task = replace(
            manifest.task,
            method=method,
            shots=max(given.shots),
            curve=tuple(given.shots),
            context=ContextTable(variant=kind or "unified"),
            low_rank=LowRankTable(steps=given.steps, batch=given.image_batch),
        )
        started = time.process_time()
        learner = learner_of(base, replace(manifest, task=task), data, embedded)
        learned = learn(task, data, embedded.embeddings, embedded.logits, learner=learner, test=True)
        seconds = time.process_time() - started
        for point in learned.curve:
            if point.method not in HEADS or point.method not in shown:
                name = variant if point.method == method else point.method
                print(f"{name:32} {point.shots:>4} shots  val {point.mean:.4f} sd {point.spread:.4f}", flush=True)
        shown.update(HEADS)
        for each in filter(None, (learned.val, learned.test)):
            print(
                f"{variant:32} kept: {each.split} {each.auroc_before:.4f} -> {each.auroc_after:.4f}, "
                f"bound {each.gain_lower_bound:+.4f}, ECE {each.ece_after:.3f}, passed {learned.passed}, "
                f"{seconds:.0f} s of CPU",
                flush=True,
            )


def untrained(base: ModelPack, out: Path) -> ModelPack:
    """A network of the default pack before its training: one image tower for all inputs, with ImageNet weights and a
    drawn projection, and one drawn text tower."""
    import torch

    from radserve.models.export.onnx_graphs import plans, write_graph
    from radserve.models.train.architecture import ModelConfig, RadCoCa

    torch.manual_seed(7)
    config = replace(ModelConfig.load(base.folder / "model.json"), members=1, own_towers={})
    model = RadCoCa(config, pretrained=True).eval()
    with tempfile.TemporaryDirectory() as scratch:
        for plan in plans(model):
            write_graph(plan, Path(scratch) / plan.file_name)
        files = {path.name: path.read_bytes() for path in Path(scratch).iterdir()}
    files |= {base.graphs[use.image_encoder].file: files[base.graphs[IMAGE_ENCODER].file] for use in base.inputs}
    derivation = Derivation(
        version="0.0.0", words="before training", record_file="untrained.json", record={}, card="# Untrained\n",
        change=lambda table, prompts: None, files=files,
    )  # fmt: skip
    return derive_pack(base, derivation, out)


if __name__ == "__main__":
    main()
