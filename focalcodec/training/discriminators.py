"""HiFi-GAN's discriminators, for several periods and several scales of one waveform.

Source: Kong et al., "HiFi-GAN", arXiv 2010.05646, section 2.3.

The forward of each maps sig (B, T) to a score and feature maps; the score is also the last feature
map. Five periods with 6 maps each and three scales with 8 each give the 54 maps of the vocoder's
loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from focalcodec.errors import UserError

PERIODS = (2, 3, 5, 7, 11)

Output = tuple[Tensor, list[Tensor]]
_SLOPE = 0.1  # of the leaky ReLU


def feature_maps(x: Tensor, convs: nn.ModuleList, to_score: nn.Module) -> list[Tensor]:
    """Outputs of all layers, which the feature matching loss compares.

    Parameters
    ----------
    x : Tensor
        (B, channels, T).
    convs : ModuleList
        Each is followed by a leaky ReLU.
    to_score : Module
        The last layer.

    Returns
    -------
    list of Tensor
        (B, channels, T'), one of each layer, the score last.

    Example
    -------
    >>> import torch
    >>> convs = nn.ModuleList([nn.Conv1d(1, 4, 3, stride=2, padding=1)])
    >>> maps = feature_maps(torch.zeros(2, 1, 8), convs, nn.Conv1d(4, 1, 1))
    >>> [tuple(x.shape) for x in maps]
    [(2, 4, 4), (2, 1, 4)]
    """
    maps = []
    for conv in convs:
        x = leaky_relu(conv(x), _SLOPE)
        maps.append(x)
    return [*maps, to_score(x)]


class PeriodDiscriminator(nn.Module):
    """Scores samples that are `period` apart.

    Parameters
    ----------
    period : int
        Distance between two neighbouring samples of a column, in samples.
    channel_divisor : int
        Every width of the paper is divided by it: 1, 2, 4, 8, 16 or 32.

    Example
    -------
    >>> score, maps = PeriodDiscriminator(5, channel_divisor=32)(torch.zeros(2, 1000))
    >>> score.shape, len(maps)
    (torch.Size([2, 5, 3]), 6)
    """

    def __init__(self, period: int, channel_divisor: int = 1) -> None:
        super().__init__()
        self.period = period
        widths = [1, *_divided((32, 128, 512, 1024, 1024), channel_divisor)]
        strides = (3, 3, 3, 3, 1)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv1d(n_in, n_out, 5, stride, padding=2))
            for (n_in, n_out), stride in zip(pairwise(widths), strides, strict=True)
        )
        self.to_score = weight_norm(nn.Conv1d(widths[-1], 1, 3, padding=1))

    def forward(self, sig: Tensor) -> Output:
        """Score and feature maps.

        Parameters
        ----------
        sig : Tensor
            (B, T), all samples valid.

        Returns
        -------
        score : Tensor
            (B, period, positions).
        maps : list of Tensor
            6 of (B, period, channels, positions), the score as (B, period, 1, positions) last.
        """
        sig = pad(sig[:, None], (0, -sig.shape[1] % self.period), mode="reflect")[:, 0]
        # The paper's (5, 1) kernels see one column at a time, so columns can be batch items:
        # the same numbers, and up to half of the time on a CPU.
        columns = sig.unflatten(1, (-1, self.period)).mT
        maps = feature_maps(columns.flatten(0, 1)[:, None], self.convs, self.to_score)
        maps = [x.unflatten(0, (-1, self.period)) for x in maps]
        return maps[-1].squeeze(2), maps


class ScaleDiscriminator(nn.Module):
    """Scores the waveform, with long, strided, grouped convolutions.

    Parameters
    ----------
    channel_divisor : int
        The paper's widths and numbers of groups are divided by it, so that the number of channels
        in a group does not change: 1, 2, 4, 8, 16 or 32.
    use_spectral_norm : bool
        Spectral norm instead of weight norm, as in the paper for the scale without decimation.

    Example
    -------
    >>> score, maps = ScaleDiscriminator(channel_divisor=32)(torch.zeros(2, 640))
    >>> score.shape, len(maps)
    (torch.Size([2, 10]), 8)
    """

    def __init__(self, channel_divisor: int = 1, use_spectral_norm: bool = False) -> None:
        super().__init__()
        norm = spectral_norm if use_spectral_norm else weight_norm
        widths = [1, *_divided((128, 128, 256, 512, 1024, 1024, 1024), channel_divisor)]
        kernels = (15, 41, 41, 41, 41, 41, 5)
        strides = (1, 2, 2, 4, 4, 1, 1)
        groups = (1, 4, 16, 16, 16, 16, 1)
        self.convs = nn.ModuleList(
            norm(
                nn.Conv1d(
                    *(n_in, n_out, kernel, stride),
                    padding=kernel // 2,
                    groups=max(1, group // channel_divisor),
                )
            )
            for (n_in, n_out), kernel, stride, group in zip(
                pairwise(widths), kernels, strides, groups, strict=True
            )
        )
        self.to_score = norm(nn.Conv1d(widths[-1], 1, 3, padding=1))

    def forward(self, sig: Tensor) -> Output:
        """Score and feature maps.

        Parameters
        ----------
        sig : Tensor
            (B, T), all samples valid.

        Returns
        -------
        score : Tensor
            (B, positions).
        maps : list of Tensor
            8 of (B, channels, positions), the score as (B, 1, positions) last.
        """
        maps = feature_maps(sig[:, None], self.convs, self.to_score)
        return maps[-1].squeeze(1), maps


class Discriminators(nn.Module):
    """The eight discriminators: five periods, then three scales (1, 1/2, 1/4); or fewer.

    Real and generated signals can be in one batch: this is faster, and `DistributedDataParallel`
    needs a single forward.

    Parameters
    ----------
    channel_divisor : int
        Every width of the paper is divided by it: 1 (70.7 M parameters), 2, 4, 8, 16 or 32.
    periods : sequence of int
        A `PeriodDiscriminator` for each.
    num_scales : int
        Number of scales, from the first of the three. On a CPU they take most of the time.

    Raises
    ------
    UserError
        `channel_divisor` or `num_scales` has another value, a period is under 1, or there is no
        discriminator.

    Example
    -------
    >>> scores, maps = Discriminators(channel_divisor=32)(torch.zeros(2, 1000))
    >>> len(scores), sum(len(one) for one in maps)
    (8, 54)
    """

    def __init__(
        self,
        channel_divisor: int = 1,
        periods: Sequence[int] = PERIODS,
        num_scales: int = 3,
    ) -> None:
        super().__init__()
        if num_scales not in range(4):
            raise UserError(f"num_scales={num_scales}: give 0, 1, 2 or 3")
        if not (periods or num_scales):
            raise UserError("periods=[], num_scales=0: no discriminator is left; give one")
        if any(period < 1 for period in periods):
            raise UserError(f"periods={list(periods)}: give numbers of samples, 1 or more")
        self.periods = nn.ModuleList(
            PeriodDiscriminator(period, channel_divisor) for period in periods
        )
        self.scales = nn.ModuleList(
            ScaleDiscriminator(channel_divisor, use_spectral_norm=scale == 0)
            for scale in range(num_scales)
        )
        self.halve = nn.AvgPool1d(4, stride=2, padding=2)

    def forward(self, sig: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Scores and feature maps of all of them.

        Parameters
        ----------
        sig : Tensor
            (B, T) with T >= 32; every sample is valid: crops, not padded batches.

        Returns
        -------
        scores : list of Tensor
            One of (B, ...) for each discriminator, 8 by default.
        maps : list of list of Tensor
            Feature maps (B, ...) of each discriminator, 54 in total by default.
        """
        outputs = [discriminator(sig) for discriminator in self.periods]
        for index, discriminator in enumerate(self.scales):
            if index > 0:
                sig = self.halve(sig[:, None])[:, 0]
            outputs.append(discriminator(sig))
        return [score for score, _ in outputs], [maps for _, maps in outputs]


def _divided(widths: tuple[int, ...], divisor: int) -> list[int]:
    if divisor < 1 or 32 % divisor:
        raise UserError(f"channel_divisor={divisor}: give 1, 2, 4, 8, 16 or 32")
    return [width // divisor for width in widths]
