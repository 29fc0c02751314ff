"""What the parts share at the boundary to programs for the official package."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from focalcodec.errors import UserError
from focalcodec.nn.official import (
    CompressorView,
    DecoderView,
    EncoderView,
    one_position,
    refuse_lengths,
    relative_mask,
    scripted,
)

KINDS = {
    DecoderView: lambda states: (states,),
    CompressorView: lambda states: ([states[:1], states[1:]],),
    EncoderView: lambda states: (states[0].sum().long(), states[:1], states[1:]),
}


class Part(nn.Module):
    """A part of three states; its output is a running sum of the first and the last one."""

    def __init__(self, view: Any, causal: bool) -> None:
        super().__init__()
        self.view, self.causal = view, causal
        self.chunk_size = 4
        self.scale = nn.Parameter(torch.tensor([2.0]))

    def forward(self, x: Tensor, *states: Any, length: Tensor | None = None) -> Any:
        kept = [s for s in tree_leaves(states) if isinstance(s, Tensor) and s.dim()]
        y = x * self.scale + (sum(s.sum() for s in kept) if kept else 0.0)
        if length is not None:
            y = y * relative_mask(length, y.shape[1])
        if self.causal:
            return y, *KINDS[self.view]([x[:, -1:], x[:, -2:], y[:, :1]])
        nothing = KINDS[self.view]([torch.zeros(()), None, None])
        return y, *torch.utils._pytree.tree_map(lambda _: None, nothing)

    def __prepare_scriptable__(self) -> nn.Module:
        return scripted(self, torch.ones(2, 8), self.view)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("view", KINDS)
def test_a_scripted_part_gives_what_the_part_gives(view, causal):
    part, file = Part(view, causal), io.BytesIO()
    torch.jit.save(torch.jit.script(part), file)
    file.seek(0)
    script = torch.jit.load(file)
    assert script.chunk_size == 4
    ours: list[Any] = []
    theirs: list[Any] = []
    for frames in (8, 3, 13):
        x = torch.randn(2, frames)
        y, *ours = part(x, *ours)
        z, *theirs = script(x, *theirs)
        assert torch.equal(y, z)
        if causal:
            assert all(map(torch.equal, tree_leaves(ours), tree_leaves(theirs)))
            assert [type(group) for group in ours] == [type(group) for group in theirs]


def test_a_scripted_encoder_takes_relative_lengths():
    part, length = Part(EncoderView, causal=False), torch.tensor([1.0, 0.4])
    x = torch.randn(2, 9)
    assert torch.equal(torch.jit.script(part)(x, length=length)[0], part(x, length=length)[0])


def test_a_scripted_part_has_the_weights_of_the_part():
    part = Part(DecoderView, causal=True)
    script = torch.jit.script(part)
    with torch.no_grad():
        part.scale.fill_(0.0)
    assert not script(torch.ones(1, 4))[0].any()


def test_relative_lengths_round_up():
    mask = relative_mask(torch.tensor([1.0, 0.61, 0.0]), 5)
    assert mask.sum(dim=1).tolist() == [5, 4, 0]


def test_one_position_is_refused_where_rows_differ():
    assert one_position(torch.tensor([4, 4])).shape == ()
    with pytest.raises(UserError, match=r"position: \[4, 8\]"):
        one_position(torch.tensor([4, 8]))


def test_lengths_in_second_place_are_refused():
    refuse_lengths(torch.tensor(4))
    refuse_lengths(None)
    with pytest.raises(UserError, match=r"lengths=\.\.\."):
        refuse_lengths(torch.tensor([4, 8]))
