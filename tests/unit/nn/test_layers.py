"""The causal convolution in steps."""

from __future__ import annotations

import pytest
import torch

from focalcodec.nn.layers import MaskedConv1d


@pytest.mark.parametrize("padding", ["replicate", "constant"])
@torch.no_grad()
def test_steps_give_what_the_whole_gives(padding: str) -> None:
    torch.manual_seed(0)
    conv = MaskedConv1d(3, 4, kernel_size=5, causal=True, causal_padding=padding)
    x = torch.randn(2, 13, 3)
    outputs, context = [], None
    for chunk in x.split([1, 4, 2, 6], dim=1):
        before = None if context is None else context.clone()
        y, later = conv.step(chunk, context)
        assert context is None or context.equal(before)  # a step does not change its arguments
        assert later.shape == (2, 4, 3)
        outputs.append(y)
        context = later
    torch.testing.assert_close(torch.cat(outputs, dim=1), conv(x), atol=1e-6, rtol=0)
    mask = torch.ones(2, 13, dtype=torch.bool)
    assert conv(x).equal(conv(x, mask))
