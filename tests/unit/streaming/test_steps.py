"""The step of a stream is one graph: it compiles and exports, and reads rings that others write."""

from __future__ import annotations

import pytest
import torch

from focalcodec.streaming.steps import DecoderStep, EncoderStep, write_rings
from tests.unit.streaming.small_streams import CHUNK, causal_codec, speech


def rings(step, batch):
    """Rings full of values that must not be read at the start."""
    return [torch.full((batch, *shape), 1e3) for shape in step.shapes]


def run(call, step, pieces, batch):
    """Outputs of pieces, each one step."""
    state, chunks = rings(step, batch), torch.zeros(batch, dtype=torch.int64)
    outputs = []
    with torch.no_grad():
        for piece in pieces:
            y, new = call(piece, chunks, state)
            write_rings(state, new, step.counts, chunks, torch.ones(batch, dtype=torch.bool))
            chunks = chunks + 1
            outputs.append(y)
    return torch.cat(outputs, dim=1)


def test_a_step_returns_new_frames_only():
    step = EncoderStep(causal_codec())
    state, before = rings(step, 2), torch.zeros(2, dtype=torch.int64)
    kept = [ring.clone() for ring in state]
    with torch.no_grad():
        toks, new = step(speech(2, CHUNK), before, state)
    assert toks.shape == (2, 4)
    assert all(map(torch.equal, state, kept))
    assert [frames.shape[1] for frames in new] == step.counts
    assert all(
        frames.shape[2:] == shape[1:] for frames, shape in zip(new, step.shapes, strict=True)
    )


@pytest.mark.parametrize("kind", ["export", "compile"])
def test_one_graph_serves_all_steps(kind):
    codec, sig = causal_codec(), speech(2, 11 * CHUNK)
    encoder, decoder = EncoderStep(codec), DecoderStep(codec)
    toks = torch.randint(0, 512, (2, 44), generator=torch.Generator().manual_seed(0))
    for step, pieces in [(encoder, sig.split(CHUNK, 1)), (decoder, toks.split(4, 1))]:
        expected = run(step, step, pieces, 2)
        example = (pieces[0], torch.zeros(2, dtype=torch.int64), rings(step, 2))
        if kind == "export":
            call = torch.export.export(step, example).module()
        else:
            call = torch.compile(step, backend="eager", fullgraph=True)
        torch.testing.assert_close(run(call, step, pieces, 2), expected, atol=1e-5, rtol=0.0)
