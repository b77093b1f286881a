"""A complete model pack so small that it is made and run in milliseconds, for tests of everything around a model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace

from radserve.tensors import TensorSpec

NAME = "tiny"
EMBEDDING, CHANNELS, LAYERS, CONTEXT, WIDTH = 8, 6, 1, 24, 4
REPORT = "findings : the lungs are clear . impression : no pneumonia ."  # what the decoder writes, whatever it sees
SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")
WORDS = (
    *SPECIAL,
    *dict.fromkeys(f"{REPORT} pneumonia malignant benign breast lesion chest radiograph of normal".split()),
)

_LABEL = """
[[labels]]
name = "{name}"
code = {{value = "{code}", scheme = "SCT", meaning = "{meaning}"}}
site = {{value = "{site}", scheme = "SCT", meaning = "{where}"}}
threshold = 0.5
logit_scale = 10.0
temperature = 1.5
assertions = {{positive = ["{word}"], negative = ["no {word}"]}}
"""
PACK_TOML = """\
schema = 1
name = "{name}"
version = "{version}"
model_version = 1
licence = "Apache-2.0"
description = "Random weights, for tests."
initialised_from = "nothing"
risk_tier = "I"

[training]
data = "none"

[graphs.image_encoder]
file = "image_encoder.onnx"
max_batch_size = 64
preferred_batch_sizes = [8, 16]

[graphs.text_encoder]
file = "text_encoder.onnx"
max_batch_size = 64

[graphs.decoder_step]
file = "decoder_step.onnx"
max_batch_size = 16

[decoder]
max_tokens = 20
sections = ["Findings", "Impression"]

[[inputs]]
name = "chest radiograph"
modalities = ["CR", "DX"]
body_parts = ["CHEST"]
labels = ["Pneumonia"]

[inputs.intended_use]
age_years = [1, 5]
views = ["AP", "PA"]

[[inputs.preprocess]]
transform = "VoiWindow"

[[inputs.preprocess]]
transform = "Resize"
spatial_size = [28, 28]
mode = "area"

[[inputs]]
name = "breast ultrasound"
modalities = ["US"]
body_parts = ["BREAST"]
labels = ["Malignant breast lesion"]

[[inputs.preprocess]]
transform = "Resize"
spatial_size = [28, 28]
mode = "area"
"""
PROMPTS_TOML = """\
version = "1"

[labels."Pneumonia"]
positive = ["chest radiograph of pneumonia"]
negative = ["normal chest radiograph", "the lungs are clear"]

[labels."Malignant breast lesion"]
positive = ["malignant lesion of the breast"]
negative = ["benign lesion of the breast"]
"""


OWN_ENCODER = "image_encoder_breast"


def make_tiny_pack(
    folder: Path,
    name: str = NAME,
    *,
    version: str = "1.0.0",
    seed: int = 7,
    ballast: int = 0,
    own_encoder: bool = False,
) -> Path:
    """Write the pack into `folder` (made when absent) and return it. The same call gives the same bytes.

    Packs of another `seed` have other weights and so other scores. `ballast` makes the image encoder slow: so many
    784 x 784 products whose result changes nothing. With `own_encoder` the breast images have one of their own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    graphs = {
        "image_encoder": image_encoder(rng, ballast),
        "text_encoder": text_encoder(rng),
        "decoder_step": decoder_step(rng),
    }
    for graph, model in graphs.items():
        (folder / f"{graph}.onnx").write_bytes(model.SerializeToString())
    (folder / "tokenizer.json").write_text(_tokenizer().to_str())
    (folder / "prompts.toml").write_text(PROMPTS_TOML)
    (folder / "MODEL_CARD.md").write_text("# tiny\n\nRandom weights, for tests.\n")
    labels = _LABEL.format(
        name="Pneumonia",
        code="233604007",
        meaning="Pneumonia",
        site="39607008",
        where="Lung structure",
        word="pneumonia",
    ) + _LABEL.format(
        name="Malignant breast lesion",
        code="254837009",
        meaning="Malignant neoplasm of breast",
        site="76752008",
        where="Breast structure",
        word="malignant lesion",
    )
    stated = PACK_TOML.format(name=name, version=version)
    if own_encoder:
        (folder / f"{OWN_ENCODER}.onnx").write_bytes(image_encoder(rng).SerializeToString())
        graph = f'[graphs.{OWN_ENCODER}]\nfile = "{OWN_ENCODER}.onnx"\nmax_batch_size = 64\n\n[graphs.text_encoder]'
        stated = stated.replace("[graphs.text_encoder]", graph)
        stated = stated.replace('modalities = ["US"]', f'modalities = ["US"]\nimage_encoder = "{OWN_ENCODER}"')
    (folder / "pack.toml").write_text(stated + labels)
    return seal(folder)


def seal(folder: Path) -> Path:
    """Write the hashes of all files into pack.toml anew, after a test has changed some."""
    stated = (folder / "pack.toml").read_text().split("\n[files]\n")[0]
    files = sorted(path for path in folder.iterdir() if path.name != "pack.toml")
    hashes = "".join(f'"{path.name}" = "{hashlib.sha256(path.read_bytes()).hexdigest()}"\n' for path in files)
    (folder / "pack.toml").write_text(f"{stated}\n[files]\n{hashes}")
    return folder


def image_encoder(rng: np.random.Generator, ballast: int = 0) -> onnx.ModelProto:
    """A 4 x 4 patch convolution; patch embeddings add up to the L2-normalised embedding, as in a real pack."""
    weights = {
        "kernel": rng.standard_normal((CHANNELS, 1, 4, 4)),
        "projection": rng.standard_normal((CHANNELS, EMBEDDING)),
        "token_shape": np.array([0, CHANNELS, 49]),
        "patch_axis": np.array([1]),
        "smallest": np.array([1e-6]),
    }
    nodes = [
        helper.make_node("Conv", ["pixels", "kernel"], ["map"], strides=[4, 4]),
        helper.make_node("Relu", ["map"], ["active"]),
        helper.make_node("Reshape", ["active", "token_shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["image_tokens"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["image_tokens", "projection"], ["patches"]),
        helper.make_node("ReduceSum", ["patches", "patch_axis"], ["sum"], keepdims=1),
        helper.make_node("ReduceL2", ["sum"], ["length"], axes=[2], keepdims=1),
        helper.make_node("Max", ["length", "smallest"], ["norm"]),  # a blank image has no direction
        helper.make_node("Div", ["patches", "norm"], ["patch_embeddings"]),
        helper.make_node("ReduceSum", ["patch_embeddings", "patch_axis"], ["embedding"], keepdims=0),
    ]
    if ballast:
        nodes[-1].output[0] = "light_embedding"
        nodes += _ballast_nodes(ballast)
        weights |= {"heavy": rng.standard_normal((784, 784)) / 28, "row": np.array([0, 784]), "nothing": np.zeros(1)}
    outputs = {
        "embedding": (EMBEDDING,),
        "image_tokens": (49, CHANNELS),
        "patch_embeddings": (49, EMBEDDING),
    }
    return _model(nodes, {"pixels": (1, 28, 28)}, outputs, weights)


def _ballast_nodes(count: int) -> list[onnx.NodeProto]:
    chain = [helper.make_node("MatMul", [f"heavy_{index}", "heavy"], [f"heavy_{index + 1}"]) for index in range(count)]
    return [
        helper.make_node("Reshape", ["pixels", "row"], ["heavy_0"]),
        *chain,
        helper.make_node("Tanh", [f"heavy_{count}"], ["bounded"]),
        helper.make_node("ReduceMean", ["bounded"], ["weight"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["weight", "nothing"], ["zero"]),
        helper.make_node("Add", ["light_embedding", "zero"], ["embedding"]),
    ]


def text_encoder(rng: np.random.Generator) -> onnx.ModelProto:
    """The L2-normalised mean of word vectors."""
    nodes = [
        helper.make_node("Gather", ["words", "tokens"], ["vectors"]),
        helper.make_node("ReduceMean", ["vectors"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("LpNormalization", ["mean"], ["embedding"], axis=1, p=2),
    ]
    weights = {"words": rng.standard_normal((len(WORDS), EMBEDDING))}
    return _model(nodes, {"tokens": (CONTEXT,)}, {"embedding": (EMBEDDING,)}, weights)


def decoder_step(rng: np.random.Generator) -> onnx.ModelProto:
    """Greedy decoding from <start> writes REPORT and <end>; the cache and the image move the logits a little.

    The cache takes the word vector of each token at its position, so a wrongly passed cache shows in the logits.
    """
    spoken = [*(WORDS.index(word) for word in REPORT.split()), *[WORDS.index("<end>")] * CONTEXT][:CONTEXT]
    weights = {
        "script": np.eye(len(WORDS))[spoken] * 10,
        "words": rng.standard_normal((len(WORDS), WIDTH)) * 0.1,
        "positions": np.arange(CONTEXT).reshape(1, 1, CONTEXT, 1),
        "key_shape": np.array([0, 1, 1, WIDTH]),
        "position_shape": np.array([0, 1, 1, 1]),
        "from_cache": rng.standard_normal((WIDTH, len(WORDS))) * 0.01,
        "from_image": rng.standard_normal((CHANNELS, len(WORDS))) * 0.001,
        "cache_axes": np.array([1, 2]),
        "token_axis": np.array([1]),
    }
    nodes = [
        helper.make_node("Gather", ["words", "token"], ["key"]),
        helper.make_node("Reshape", ["key", "key_shape"], ["key_4d"]),
        helper.make_node("Reshape", ["position", "position_shape"], ["position_4d"]),
        helper.make_node("Equal", ["positions", "position_4d"], ["here"]),
        helper.make_node("Where", ["here", "key_4d", "cache"], ["cache_out"]),
        helper.make_node("ReduceSum", ["cache_out", "cache_axes"], ["memory"], keepdims=0),
        helper.make_node("MatMul", ["memory", "from_cache"], ["memory_logits"]),
        helper.make_node("ReduceMean", ["image_tokens"], ["seen"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["seen", "from_image"], ["image_logits"]),
        helper.make_node("Gather", ["script", "position"], ["next_3d"]),
        helper.make_node("Squeeze", ["next_3d", "token_axis"], ["next"]),
        helper.make_node("Sum", ["next", "memory_logits", "image_logits"], ["logits"]),
    ]
    cache = (2 * LAYERS, CONTEXT, WIDTH)
    inputs = {"token": (1,), "position": (1,), "image_tokens": (49, CHANNELS), "cache": cache}
    return _model(nodes, inputs, {"logits": (len(WORDS),), "cache_out": cache}, weights)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, ...]],
    outputs: dict[str, tuple[int, ...]],
    weights: dict[str, np.ndarray],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [_value(name, shape) for name, shape in inputs.items()],
        [_value(name, shape) for name, shape in outputs.items()],
        [
            numpy_helper.from_array(array if array.dtype == np.int64 else array.astype(np.float32), name)
            for name, array in weights.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _value(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    kind = TensorProto.INT64 if name in ("tokens", "token", "position") else TensorProto.FLOAT
    return helper.make_tensor_value_info(name, kind, ["batch", *shape])


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def random_inputs(specs: Iterable[TensorSpec], batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs that fit `specs`: standard normal numbers, and token ids and positions inside the vocabulary."""
    rng = np.random.default_rng(seed)
    return {
        spec.name: rng.standard_normal((batch, *spec.shape[1:]), dtype=np.float32)
        if spec.dtype == "float32"
        else rng.integers(0, len(WORDS), (batch, *spec.shape[1:]))
        for spec in specs
    }
