"""Distill-MOS: quality without a reference, by a small network taught by XLS-R.

Stahl and Gamper, "Distillation and Pruning for Scalable Self-Supervised Representation-Based
Speech Quality Assessment", arXiv 2502.05356.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from focalcodec.metrics.judge import Clip, Column, SignalJudge, at_rate
from focalcodec.packages import check_sha256, need_beside_torchaudio, package_folder, versions

INSTALL = "pip install distillmos==0.9.1 xls-r-sqa==0.1.0"
SAMPLE_RATE = 16000
SHA256 = "b18b3ac60227267cfb91e5d00ce22cc7b73716fd92f269484da1446e27031a40"


class DistillMosJudge(SignalJudge):
    """One MOS, 1 to 5.

    Parameters
    ----------
    device : str
        For the network.

    Raises
    ------
    UserError
        A package is missing, or has other weights.
    """

    name = "Distill-MOS"
    columns = (Column("distillmos", "Distill-MOS", "MOS", "higher"),)
    least = {"distillmos": 1.0}

    def __init__(self, device: str = "cpu") -> None:
        folder = package_folder("distillmos", INSTALL)
        weights = folder / "weights" / "distill_mos_v7.pt"
        self._weights = check_sha256(weights, SHA256, INSTALL)
        package_folder("xls_r_sqa", INSTALL)
        self._device = device

    @cached_property
    def _model(self) -> Any:
        model = need_beside_torchaudio("distillmos", INSTALL).ConvTransformerSQAModel(
            load_weights=False
        )
        state = torch.load(self._weights, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        return model.eval().to(self._device)

    @torch.no_grad()
    def figures(self, clip: Clip) -> dict[str, float]:
        """MOS of one output."""
        sig = at_rate(clip.rec_sig, clip.sample_rate, SAMPLE_RATE)
        return {"distillmos": float(self._model(sig[None].to(self._device)))}

    def describe(self) -> dict[str, str]:
        """Packages and weights."""
        return {
            "name": self.name,
            "packages": versions(["distillmos", "xls-r-sqa", "torch"]),
            "weights": "variant 7",
            "weights_sha256": SHA256,
            "settings": self._device,
        }
