"""Rules for all judges, and their common helpers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.metrics import panel
from focalcodec.metrics.judge import (
    JudgedClip,
    Score,
    SignalJudge,
    at_rate,
    audible,
    fit_length,
    sig_key,
)

RATE = 16000
OFFLINE = sorted(panel("offline"))
BEST = {"pesq_wb": 4.64, "stoi": 1.0, "sim_resemblyzer": 100.0}


@pytest.mark.parametrize("name", OFFLINE)
def test_noise_is_worse_than_the_clip_itself(name, judge, noisy) -> None:
    clean = JudgedClip("clean", noisy.ref_sig, noisy.ref_sig, RATE, "I have not the pleasure")
    scorer = judge(name)
    good, bad = scorer.score([clean, noisy])
    for column in scorer.columns:
        if column.key.startswith("wer"):
            continue  # no text is given for the noisy one
        assert column.better in ("lower", "higher")
        gain = good.scores[column.key].value - bad.scores[column.key].value
        assert (gain if column.better == "higher" else -gain) > 0, column.key
        if column.better == "lower":
            assert good.scores[column.key].value == 0, column.key
    for key in BEST.keys() & good.scores.keys():
        assert good.scores[key].value == pytest.approx(BEST[key], abs=0.01)


@pytest.mark.parametrize("name", OFFLINE)
def test_a_clip_scores_the_same_again_and_among_others(name, judge, noisy, speech) -> None:
    scorer = judge(name)
    other = JudgedClip("other", speech["synthetic"], speech["synthetic"], RATE)
    assert scorer.score([other, noisy])[1] == scorer.score([noisy])[0]


def _odd(speech: Tensor) -> dict[str, Tensor]:
    start = speech[RATE : RATE + 3 * RATE // 10]
    return {
        "silent": torch.zeros(RATE),
        "constant": torch.full((RATE,), 0.5),
        "0.3 s": start,
        "one sample": start[:1],
        "clipped": (50 * speech).clamp(-1, 1),
        "beyond full scale": 3 * speech / speech.abs().max(),
    }


@pytest.mark.parametrize("name", [name for name in OFFLINE if "Whisper" not in name])
def test_every_score_of_an_odd_signal_is_finite(name, judge, speech) -> None:
    scorer, keys = judge(name), {column.key for column in judge(name).columns}
    sig = speech["real"]
    for kind, odd in _odd(sig).items():
        for verdict in scorer.score(
            [JudgedClip(kind, sig, odd, RATE), JudgedClip(kind, odd, odd, RATE)]
        ):
            assert keys >= verdict.scores.keys()
            assert all(math.isfinite(s.value) and s.weight > 0 for s in verdict.scores.values())


@pytest.mark.parametrize("name", OFFLINE)
def test_silent_output_has_the_lowest_score_and_silent_references_none(name, judge, noisy) -> None:
    scorer, silence = judge(name), torch.zeros(RATE)
    silent = JudgedClip("silent", noisy.ref_sig, silence, RATE)
    nothing = JudgedClip("nothing", silence, noisy.ref_sig, RATE)
    lost, unjudged, scored = scorer.score([silent, nothing, noisy])
    assert unjudged.scores == {}
    assert lost.scores.keys() == scored.scores.keys()
    for column in scorer.columns:
        if column.key in lost.scores:
            gain = lost.scores[column.key].value - scored.scores[column.key].value
            assert (-gain if column.better == "higher" else gain) >= 0, column.key


@pytest.mark.parametrize("name", OFFLINE)
def test_a_judge_describes_itself_and_has_columns_of_its_own(name, judge) -> None:
    scorer = judge(name)
    described = scorer.describe()
    assert described["name"] == scorer.name == name
    assert "?" not in described["packages"]
    assert all(isinstance(value, str) for value in described.values())
    others = [judge(other).columns for other in OFFLINE if other != name]
    keys = {column.key for columns in others for column in columns}
    assert not keys & {column.key for column in scorer.columns}


@pytest.mark.parametrize("name", ["PESQ", "STOI", "spectral"])
def test_converted_speech_is_not_compared_frame_by_frame(name, judge, speech) -> None:
    clip = JudgedClip("vc", speech["real"], speech["synthetic"], RATE, target_sig=speech["real"])
    assert judge(name).score([clip])[0].scores == {}


class _Loudness(SignalJudge):
    least = {"loudness": 0.0}

    def describe(self) -> dict[str, str]:
        return {}

    def figures(self, clip: JudgedClip) -> dict[str, float]:
        return {"loudness": float(clip.rec_sig.abs().max()), "nothing": math.nan}


def test_the_reference_of_converted_speech_is_the_target() -> None:
    sound, silence = torch.randn(RATE), torch.zeros(RATE)
    judge = _Loudness()
    assert judge.score([JudgedClip("a", silence, sound, RATE, target_sig=sound)])[0].scores
    assert not judge.score([JudgedClip("b", sound, sound, RATE, target_sig=silence)])[0].scores
    assert judge.score([JudgedClip("c", sound, silence, RATE)])[0].scores == {
        "loudness": Score(0.0)
    }


@pytest.mark.parametrize(
    ("sig", "problem"),
    [
        (torch.zeros(1, 800), "rec_sig has shape"),
        (torch.zeros(0), "rec_sig: sig: empty"),
        (torch.full((800,), torch.nan), "NaN"),
        (torch.zeros(800, dtype=torch.int16), "floats"),
    ],
)
def test_errors_of_a_signal_name_the_clip(sig, problem) -> None:
    with pytest.raises(UserError, match=f"^clip-7: .*{problem}"):
        JudgedClip("clip-7", torch.zeros(800), sig, RATE)


def test_helpers_of_signals() -> None:
    sig = torch.randn(RATE)
    assert audible(sig, RATE, 1.0) and not audible(sig, RATE, 1.01)
    assert audible(2e-4 * sig, RATE) and not audible(5e-5 * sig, RATE)
    assert len(at_rate(sig, 24000, RATE)) == round(len(sig) * 2 / 3)
    assert sig_key(sig, RATE) == sig_key(sig.clone(), RATE) != sig_key(-sig, RATE)
    assert (
        torch.equal(fit_length(sig, RATE + 5)[:RATE], sig)
        and not fit_length(sig, RATE + 5)[RATE:].any()
    )


def test_dnsmos_has_as_many_threads_as_its_process(judge) -> None:
    """Several processes that have one each for all cores slow each other down."""
    model = judge("DNSMOS")._model
    for session in (model.onnx_sess, model.p808_onnx_sess):
        options = session.get_session_options()
        assert options.intra_op_num_threads == torch.get_num_threads()
