"""Losses: errors of features, distances of mel spectrograms, losses with discriminators.

An error of features is one number per frame; each other loss is one number per item. So the mean
over the global batch is the sum of these numbers divided by their number, for any number of
processes or accumulated steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from focalcodec.encoders.logmel import magnitudes, mel_bands
from focalcodec.errors import UserError
from focalcodec.nn.masking import full_lengths, valid_mask, zero_padding

FLOOR = 1e-5


def squared_error(qfeats: Tensor, targets: Tensor) -> Tensor:
    """Mean over the channels of the squared difference (MSE): (B, N, D) twice to (B, N) float32.

    The `feature_loss` of stage 1 (arXiv 2502.04465, section 3).
    """
    return (qfeats.float() - targets.float()).square().mean(dim=-1)


def absolute_error(qfeats: Tensor, targets: Tensor) -> Tensor:
    """Mean over the channels of the absolute difference (L1): (B, N, D) twice to (B, N) float32.

    Example
    -------
    >>> absolute_error(torch.zeros(1, 1, 2), torch.tensor([[[1.0, -3.0]]]))
    tensor([[2.]])
    """
    return (qfeats.float() - targets.float()).abs().mean(dim=-1)


class MelLoss(nn.Module):
    """Log-mel L1 of each item of a batch: magnitude, Slaney's scale and norm, natural log.

    A clip of T samples has ceil(T / hop_length) frames. Samples before and after the clip count as
    zeros, also in a padded batch, so an item's loss is the same alone and in any batch.

    Source: the vocoder loss of FocalCodec, arXiv 2502.04465, section 4; HiFi-GAN, arXiv 2010.05646,
    equation 6.

    Parameters
    ----------
    sample_rate : int
        Hz.
    n_fft, win_length, hop_length : int
        Samples.
    n_mels : int
        Number of bands.
    f_min, f_max : float
        Lowest and highest frequency, Hz.

    Raises
    ------
    UserError
        Not 0 <= f_min < f_max <= sample_rate / 2, or the window or hop is longer than `n_fft`.

    Example
    -------
    >>> loss = MelLoss()
    >>> sig = torch.randn(2, 7040)
    >>> loss(10 * sig, sig)
    tensor([2.3026, 2.3026])
    """

    window: Tensor
    bands: Tensor

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 1024,
        win_length: int = 1024,
        hop_length: int = 320,
        n_mels: int = 80,
        f_min: float = 0.0,
        f_max: float = 8000.0,
    ) -> None:
        super().__init__()
        if not 0 <= f_min < f_max <= sample_rate / 2:
            raise UserError(
                f"f_min={f_min}, f_max={f_max}: give 0 <= f_min < f_max <= {sample_rate / 2}"
                f" at sample_rate={sample_rate}"
            )
        if not 0 < hop_length <= n_fft or not 0 < win_length <= n_fft:
            raise UserError(
                f"win_length={win_length}, hop_length={hop_length}: give 1..n_fft={n_fft}"
            )
        self.n_fft, self.win_length, self.hop_length = n_fft, win_length, hop_length
        bands = mel_bands(sample_rate, n_fft, n_mels, f_min, f_max)
        # Not persistent: they are computed from the arguments, so no checkpoint needs them.
        self.register_buffer("bands", bands, persistent=False)
        self.register_buffer("window", torch.hann_window(win_length), persistent=False)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Numbers of frames (B,) int64 for numbers of samples (B,) int64.

        The mean over all frames of several clips is the sum of loss times frames, divided by the
        sum of frames.
        """
        return (lengths + self.hop_length - 1) // self.hop_length

    def log_mel(self, sig: Tensor) -> Tensor:
        """Log-mel spectrogram (B, N, n_mels) of sig (B, T), N = ceil(T / hop_length)."""
        spectrum = magnitudes(sig, self.window, self.n_fft, self.hop_length)  # (B, bins, N)
        # Not `log_mel`: its product has another order, which rounds losses differently.
        return (self.bands @ spectrum).clamp(min=FLOOR).log().mT

    def forward(self, rec_sig: Tensor, sig: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Mean absolute difference over the valid frames and the bands of each item.

        Parameters
        ----------
        rec_sig, sig : Tensor
            (B, T), generated and real, at `sample_rate`.
        lengths : Tensor, optional
            (B,) int64 >= 1, valid samples; default all. Values of the padding are not used.

        Returns
        -------
        Tensor
            (B,) float32. See `output_lengths` for an average over frames.

        Raises
        ------
        UserError
            The two have different shapes.
        """
        if rec_sig.shape != sig.shape or sig.dim() != 2:
            raise UserError(
                f"rec_sig {tuple(rec_sig.shape)}, sig {tuple(sig.shape)}: give both as (B, T)"
            )
        lengths = full_lengths(sig) if lengths is None else lengths
        valid = valid_mask(lengths, sig.shape[1])
        # A Fourier transform in half precision does not exist on the CPU and overflows on a GPU.
        with torch.autocast(sig.device.type, enabled=False):
            rec_mel = self.log_mel(zero_padding(rec_sig.float(), valid))
            mel = self.log_mel(zero_padding(sig.float(), valid))
        frames = self.output_lengths(lengths)
        mask = valid_mask(frames, mel.shape[1])
        distance = zero_padding((rec_mel - mel).abs().mean(dim=2), mask)
        return distance.sum(dim=1) / frames


class MultiMelLoss(nn.Module):
    """Mean of L1 distances between log-mel spectrograms of several windows.

    One window has one resolution in time and frequency: short windows show onsets and the pulses of
    a voice, long ones its harmonics. Each hop is a quarter of its window.

    Source: the multi-scale mel loss of DAC, arXiv 2306.06546, section 3.4.

    Parameters
    ----------
    windows : sequence of int
        Samples.
    bands : sequence of int
        Mel bands of each.
    sample_rate : int
        Hz.

    Raises
    ------
    UserError
        The numbers of bands and windows differ, or are zero.

    Example
    -------
    >>> loss = MultiMelLoss(windows=[256, 1024], bands=[20, 80])
    >>> sig = torch.randn(2, 7040)
    >>> loss(10 * sig, sig)
    tensor([2.3026, 2.3026])
    """

    def __init__(
        self,
        windows: Sequence[int] = (128, 512, 2048),
        bands: Sequence[int] = (10, 40, 120),
        sample_rate: int = 16000,
    ) -> None:
        super().__init__()
        if len(windows) != len(bands) or not windows:
            raise UserError(
                f"windows={list(windows)}, bands={list(bands)}: give as many of each, at least one"
            )
        self.scales = nn.ModuleList(
            MelLoss(sample_rate, window, window, window // 4, number, 0.0, sample_rate / 2)
            for window, number in zip(windows, bands, strict=True)
        )

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Weights of clips in a mean over all of them: their numbers of samples (B,) int64."""
        return lengths

    def forward(self, rec_sig: Tensor, sig: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Mean over valid frames, bands and resolutions of each item: (B,) float32.

        See `MelLoss`.
        """
        return torch.stack([scale(rec_sig, sig, lengths) for scale in self.scales]).mean(dim=0)


# -- discriminators; no `lengths`, because the signals are crops and all samples are valid ---------


def hinge_discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Sum over discriminators of max(0, 1 - D(real)) + max(0, 1 + D(fake)).

    Source: Lim and Ye, arXiv 1705.02894; for Vocos, arXiv 2306.00814, section 3.3.

    Parameters
    ----------
    real, fake : sequence of Tensor
        Scores of the discriminators, (B, ...) each; the mean over positions is taken.

    Returns
    -------
    Tensor
        (B,).

    Example
    -------
    >>> hinge_discriminator_loss([torch.tensor([[2.0, 0.0]])], [torch.tensor([[-0.5, -2.0]])])
    tensor([0.7500])
    """
    terms = [
        _item_mean(relu(1 - r)) + _item_mean(relu(1 + f)) for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(terms).sum(dim=0)


def hinge_generator_loss(fake: Sequence[Tensor]) -> Tensor:
    """Sum over discriminators of max(0, 1 - D(fake)).

    Source: Vocos, arXiv 2306.00814, section 3.3: a score above 1 is no longer rewarded.

    Parameters
    ----------
    fake : sequence of Tensor
        Scores of the discriminators, (B, ...) each; the mean over positions is taken.

    Returns
    -------
    Tensor
        (B,).

    Example
    -------
    >>> hinge_generator_loss([torch.tensor([[-1.0], [2.0]]), torch.tensor([[0.5], [1.5]])])
    tensor([2.5000, 0.0000])
    """
    return torch.stack([_item_mean(relu(1 - score)) for score in fake]).sum(dim=0)


def feature_matching_loss(
    real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]
) -> Tensor:
    """Mean over all feature maps of the L1 distance between real and generated.

    Source: HiFi-GAN, arXiv 2010.05646, equation 5; a mean, not a sum, over the maps.

    Parameters
    ----------
    real, fake : sequence of sequence of Tensor
        Feature maps of each discriminator, (B, ...) each. No gradient flows into `real`.

    Returns
    -------
    Tensor
        (B,).

    Example
    -------
    >>> real = [[torch.zeros(1, 2, 3)], [torch.zeros(1, 4)]]
    >>> feature_matching_loss(real, [[torch.ones(1, 2, 3)], [torch.full((1, 4), -3.0)]])
    tensor([2.])
    """
    terms = [
        _item_mean((f - r.detach()).abs())
        for real_maps, fake_maps in zip(real, fake, strict=True)
        for r, f in zip(real_maps, fake_maps, strict=True)
    ]
    return torch.stack(terms).mean(dim=0)


def _item_mean(x: Tensor) -> Tensor:
    # Autocast makes maps in half precision; their means are summed in float32.
    return x.flatten(1).float().mean(dim=1)
