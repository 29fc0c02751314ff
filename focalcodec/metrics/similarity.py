"""Speaker similarity, whoever makes the embeddings."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from focalcodec.metrics.judge import Clip, Column, SignalJudge, at_rate, sig_key

SAMPLE_RATE = 16000


class SimilarityJudge(SignalJudge):
    """Cosine of the speaker embeddings of output and reference, in percent, as the papers.

    In voice conversion the reference is the clip's `target_sig`. A reference is embedded once,
    however many codecs are judged on it.

    Parameters
    ----------
    name : str
        Such as "Resemblyzer".
    key : str
        End of the column's key, such as "resemblyzer".
    """

    def __init__(self, name: str, key: str) -> None:
        self.name = name
        self._key = f"sim_{key}"
        self.columns = (Column(self._key, f"Speaker similarity, {name}", "%", "higher"),)
        self.least = {self._key: 0.0}
        self._references: dict[str, Tensor] = {}

    @abstractmethod
    def embed(self, sig: Tensor) -> Tensor:
        """Embedding (D,) of unit length of sig (T,) at 16 kHz, audible, half a second or more."""

    def figures(self, clip: Clip) -> dict[str, float]:
        """Similarity of one clip."""
        wanted = clip.ref_sig if clip.target_sig is None else clip.target_sig
        key = sig_key(wanted, clip.sample_rate)
        if key not in self._references:
            self._references[key] = self.embed(at_rate(wanted, clip.sample_rate, SAMPLE_RATE))
        voice = self.embed(at_rate(clip.rec_sig, clip.sample_rate, SAMPLE_RATE))
        cosine = torch.dot(voice.double(), self._references[key].double())
        return {self._key: 100 * float(cosine)}
