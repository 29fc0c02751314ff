"""PESQ and STOI: the output compared with its reference, frame by frame.

Both run in C and NumPy behind torchmetrics, at 16 kHz and on the CPU. An output that is shorter
than its reference is filled up with silence, a longer one is cut.
"""

from __future__ import annotations

import warnings

from torch import Tensor

from focalcodec.metrics.judge import Clip, Column, SignalJudge, at_rate, fit
from focalcodec.packages import need, need_beside_torchaudio, package_folder, versions

SAMPLE_RATE = 16000
PESQ_INSTALL = "pip install torchmetrics==1.9.0 pesq==0.0.4"
STOI_INSTALL = "pip install torchmetrics==1.9.0 pystoi==0.4.1"


class PesqJudge(SignalJudge):
    """Wide-band PESQ, about 1 to 4.64: ITU-T P.862.2.

    No score where it finds no utterance in the reference.

    Parameters
    ----------
    device : str
        Not looked at.

    Raises
    ------
    UserError
        A package is missing.
    """

    name = "PESQ"
    columns = (Column("pesq_wb", "PESQ, wide band", "", "higher"),)
    least = {"pesq_wb": 1.0}
    frame_by_frame = True

    def __init__(self, device: str = "cpu") -> None:
        for module in ("torchmetrics", "pesq"):
            package_folder(module, PESQ_INSTALL)

    def figures(self, clip: Clip) -> dict[str, float]:
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

    No score where the reference has less than 0.4 s of sound.

    Parameters
    ----------
    device : str
        Not looked at.

    Raises
    ------
    UserError
        A package is missing.
    """

    name = "STOI"
    columns = (Column("stoi", "STOI", "", "higher"),)
    least = {"stoi": 0.0}
    frame_by_frame = True

    def __init__(self, device: str = "cpu") -> None:
        for module in ("torchmetrics", "pystoi"):
            package_folder(module, STOI_INSTALL)

    def figures(self, clip: Clip) -> dict[str, float]:
        """STOI of one clip."""
        audio = need_beside_torchaudio("torchmetrics.functional.audio", STOI_INSTALL)
        rec_sig, ref_sig = _pair(clip)
        # pystoi warns of too few frames, and then gives a value that means nothing
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


def _pair(clip: Clip) -> tuple[Tensor, Tensor]:
    ref_sig = at_rate(clip.ref_sig, clip.sample_rate, SAMPLE_RATE)
    return fit(at_rate(clip.rec_sig, clip.sample_rate, SAMPLE_RATE), len(ref_sig)), ref_sig
