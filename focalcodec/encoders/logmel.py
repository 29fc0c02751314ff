"""The log-mel encoder: features without a single learned weight.

It stands where WavLM stands, so that a codec can be trained and understood without a download.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.audio import check_sig
from focalcodec.errors import UserError
from focalcodec.nn.masking import full_lengths, valid_mask, zero_padding


class LogMel(nn.Module):
    """Log-mel spectrogram, shifted and scaled to about zero mean and unit variance.

    Magnitudes (power 1) in bands of Slaney's mel scale and normalisation, clamped, natural log.
    Frame i is centred on the middle of samples [i * hop_length, (i + 1) * hop_length), as in
    the "same"-padded inverse STFT of Vocos (arXiv 2306.00814), and there is one for every
    started hop: ceil(T / hop_length). What lies outside the signal counts as silence.

    Parameters
    ----------
    sample_rate : int
        Hz.
    n_fft : int
        Window and transform, samples.
    hop_length : int
        Samples from one frame to the next.
    n_mels : int
        Bands.
    f_min, f_max : float
        Edges of the lowest and highest band, Hz; None is half the sample rate.
    floor : float
        Smallest magnitude, under which everything is the same silence.
    offset, scale : float
        feats = (log-mel - offset) / scale. Over all frames and bands of the 5 minutes of speech
        of the embedded corpus' training split (8 synthetic voices) mean and standard deviation
        were -4.98 and 2.28, over its half minute of real speech -5.22 and 2.22: hence -5 and 2.3.

    Raises
    ------
    UserError
        If the bands do not fit between 0 Hz and half the sample rate, the hop is longer than
        the window, or floor or scale is not positive.

    Example
    -------
    >>> encoder = LogMel()
    >>> feats, lengths = encoder(torch.zeros(2, 1600), torch.tensor([1600, 801]))
    >>> feats.shape, lengths
    (torch.Size([2, 5, 80]), tensor([5, 3]))
    """

    window: Tensor
    filters: Tensor
    max_seconds: float | None = None
    teacher: dict[str, Any] | None = None

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 1024,
        hop_length: int = 320,
        n_mels: int = 80,
        f_min: float = 0.0,
        f_max: float | None = None,
        floor: float = 1e-5,
        offset: float = -5.0,
        scale: float = 2.3,
    ) -> None:
        super().__init__()
        highest = sample_rate / 2 if f_max is None else f_max
        if not 0 <= f_min < highest <= sample_rate / 2:
            raise UserError(
                f"f_min, f_max: {f_min}, {f_max} Hz; give 0 <= f_min < f_max <= {sample_rate / 2}"
            )
        if not 0 < hop_length <= n_fft:
            raise UserError(f"hop_length: {hop_length}; give 1 to n_fft, which is {n_fft}")
        if floor <= 0 or scale <= 0:
            raise UserError(f"floor, scale: {floor}, {scale}; give positive numbers")
        # half a second of import that only this encoder needs
        import librosa

        self.config: dict[str, Any] = {
            "sample_rate": sample_rate,
            "n_fft": n_fft,
            "hop_length": hop_length,
            "n_mels": n_mels,
            "f_min": f_min,
            "f_max": f_max,
            "floor": floor,
            "offset": offset,
            "scale": scale,
        }
        self.sample_rate = sample_rate
        self.hop = hop_length
        self.dim = n_mels
        self.n_fft = n_fft
        self.floor = floor
        self.offset = offset
        self.scale = scale
        bank = librosa.filters.mel(
            sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=highest
        )
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filters", torch.from_numpy(bank.T.copy()), persistent=False)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Frames that come out of as many samples: one for every started hop.

        Parameters
        ----------
        lengths : Tensor
            int64, samples, any shape.

        Returns
        -------
        Tensor
            int64, frames, same shape.
        """
        return (lengths + self.hop - 1) // self.hop

    def forward(self, sig: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Parameters
        ----------
        sig : Tensor
            (B, T) float, at `sample_rate`, about [-1, 1]; whatever is in the padding is ignored.
        lengths : Tensor, optional
            (B,) int64, valid samples of each item; None is all valid.

        Returns
        -------
        tuple of Tensor
            feats (B, N, n_mels) with zeros on padded frames, and lengths (B,) int64 in frames.

        Raises
        ------
        UserError
            If `sig` is not (B, T) with at least one sample, or not floating point.
        """
        check_sig(sig)
        if lengths is not None:
            sig = zero_padding(sig, valid_mask(lengths, sig.shape[1]))
        feats = (self._log_mel(sig) - self.offset) / self.scale
        if lengths is None:
            return feats, full_lengths(feats)
        frames = self.output_lengths(lengths)
        return zero_padding(feats, valid_mask(frames, feats.shape[1])), frames

    def _log_mel(self, sig: Tensor) -> Tensor:
        """(B, T) to (B, N, n_mels)."""
        samples = sig.shape[1]
        frames = (samples + self.hop - 1) // self.hop
        before = (self.n_fft - self.hop) // 2
        after = (frames - 1) * self.hop + self.n_fft - before - samples
        spectrum = torch.stft(
            F.pad(sig, (before, after)),
            self.n_fft,
            self.hop,
            window=self.window,
            center=False,
            return_complex=True,
        )
        return (spectrum.abs().transpose(1, 2) @ self.filters).clamp(min=self.floor).log()
