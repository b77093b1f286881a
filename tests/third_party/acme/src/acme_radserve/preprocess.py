"""Presentation values held between two bounds."""

from __future__ import annotations

from monai.transforms.transform import Transform

RADSERVE_PLUGIN_API = 1


class Clip(Transform):
    """Values below `lower` become it, those above `upper` too."""

    def __init__(self, lower: float = 0.0, upper: float = 1.0) -> None:
        if lower >= upper:
            raise ValueError("lower is not below upper")
        self.lower, self.upper = lower, upper

    def __call__(self, image):
        return image.clamp(self.lower, self.upper)
