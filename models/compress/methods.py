"""The methods by name: each turns a pack and its training data into a `Change`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from radserve.models.compress.quantise import PERCENTILE, fp16, int8_dynamic, int8_static, stripped
from radserve.models.compress.samples import Samples, by_graph, some
from radserve.models.compress.variant import Change
from radserve.models.pack import ModelPack

RANGE_IMAGES = 128  # of each label, at most, for the ranges of static int8: a histogram needs all activations in memory


class Method(StrEnum):
    """How to compress."""

    INT8_DYNAMIC = "int8-dynamic"
    INT8_STATIC = "int8-static"
    FP16 = "fp16"
    PRUNE = "prune"
    DISTILL = "distill"

    @property
    def learns(self) -> bool:
        """Whether it looks at images of the training split."""
        return self not in (Method.INT8_DYNAMIC, Method.FP16)


@dataclass(frozen=True)
class MethodOptions:
    """`calibration`: images of each label for pruning, and for static ranges, of which at most RANGE_IMAGES are used.
    `keep`: share of the channels that pruning leaves. `epochs`, `width` and `seed` are of distillation."""

    calibration: int = 256
    keep: float = 0.75
    epochs: int = 30
    width: int = 32
    seed: int = 0


def apply_method(method: Method, pack: ModelPack, train: Sequence[Samples], options: MethodOptions) -> Change:
    """Compress a pack by `method`, which may learn from `train`.

    Raises PACK_INVALID where it does not fit the pack's graphs.
    """
    graphs = {name: pack.read(name) for name in pack.graphs}
    seen = by_graph(pack, train)
    if method is Method.FP16:
        return _change(method, "16-bit floating point", {name: fp16(raw) for name, raw in graphs.items()}, "fp16")
    if method is Method.INT8_DYNAMIC:
        made = {name: int8_dynamic(raw) for name, raw in graphs.items()}
        return _change(method, "int8 (dynamic)", made, "int8")
    if method is Method.INT8_STATIC:
        others = {name: int8_dynamic(raw) for name, raw in graphs.items() if name not in seen}
        most = min(options.calibration, RANGE_IMAGES)
        images = {name: some(of_graph, most, options.seed) for name, of_graph in seen.items()}
        made = {**{name: int8_static(graphs[name], each) for name, each in images.items()}, **others}
        details = {
            "calibration_images": sum(map(len, images.values())),
            "calibration_split": "train",
            "range_percentile": PERCENTILE,
            "dynamic": sorted(others),
        }
        return _change(
            method, "int8 (static for the graphs of images, calibrated on the training split)", made, "int8", details
        )
    if method is Method.PRUNE:
        from radserve.models.compress.prune import prune_channels

        images = {name: some(of_graph, options.calibration, options.seed) for name, of_graph in seen.items()}
        pruned = {name: prune_channels(graphs[name], each, options.keep) for name, each in images.items()}
        channels = {name: each.channels for name, each in pruned.items()}
        details = {"keep": options.keep, "calibration_images": sum(map(len, images.values())), "channels": channels}
        words = f"image encoder pruned by channels (about {options.keep:.0%} kept in each pruned layer)"
        return _change(method, words, {name: each.graph for name, each in pruned.items()}, "fp32", details)
    from radserve.models.compress.distill import BATCH, distill_encoder

    steps = options.epochs * max(1, sum(len(each.pixels) for each in train) // BATCH)
    students = {
        name: distill_encoder(pack, name, of_graph, steps=steps, width=options.width, seed=options.seed)
        for name, of_graph in seen.items()
    }
    details = {"epochs": options.epochs, "width": options.width, "seed": options.seed}
    return _change(method, "image encoder distilled into a smaller one", students, "fp32", details)


def _change(
    method: Method, words: str, graphs: dict[str, bytes], precision: str, details: dict[str, object] | None = None
) -> Change:
    made = {name: stripped(raw) for name, raw in graphs.items()}
    return Change(method.value, words, made, dict.fromkeys(made, precision), details or {})
