"""What the criteria ask of the pack that comes with radserve: int8 graphs of at most 30 % of the bytes."""

from __future__ import annotations

import numpy as np
import pytest

from radserve.models.catalogue import built_in_folder
from radserve.models.compress.quantise import int8_dynamic, int8_static, stripped
from radserve.models.pack import IMAGE_ENCODER, load_pack


@pytest.mark.parametrize("static", [False, True])
def test_the_graphs_of_the_default_pack_have_in_int8_at_most_30_percent_of_their_bytes(static: bool) -> None:
    pack = load_pack(built_in_folder() / "cxr-bus-mini")
    graphs = {name: pack.read(name) for name in pack.graphs}
    made = {name: int8_dynamic(raw) for name, raw in graphs.items() if not (static and name == IMAGE_ENCODER)}
    if static:
        shape = pack.graphs[IMAGE_ENCODER].tensor("pixels").shape
        pixels = np.random.default_rng(0).standard_normal((4, *shape[1:])).astype(np.float32)
        made[IMAGE_ENCODER] = int8_static(graphs[IMAGE_ENCODER], pixels)
    assert sum(len(stripped(raw)) for raw in made.values()) <= 0.30 * sum(map(len, graphs.values()))
