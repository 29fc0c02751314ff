"""Distances of spectrograms: what a codec's training sees, with fixed definitions.

They favour codecs that were trained with them and those that keep the waveform, and say little of
what one hears; look at them beside the other columns. At 16 kHz, on the CPU; an output that is
shorter than its reference is filled up with silence, a longer one is cut.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from focalcodec.encoders.logmel import LogMel
from focalcodec.metrics.judge import Clip, Column, SignalJudge, at_rate, fit
from focalcodec.packages import versions

SAMPLE_RATE = 16000
RESOLUTIONS = ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200))  # transform, hop, window
FLOOR = 1e-5


class SpectralJudge(SignalJudge):
    """Mel distance and multi-resolution STFT distance.

    Mel distance: mean absolute difference of natural logarithms of 80 mel magnitudes (Slaney,
    0 to 8 kHz, window 1024, hop 320, at least 1e-5), as the vocoder's loss has it.

    STFT distance: see `stft_distance`.

    Parameters
    ----------
    device : str
        Not looked at.
    """

    name = "spectral"
    columns = (
        Column("mel_distance", "Mel distance", "", "lower"),
        Column("stft_distance", "STFT distance", "", "lower"),
    )
    least_seconds = 0.0
    frame_by_frame = True

    def __init__(self, device: str = "cpu") -> None:
        pass

    @cached_property
    def _log_mel(self) -> LogMel:
        return LogMel(SAMPLE_RATE, offset=0.0, scale=1.0)

    @torch.no_grad()
    def figures(self, clip: Clip) -> dict[str, float]:
        """Both distances of one clip."""
        ref_sig = at_rate(clip.ref_sig, clip.sample_rate, SAMPLE_RATE)
        rec_sig = fit(at_rate(clip.rec_sig, clip.sample_rate, SAMPLE_RATE), len(ref_sig))
        log_mels, _ = self._log_mel(torch.stack([rec_sig, ref_sig]))
        return {
            "mel_distance": float((log_mels[0] - log_mels[1]).abs().mean()),
            "stft_distance": stft_distance(rec_sig, ref_sig),
        }

    def describe(self) -> dict[str, str]:
        """Packages and definitions."""
        resolutions = ", ".join("/".join(map(str, sizes)) for sizes in RESOLUTIONS)
        return {
            "name": self.name,
            "packages": versions(["torch"]),
            "settings": "mel: L1 of log magnitudes, 80 bands, 1024/320, 16 kHz; STFT: spectral"
            f" convergence + L1 of log magnitudes, transform/hop/window {resolutions}",
        }


def stft_distance(rec_sig: Tensor, ref_sig: Tensor) -> float:
    """Spectral convergence plus L1 of log magnitudes, the mean over three resolutions.

    Source: Yamamoto et al., "Parallel WaveGAN", arXiv 1910.11480, equations 4 to 6, and table 1
    for the resolutions. Convergence is the Frobenius norm of the difference of magnitudes over
    the reference's.

    Parameters
    ----------
    rec_sig, ref_sig : Tensor
        (T,) float, of one length; the reference is not silent.

    Returns
    -------
    float
        0 for the same signal.

    Example
    -------
    >>> sig = torch.randn(1600)
    >>> stft_distance(sig, sig), round(stft_distance(sig / 10, sig), 2)
    (0.0, 3.2)
    """
    distances = []
    for n_fft, hop, window in RESOLUTIONS:
        rec, ref = (
            torch.stft(
                sig,
                n_fft,
                hop,
                window,
                torch.hann_window(window),
                pad_mode="constant",
                return_complex=True,
            ).abs()
            for sig in (rec_sig, ref_sig)
        )
        convergence = (ref - rec).norm() / ref.norm()
        logs = (ref.clamp(min=FLOOR).log() - rec.clamp(min=FLOOR).log()).abs().mean()
        distances.append(float(convergence + logs))
    return sum(distances) / len(distances)
