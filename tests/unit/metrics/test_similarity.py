"""Speaker similarity."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from focalcodec.metrics.judge import JudgedClip
from focalcodec.metrics.similarity import PART, SimilarityJudge, _starts

RATE = 16000


class _Mean(SimilarityJudge):
    """Embeds a signal by the sign of its first sample."""

    def __init__(self) -> None:
        super().__init__("Mean", "mean")
        self.count = 0

    def embed(self, sig: Tensor) -> Tensor:
        self.count += 1
        return torch.tensor([float(sig[0].sign()), 0.0])

    def describe(self) -> dict[str, str]:
        return {}


def test_the_wanted_speaker_is_the_target_and_embedded_once() -> None:
    judge, sig = _Mean(), torch.randn(RATE)
    clips = [
        JudgedClip("same", sig, 2 * sig, RATE),
        JudgedClip("other", sig, -sig, RATE),
        JudgedClip("converted", -sig, sig, RATE, target_sig=sig),
    ]
    values = [verdict.scores["sim_mean"].value for verdict in judge.score(clips)]
    assert values == [100, -100, 100]
    assert judge.count == 4  # one reference, three outputs


@pytest.mark.parametrize("people", ["real", "synthetic"])
def test_a_speaker_is_nearer_to_itself_than_to_another(people, judge, speech) -> None:
    voice = speech[people]
    same, other = judge("Resemblyzer").score(
        [
            JudgedClip("same", voice, speech[f"same {people}"], RATE),
            JudgedClip("other", voice, speech[f"other {people}"], RATE),
        ]
    )
    gain = same.scores["sim_resemblyzer"].value - other.scores["sim_resemblyzer"].value
    assert gain > 10


def test_a_louder_voice_is_the_same_voice(judge, speech) -> None:
    sig = 0.01 * speech["real"] / speech["real"].square().mean().sqrt()
    verdict = judge("Resemblyzer").score([JudgedClip("louder", sig, 2 * sig, RATE)])[0]
    assert verdict.scores["sim_resemblyzer"].value == pytest.approx(100, abs=0.01)


@pytest.mark.parametrize("seconds", [0.5, 1.6, 2.0, 2.9, 3.2, 10.0])
def test_parts_cover_a_clip_and_end_within_it(seconds) -> None:
    frames = round(seconds * 100)
    starts = _starts(round(seconds * RATE))
    assert starts[0] == 0
    assert len(starts) == 1 or starts[-1] + 0.75 * PART <= frames
    assert starts[-1] + PART >= frames - PART / 2
