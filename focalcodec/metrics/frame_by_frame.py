"""Judges that compare the output with its reference frame by frame: PESQ, STOI, spectra.

All run at 16 kHz on the CPU. An output that is shorter than its reference is padded with silence, a
longer one is cut. PESQ and STOI run in C and NumPy, called by torchmetrics. Spectral distances
favour codecs that were trained with them and codecs that keep the waveform. They depend little on
the quality that people perceive, so use them together with the other columns.
"""

from __future__ import annotations

import warnings
from functools import cached_property

import torch
from torch import Tensor

from focalcodec.encoders.logmel import LogMel
from focalcodec.metrics.judge import (
    SAMPLE_RATE,
    Column,
    JudgedClip,
    SignalJudge,
    at_rate,
    fit_length,
)
from focalcodec.packages import need, need_beside_torchaudio, package_folder, versions

PESQ_INSTALL = "pip install torchmetrics==1.9.0 pesq==0.0.4"
STOI_INSTALL = "pip install torchmetrics==1.9.0 pystoi==0.4.1"
RESOLUTIONS = ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200))  # transform, hop, window
FLOOR = 1e-5


def _pair(clip: JudgedClip) -> tuple[Tensor, Tensor]:
    """Output and reference at 16 kHz, (T,) both."""
    ref_sig = at_rate(clip.ref_sig, clip.sample_rate, SAMPLE_RATE)
    rec_sig = at_rate(clip.rec_sig, clip.sample_rate, SAMPLE_RATE)
    return fit_length(rec_sig, len(ref_sig)), ref_sig


class PesqJudge(SignalJudge):
    """Wide-band PESQ, about 1 to 4.64: ITU-T P.862.2. `UserError` if a package is missing.

    No score if it finds no utterance in the reference. `device` is not used.
    """

    name = "PESQ"
    columns = (Column("pesq_wb", "PESQ, wide band", "", "higher"),)
    least = {"pesq_wb": 1.0}
    frame_by_frame = True

    def __init__(self, device: str = "cpu") -> None:
        for module in ("torchmetrics", "pesq"):
            package_folder(module, PESQ_INSTALL)

    def figures(self, clip: JudgedClip) -> dict[str, float]:
        """PESQ of one clip."""
        rec_sig, ref_sig = _pair(clip)
        errors = need("pesq", PESQ_INSTALL).PesqError
        try:
            return {"pesq_wb": self._pesq(rec_sig, ref_sig)}
        except errors:
            pass
        try:
            self._pesq(ref_sig, ref_sig)
        except errors:
            return {}
        return dict(self.least)

    def _pesq(self, rec_sig: Tensor, ref_sig: Tensor) -> float:
        audio = need_beside_torchaudio("torchmetrics.functional.audio", PESQ_INSTALL)
        score = audio.perceptual_evaluation_speech_quality(rec_sig, ref_sig, SAMPLE_RATE, "wb")
        return float(score)

    def describe(self) -> dict[str, str]:
        """Packages and settings."""
        return {
            "name": self.name,
            "packages": versions(["pesq", "torchmetrics"]),
            "settings": "wide band, 16 kHz",
        }


class StoiJudge(SignalJudge):
    """Short-time objective intelligibility, up to 1: Taal et al., 2011.

    No score if the reference has less than 0.4 s of sound. `device` is not used. Raises `UserError`
    if a package is missing.
    """

    name = "STOI"
    columns = (Column("stoi", "STOI", "", "higher"),)
    least = {"stoi": 0.0}
    frame_by_frame = True

    def __init__(self, device: str = "cpu") -> None:
        for module in ("torchmetrics", "pystoi"):
            package_folder(module, STOI_INSTALL)

    def figures(self, clip: JudgedClip) -> dict[str, float]:
        """STOI of one clip."""
        audio = need_beside_torchaudio("torchmetrics.functional.audio", STOI_INSTALL)
        rec_sig, ref_sig = _pair(clip)
        # With too few frames pystoi warns and returns a meaningless value.
        with warnings.catch_warnings():
            warnings.filterwarnings("error", category=RuntimeWarning, module="pystoi")
            try:
                score = audio.short_time_objective_intelligibility(rec_sig, ref_sig, SAMPLE_RATE)
            except RuntimeWarning:
                return {}
        return {"stoi": float(score)}

    def describe(self) -> dict[str, str]:
        """Packages and settings."""
        return {
            "name": self.name,
            "packages": versions(["pystoi", "torchmetrics"]),
            "settings": "not extended, 16 kHz",
        }


class SpectralJudge(SignalJudge):
    """Mel distance and multi-resolution STFT distance. `device` is not used.

    Mel distance: mean absolute difference of natural logarithms of 80 mel magnitudes (Slaney,
    0 to 8 kHz, window 1024, hop 320, at least 1e-5), as in the vocoder's loss. STFT distance: see
    `stft_distance`.
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
    def figures(self, clip: JudgedClip) -> dict[str, float]:
        """Both distances of one clip."""
        rec_sig, ref_sig = _pair(clip)
        log_mels = self._log_mel(torch.stack([rec_sig, ref_sig]))[0]  # (2, N, 80)
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
    """Spectral convergence plus L1 of log magnitudes of sigs (T,), mean over three resolutions.

    Convergence is the Frobenius norm of the difference of magnitudes over the reference's norm; the
    reference must not be silent. Source: Yamamoto et al., "Parallel WaveGAN", arXiv 1910.11480,
    equations 4 to 6, and table 1 for the resolutions.

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
        )  # (n_fft / 2 + 1, N) both
        convergence = (ref - rec).norm() / ref.norm()
        logs = (ref.clamp(min=FLOOR).log() - rec.clamp(min=FLOOR).log()).abs().mean()
        distances.append(float(convergence + logs))
    return sum(distances) / len(distances)
