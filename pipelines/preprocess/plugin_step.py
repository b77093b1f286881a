"""The transform of another package as a step of a chain, held to what every step has to keep."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.traits import RandomizableTrait

from radserve.errors import ErrorCode, PackError, RadserveError
from radserve.pipelines.preprocess.chain import TransformSpec
from radserve.plugins import PluginRef, load_one
from radserve.preprocessors import PREPROCESSORS


def plugin_step(spec: TransformSpec, ref: PluginRef) -> Callable[[MetaTensor], MetaTensor]:
    """Make the transform that `ref` names, in this process.

    Raises PLUGIN_FAILED where it is not what was found in the metadata, cannot be imported or is random, PACK_INVALID
    for arguments that it does not take.
    """
    _check_version(ref)
    build = load_one(PREPROCESSORS, ref).usable()
    try:
        transform = build(**dict(spec.arguments))
    except (RadserveError, MemoryError):
        raise
    except (TypeError, ValueError) as error:
        raise PackError(ErrorCode.PACK_INVALID, f"transform {spec} does not take these arguments") from error
    except (Exception, SystemExit) as error:
        raise ref.failed(f"failed: {type(error).__name__}") from error
    if isinstance(transform, RandomizableTrait):
        raise ref.failed("is random; the same input must give the same tensor")
    if not callable(transform):
        raise ref.failed(f"made a {type(transform).__name__}, expected a transform")
    return lambda image: _apply(ref, transform, image)


def _check_version(ref: PluginRef) -> None:
    """A package that was changed since the server looked would not be the one that the result names."""
    try:
        version = metadata.version(ref.package)
    except metadata.PackageNotFoundError:
        version = "none"
    if version != ref.version:
        raise ref.failed(f"is no longer what it was: installed is {version}; start the server again")


def _apply(ref: PluginRef, transform: Callable[[MetaTensor], Any], image: MetaTensor) -> MetaTensor:
    shape, affine = tuple(image.shape[1:]), image.affine.clone()
    try:
        result = transform(image)
    except (RadserveError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, RuntimeError) and "allocate memory" in str(error):
            raise MemoryError from error
        raise ref.failed(f"failed: {type(error).__name__}") from error  # not its text, which may show pixel values
    if not isinstance(result, torch.Tensor | np.ndarray) or result.ndim != image.ndim:
        raise ref.failed(f"gave a {type(result).__name__}, expected a tensor of {image.ndim} axes")
    moved = tuple(result.shape[1:])
    if not isinstance(result, MetaTensor):
        result = MetaTensor(torch.as_tensor(result), affine=affine)
    if moved != shape and torch.equal(result.affine, affine):
        raise ref.failed(f"turned a grid of {shape} into one of {moved} and does not say where its pixels lie")
    if result.is_complex() or not torch.isfinite(result.affine).all():
        raise ref.failed("gave values or places that are not real numbers")
    return result
