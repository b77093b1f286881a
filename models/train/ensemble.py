"""Joins networks that were trained from different seeds into one whose scores are the mean of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from radserve.models.train.architecture import IMAGE_CHANNELS, RadCoCa


def join(members: Sequence[RadCoCa]) -> RadCoCa:
    """One network of `members`, which share their configuration; a single one is returned as it is.

    The decoder is that of the first member and, to begin with, sees the first member's tokens alone. Raises ValueError
    when the frozen stages, which run once for all, are not the same.
    """
    if len(members) == 1:
        return members[0]
    stages = [each.visual.frozen.state_dict() for each in members]
    if not all(torch.equal(stages[0][name], each[name]) for each in stages for name in each):
        raise ValueError("members of an ensemble need the same frozen stages: start them from the same weights")
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
