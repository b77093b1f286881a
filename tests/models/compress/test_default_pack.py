"""What the criteria ask of the pack that comes with radserve: int8 graphs of at most 30 % of the bytes."""

from __future__ import annotations

from radserve.models.catalogue import built_in_folder
from radserve.models.compress.quantise import int8_dynamic, stripped
from radserve.models.pack import load_pack


def test_the_graphs_of_the_default_pack_have_in_int8_at_most_30_percent_of_their_bytes() -> None:
    pack = load_pack(built_in_folder() / "cxr-bus-mini")
    graphs = [pack.read(name) for name in pack.graphs]
    assert sum(len(stripped(int8_dynamic(raw))) for raw in graphs) <= 0.30 * sum(map(len, graphs))
