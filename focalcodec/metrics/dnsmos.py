"""DNSMOS: quality without a reference, by the two networks of the DNS challenge.

P.835 (speech, background, overall): Reddy et al., arXiv 2110.01763. P.808 (one figure, the
papers' judge of noisy sets): Reddy et al., arXiv 2010.15258.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from focalcodec.metrics.judge import Clip, Column, SignalJudge, at_rate
from focalcodec.packages import check_sha256, need, package_folder, versions

INSTALL = "pip install speechmos==0.0.1.1 onnxruntime requests"
SAMPLE_RATE = 16000
SHA256 = {
    "model_v8.onnx": "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91",
    "sig_bak_ovr.onnx": "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd",
}
FIGURES = {
    "p808": "P.808",
    "sig": "P.835 speech",
    "bak": "P.835 background",
    "ovrl": "P.835 overall",
}


class DnsmosJudge(SignalJudge):
    """Four MOS, 1 to 5, by `speechmos`, whose wheel has the networks.

    Clips shorter than 9 s are repeated, longer ones heard every second, as its authors do. The
    polynomials that map the networks' outputs may go a little under 1.

    Parameters
    ----------
    device : str
        Not looked at: the networks are small and run on the CPU.

    Raises
    ------
    UserError
        A package is missing, or a network is not the known one.
    """

    name = "DNSMOS"

    def __init__(self, device: str = "cpu") -> None:
        folder = package_folder("speechmos", INSTALL)
        self._models = [
            str(check_sha256(folder / "dnsmos_models" / file, sha256, INSTALL))
            for file, sha256 in SHA256.items()
        ]
        need("onnxruntime", INSTALL)
        need("requests", INSTALL)
        self.columns = tuple(
            Column(f"dnsmos_{key}", f"DNSMOS {title}", "MOS", "higher")
            for key, title in FIGURES.items()
        )
        self.least = {column.key: 1.0 for column in self.columns}

    @cached_property
    def _model(self) -> Any:
        p808, p835 = self._models
        return need("speechmos.dnsmos", INSTALL).DNSMOS(p835, p808)

    def figures(self, clip: Clip) -> dict[str, float]:
        """MOS of one output."""
        audio = at_rate(clip.rec_sig, clip.sample_rate, SAMPLE_RATE).clamp(-1, 1).numpy()
        mos = self._model(audio, SAMPLE_RATE, is_personalized_MOS=False)
        return {f"dnsmos_{key}": float(mos[f"{key}_mos"]) for key in FIGURES}

    def describe(self) -> dict[str, str]:
        """Packages and weights."""
        return {
            "name": self.name,
            "packages": versions(["speechmos", "onnxruntime", "librosa"]),
            "weights": ", ".join(SHA256),
            "weights_sha256": ", ".join(SHA256.values()),
            "settings": "windows of 9.01 s, not personalised",
        }
