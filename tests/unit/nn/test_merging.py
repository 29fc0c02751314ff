"""Merging of similar neighbours: groups, padding, runs and what they save."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from focalcodec import FocalCodec, Tokens
from focalcodec.audio import write_audio
from focalcodec.coders import load_coder, parse_spec
from focalcodec.errors import UserError
from focalcodec.nn.merging import LONGEST, from_runs, merge_lats, to_runs
from tests.unit.nn.test_voice import make


@pytest.fixture(scope="module")
def codec() -> FocalCodec:
    return make(0)


def by_hand(lats: Tensor, threshold: float) -> Tensor:
    """Lats (N', L) of one clip, group by group."""
    merged, group = [], [lats[0]]

    def end() -> None:
        merged.extend([torch.stack(group).mean(dim=0)] * len(group))

    for last, lat in zip(lats, lats[1:], strict=False):
        close = torch.cosine_similarity(last, lat, dim=0) >= threshold
        if not close or len(group) == LONGEST:
            end()
            group = []
        group.append(lat)
    end()
    return torch.stack(merged)


@pytest.mark.parametrize("threshold", [-1.0, 0.3, 0.8, 1.0])
def test_groups_are_those_found_one_by_one(threshold: float) -> None:
    generator = torch.Generator().manual_seed(0)
    lats = torch.randn(3, 40, 4, generator=generator).cumsum(dim=1)
    lengths = torch.tensor([40, 23, 1])
    merged = merge_lats(lats, lengths, threshold)
    for item, length in enumerate(lengths.tolist()):
        expected = by_hand(lats[item, :length], threshold)
        torch.testing.assert_close(merged[item, :length], expected)
        assert torch.equal(merged[item, length:], lats[item, length:])


def test_each_clip_may_have_its_own_threshold_and_gradients_pass() -> None:
    lats = torch.randn(2, 9, 4, requires_grad=True)
    lengths = torch.tensor([9, 9])
    merged = merge_lats(lats, lengths, torch.tensor([-1.0, 1.1]))
    assert torch.equal(merged[1], lats[1]) and not torch.equal(merged[0], lats[0])
    merged.square().sum().backward()
    assert lats.grad is not None and bool(lats.grad.abs().sum(dim=-1).all())


def test_runs_are_at_most_eight() -> None:
    toks = torch.tensor([7] * 17 + [3] + [7] * 8)
    values, lengths = to_runs(toks)
    assert values.tolist() == [7, 7, 7, 3, 7] and lengths.tolist() == [8, 8, 1, 1, 8]
    assert torch.equal(from_runs(values, lengths), toks)


def test_a_lower_threshold_gives_fewer_runs(codec: FocalCodec) -> None:
    sig = 0.1 * torch.randn(2, 32000)
    lengths = torch.tensor([32000, 20000])
    toks, ends = codec.encode(sig, 16000, lengths)
    counts = []
    for threshold in (1.0, 0.9, 0.5, -1.0):
        merged, found = codec.encode(sig, 16000, lengths, merge=threshold)
        assert merged.shape == toks.shape and torch.equal(found, ends)
        alone, _ = codec.encode(sig[1:, :20000], 16000, merge=threshold)
        assert torch.equal(alone[0], merged[1, : int(ends[1])])
        counts.append(len(to_runs(merged[0])[0]))
    assert counts == sorted(counts, reverse=True) and counts[-1] == 7  # of 50 tokens
    for wrong in (2, True, "high"):
        with pytest.raises(UserError, match="merge=.*: give a cosine from -1 to 1"):
            codec.encode(sig, 16000, merge=wrong)  # type: ignore[arg-type]


def test_files_of_runs_are_smaller_and_give_the_tokens_back(codec: FocalCodec, tmp_path: Path):
    write_audio(tmp_path / "a.wav", 0.1 * torch.randn(160000), 16000)
    tokens = codec.encode_file(tmp_path / "a.wav", merge=0.5)
    sizes = [tokens.save(tmp_path / f"{body}.fct", body) for body in ("packed", "runs")]
    assert sizes[1] < 0.7 * sizes[0]
    assert torch.equal(Tokens.load(tmp_path / "runs.fct").toks, tokens.toks)


def test_evaluations_measure_the_rate(codec: FocalCodec, tmp_path: Path) -> None:
    codec.save_pretrained(tmp_path)
    coder = load_coder(parse_spec(f"merge:-1@{tmp_path}"), torch.device("cpu"))
    coded = coder.code(torch.randn(1, 32000), 16000, torch.tensor([32000]))
    assert coded.bits == [7 * (6 + 3)] and coder.kbps is None and coder.settings["merge"] == -1
    with pytest.raises(UserError, match="merge:0.9: give merge:COSINE@FOLDER"):
        parse_spec("merge:0.9")
