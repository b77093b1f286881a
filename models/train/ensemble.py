"""Joins networks that were trained by themselves into one: those of all inputs, and the towers of single ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from radserve.models.train.architecture import IMAGE_CHANNELS, RadCoCa
from radserve.models.train.image_towers import ImageTower, ResidualTower
from radserve.models.train.own_tower import SingleTower

_RIDGE = 1e-3  # of the mean square of a channel


def join(members: Sequence[RadCoCa]) -> RadCoCa:
    """One network of `members`, which share their configuration; a single one is returned as it is.

    The decoder is that of the first member and, to begin with, sees the first member's tokens alone. Raises ValueError
    when the frozen stages, which run once for all, are not the same.
    """
    if len(members) == 1:
        return members[0]
    _check_frozen([each.visual for each in members])
    joint = RadCoCa(replace(members[0].config, members=len(members)))
    for tower, text, member in zip(joint.visual.towers, joint.text.towers, members, strict=True):
        tower.learning.load_state_dict(member.visual.learning.state_dict())
        tower.projection.load_state_dict(member.visual.projection.state_dict())
        text.load_state_dict(member.text.state_dict())
    joint.visual.towers[0].frozen.load_state_dict(members[0].visual.frozen.state_dict())
    joint.text_decoder.load_state_dict(members[0].text_decoder.state_dict())
    with torch.no_grad():
        joint.logit_scale.copy_(torch.stack([each.logit_scale for each in members]).mean())
        nn.init.zeros_(joint.visual.mix.bias)
        nn.init.zeros_(joint.visual.mix.weight)
        joint.visual.mix.weight[:, :IMAGE_CHANNELS, 0, 0] = torch.eye(IMAGE_CHANNELS)
    joint.eval()
    return joint


def with_own_towers(model: RadCoCa, members: Mapping[str, Sequence[SingleTower]]) -> RadCoCa:
    """`model` and, for each input of `members`, towers of its own; what it says of other inputs stays as it is."""
    own = {name: tuple(each.kind for each in towers) for name, towers in members.items()}
    joint = RadCoCa(replace(model.config, own_towers=own))
    joint.load_state_dict(model.state_dict(), strict=False)
    for name, towers in members.items():
        group = joint.own_tower(name)
        _check_frozen([each.visual for each in towers if isinstance(each.visual, ImageTower)])
        for tower, member in zip(group.towers, towers, strict=True):
            assert isinstance(tower, ImageTower | ResidualTower)  # noqa: S101  # as a ModuleList does not know
            tower.learning.load_state_dict(member.visual.learning.state_dict())
            tower.projection.load_state_dict(member.visual.projection.state_dict())
            if isinstance(tower, ImageTower) and not isinstance(tower.frozen, nn.Identity):
                tower.frozen.load_state_dict(member.visual.get_submodule("frozen").state_dict())
        with torch.no_grad():
            joint.own_scales[name].copy_(torch.stack([each.logit_scale for each in towers]).mean())
    joint.eval()
    return joint


@torch.no_grad()
def fit_mix(model: RadCoCa, input_name: str, pixels: Tensor) -> None:
    """Start the tokens of an input's own towers as near as their maps can to those that the decoder knows to read.

    `pixels` (N, 1, 28, 28), normalised. Ridge regression of the tokens of the other inputs' towers on the maps, place
    by place; the decoder and the mix learn together from there.
    """
    group = model.own_tower(input_name)
    maps = torch.cat(group.maps(pixels), dim=1).permute(0, 2, 3, 1).flatten(0, 2).double()
    known = model.visual(pixels)[1].flatten(0, 1).double()
    offset, aim = maps.mean(dim=0), known.mean(dim=0)
    centred = maps - offset
    gram = centred.T @ centred
    gram += torch.eye(len(gram), dtype=gram.dtype) * _RIDGE * gram.diagonal().mean()
    weight = torch.linalg.solve(gram, centred.T @ (known - aim)).T  # (C, members * C)
    group.mix.weight.copy_(weight[:, :, None, None])
    assert group.mix.bias is not None  # noqa: S101
    group.mix.bias.copy_(aim - weight @ offset)


def _check_frozen(towers: Sequence[ImageTower]) -> None:
    stages = [each.frozen.state_dict() for each in towers]
    if not all(torch.equal(stages[0][name], each[name]) for each in stages for name in each):
        raise ValueError("members of an ensemble need the same frozen stages: start them from the same weights")
