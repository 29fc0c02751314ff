"""Losses of the decoder: mel distances and losses with discriminators, against formulas."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from focalcodec.errors import UserError
from focalcodec.training.discriminators import Discriminators
from focalcodec.training.losses import (
    MelLoss,
    MultiMelLoss,
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
)


@pytest.fixture(scope="module")
def mel_loss() -> MelLoss:
    return MelLoss()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_log_mel_equals_its_definition(mel_loss):
    sig = noise(1, 7040)
    padded = np.pad(sig[0].double().numpy(), 352)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    frames = np.stack([padded[i : i + 1024] * hann for i in range(0, len(padded) - 1023, 320)])
    bands = librosa.filters.mel(sr=16000, n_fft=1024, n_mels=80, fmin=0, fmax=8000)
    mel = np.abs(np.fft.rfft(frames)) @ bands.T
    expected = torch.from_numpy(np.log(np.maximum(mel, 1e-5))).float()
    assert expected.shape == (22, 80)  # the crop of the vocoder's training
    torch.testing.assert_close(mel_loss.log_mel(sig)[0], expected, atol=1e-4, rtol=1e-4)


def test_gain_is_its_logarithm(mel_loss):
    sig = noise(2, 5000)
    torch.testing.assert_close(mel_loss(2 * sig, sig), torch.full((2,), 2.0).log())


def test_equal_signals_and_silence_give_zero(mel_loss):
    sig = torch.zeros(2, 3200)
    sig[0] = noise(3200)
    assert mel_loss(sig, sig).tolist() == [0.0, 0.0]


@given(
    lengths=st.lists(st.integers(1, 4000), min_size=1, max_size=4),
    padding=st.integers(0, 1500),
    seed=st.integers(0, 9),
)
def test_alone_equals_in_a_padded_batch(mel_loss, lengths, padding, seed):
    shape = (len(lengths), max(lengths) + padding)
    rec_sig, sig = noise(*shape, seed=seed), noise(*shape, seed=seed + 10)
    together = mel_loss(rec_sig, sig, torch.tensor(lengths))
    for item, length in enumerate(lengths):
        alone = mel_loss(rec_sig[item : item + 1, :length], sig[item : item + 1, :length])
        torch.testing.assert_close(together[item], alone[0], atol=1e-5, rtol=1e-5)


def test_padding_may_hold_anything_and_gets_no_gradient(mel_loss):
    rec_sig, sig = noise(2, 2000), noise(2, 2000, seed=1)
    lengths = torch.tensor([2000, 700])
    expected = mel_loss(rec_sig, sig, lengths)
    rec_sig[1, 700:] = float("nan")
    rec_sig.requires_grad_()
    loss = mel_loss(rec_sig, sig, lengths)
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    assert rec_sig.grad[1, 700:].abs().sum() == 0
    assert rec_sig.grad[1, :700].abs().sum() > 0


def test_nan_in_the_signal_is_not_hidden(mel_loss):
    rec_sig = noise(2, 2000)
    rec_sig[1, 50] = float("nan")
    assert mel_loss(rec_sig, noise(2, 2000)).isnan().tolist() == [False, True]


def test_frames_weigh_an_average_over_clips(mel_loss):
    """The mean over all frames of two clips, from their two losses."""
    sig, rec_sig = noise(2, 3200), noise(2, 3200, seed=1)
    lengths = torch.tensor([3200, 640])
    frames = mel_loss.output_lengths(lengths)
    assert frames.tolist() == [10, 2]
    mean = (mel_loss(rec_sig, sig, lengths) * frames).sum() / frames.sum()
    distances = [
        (mel_loss.log_mel(rec_sig[i : i + 1, :n]) - mel_loss.log_mel(sig[i : i + 1, :n])).abs()[0]
        for i, n in enumerate(lengths.tolist())
    ]
    torch.testing.assert_close(mean, torch.cat(distances).mean())


def test_gradient_is_finite_at_silence(mel_loss):
    rec_sig = torch.zeros(1, 3200, requires_grad=True)
    mel_loss(rec_sig, noise(1, 3200)).sum().backward()
    assert rec_sig.grad.isfinite().all()


def test_computed_in_float32_under_autocast(mel_loss):
    rec_sig, sig = noise(1, 3200), noise(1, 3200, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = mel_loss(rec_sig, sig)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, mel_loss(rec_sig, sig))
    assert mel_loss(rec_sig.bfloat16(), sig).dtype == torch.float32


def test_rate_of_the_causal_models():
    loss = MelLoss(sample_rate=24000, hop_length=480, f_max=12000)
    assert loss.log_mel(noise(1, 72000)).shape == (1, 150, 80)


def test_no_tensor_of_it_goes_into_a_checkpoint(mel_loss):
    assert not mel_loss.state_dict() and not list(mel_loss.parameters())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"f_max": 12000}, "f_min=0.0, f_max=12000: give 0 <= f_min < f_max <= 8000.0"),
        ({"f_min": -1}, "f_min=-1"),
        ({"hop_length": 0}, "hop_length=0: give 1..n_fft=1024"),
        ({"win_length": 2048}, "win_length=2048"),
    ],
)
def test_bad_arguments(arguments, line):
    with pytest.raises(UserError, match=line):
        MelLoss(**arguments)


def test_shapes_must_agree(mel_loss):
    with pytest.raises(UserError, match=r"rec_sig \(1, 640\), sig \(1, 641\)"):
        mel_loss(torch.zeros(1, 640), torch.zeros(1, 641))


def _sigs(samples: int = 6000) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, samples), torch.randn(2, samples)


def test_several_windows_give_the_mean_of_their_losses() -> None:
    rec_sig, sig = _sigs()
    scales = [MelLoss(16000, n, n, n // 4, bands) for n, bands in ((256, 20), (1024, 80))]
    expected = (scales[0](rec_sig, sig) + scales[1](rec_sig, sig)) / 2
    torch.testing.assert_close(MultiMelLoss([256, 1024], [20, 80])(rec_sig, sig), expected)


def test_padding_does_not_matter_at_any_resolution() -> None:
    rec_sig, sig = _sigs()
    lengths = torch.tensor([6000, 4100])
    loss = MultiMelLoss()
    alone = loss(rec_sig[1:, :4100], sig[1:, :4100])
    torch.testing.assert_close(loss(rec_sig, sig, lengths)[1:], alone)


def test_the_average_of_several_windows_weighs_clips_by_their_samples() -> None:
    lengths = torch.tensor([5, 7])
    assert MultiMelLoss().output_lengths(lengths).equal(lengths)


@pytest.mark.parametrize(("windows", "bands"), [([], []), ([256], [20, 30])])
def test_refuses_windows_without_bands(windows: list[int], bands: list[int]) -> None:
    with pytest.raises(UserError, match=r"windows=.*as many"):
        MultiMelLoss(windows, bands)


# -- discriminators --------------------------------------------------------------------------------


@pytest.fixture
def scores():
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 2, 9), (4, 7), (4, 3)]
    return [[2 * torch.randn(s, generator=generator) for s in shapes] for _ in range(2)]


def test_hinge_losses_equal_their_definition(scores):
    real, fake = scores
    zero = torch.zeros(())
    expected_d = sum(
        torch.maximum(zero, 1 - r).mean() + torch.maximum(zero, 1 + f).mean()
        for r, f in zip(real, fake, strict=True)
    )
    expected_g = sum(torch.maximum(zero, 1 - f).mean() for f in fake)
    torch.testing.assert_close(hinge_discriminator_loss(real, fake).mean(), expected_d)
    torch.testing.assert_close(hinge_generator_loss(fake).mean(), expected_g)


def test_feature_matching_weighs_maps_alike_whatever_their_size():
    real = [[torch.zeros(2, 3, 50), torch.zeros(2, 1)], [torch.zeros(2, 4)]]
    fake = [[torch.ones(2, 3, 50), torch.full((2, 1), 2.0)], [torch.full((2, 4), -3.0)]]
    assert feature_matching_loss(real, fake).tolist() == [2.0, 2.0]


def test_feature_matching_trains_the_generated_side_only():
    real, fake = (torch.randn(2, 3, 4, requires_grad=True) for _ in range(2))
    feature_matching_loss([[real]], [[fake]]).sum().backward()
    assert real.grad is None
    assert fake.grad.abs().sum() > 0


def test_each_item_alone_gives_its_own_number():
    """Any split of a batch, over processes or steps, averages to the loss of the whole."""
    torch.manual_seed(0)
    discriminators = Discriminators(32).eval()
    sig, rec_sig = torch.randn(2, 3, 800)
    (real, real_maps), (fake, fake_maps) = discriminators(sig), discriminators(rec_sig)
    whole = torch.stack(
        [
            hinge_discriminator_loss(real, fake),
            hinge_generator_loss(fake),
            feature_matching_loss(real_maps, fake_maps),
        ]
    )
    for item in range(3):
        (r, r_maps), (f, f_maps) = (discriminators(x[item : item + 1]) for x in (sig, rec_sig))
        alone = [
            hinge_discriminator_loss(r, f),
            hinge_generator_loss(f),
            feature_matching_loss(r_maps, f_maps),
        ]
        torch.testing.assert_close(torch.stack(alone), whole[:, item : item + 1])


def test_different_numbers_of_discriminators_are_refused(scores):
    real, fake = scores
    with pytest.raises(ValueError):
        hinge_discriminator_loss(real, fake[:2])


def test_half_precision_scores_give_float32():
    score = torch.full((2, 4000), 0.1, dtype=torch.bfloat16)
    loss = hinge_generator_loss([score])
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, torch.full((2,), 0.9), atol=4e-3, rtol=0)


def test_nan_is_not_hidden():
    score = torch.tensor([[0.0], [float("nan")]])
    assert hinge_generator_loss([score]).isnan().tolist() == [False, True]
    assert hinge_discriminator_loss([score], [score]).isnan().tolist() == [False, True]
