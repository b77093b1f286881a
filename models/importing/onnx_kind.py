"""A plain ONNX file with a label list: a classifier, or a segmenter where an output has the axes of the input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from radserve.models.importing.imported import Chain, Imported, named_index, refused, square_chain
from radserve.models.importing.labels_file import ImportLabel, LabelsFile
from radserve.models.importing.weights import check_is_file
from radserve.models.onnx_signature import read_signature
from radserve.tensors import TensorSpec

_IMAGE, _VOLUME = 4, 5  # axes


def read_onnx(source: str, labels: LabelsFile, options: dict[str, str]) -> Imported:
    """Read an ONNX file as it is; `output` names the output that answers the labels (else its first).

    Its input is (N, channels, [slices,] rows, columns) float32 with sizes that are stated. What the values should be
    the file does not say: without `preprocess` in the labels file an image is windowed to [0, 1] and resized.
    """
    path = Path(source)
    check_is_file(path)
    data = path.read_bytes()
    signature = read_signature(data, path.name)
    if len(signature.inputs) != 1:
        raise refused(f"graph {path.name!r} has {len(signature.inputs)} inputs, expected one")
    entry = signature.inputs[0]
    wanted = options.get("output", signature.outputs[0].name)
    output = next((spec for spec in signature.outputs if spec.name == wanted), None)
    if output is None:
        raise refused(f"graph {path.name!r} has no output {wanted!r}, only {[o.name for o in signature.outputs]}")
    segments = len(output.shape) == len(entry.shape)
    graph = "segmenter" if segments else "classifier"
    return Imported(
        kind="onnx",
        input_kind="volume" if len(entry.shape) == _VOLUME else "image",
        preprocess=default_chain(entry),
        scoring=lambda label, place: output_scoring(label, place, graph, wanted, segments=segments),
        ready={graph: data},
        answers=output.shape[1],
        facts={"architecture": f"ONNX graph {path.name}", "input": f"{entry.name} {entry.shape}", "output": wanted},
    )


def default_chain(entry: TensorSpec) -> Chain:
    """What stands for a preprocessing that is not stated: windowed to [0, 1], resized to the graph's size."""
    if len(entry.shape) == _VOLUME:
        return (
            ("VoiWindow", {}),
            ("Orientation", {"axcodes": "SPL"}),
            ("Resize", {"spatial_size": list(entry.shape[2:]), "mode": "trilinear"}),
        )
    channels = entry.shape[1]
    return square_chain((entry.shape[2], entry.shape[3]), channels, [0.0] * channels, [1.0] * channels, mode="bilinear")


def output_scoring(label: ImportLabel, place: int, graph: str, output: str, *, segments: bool) -> dict[str, Any]:
    """The scoring of a label by one output of a graph."""
    index = named_index(label, place, ())
    shared = {"graph": graph, "output": output, "activation": label.activation or "sigmoid"}
    if segments:
        return {"kind": "mask", **shared, "channel": index, "least_voxels": label.least_voxels}
    return {"kind": "output", **shared, "index": index}
