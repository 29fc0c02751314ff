"""Probes: small networks that measure which information the tokens of a frozen codec keep.

A probe predicts a text, a label or other tokens from the tokens (or features) of a codec that is
not trained; the lower its error on a test set, the more the tokens keep (arXiv 2502.04465,
appendix).
"""

from focalcodec.probes.inputs import FeatureProjection, TokenEmbedding
from focalcodec.probes.lstm import SequenceProbe, UtteranceProbe
from focalcodec.probes.translator import TokenTranslator, permuted_cross_entropy

__all__ = [
    "FeatureProjection",
    "SequenceProbe",
    "TokenEmbedding",
    "TokenTranslator",
    "UtteranceProbe",
    "permuted_cross_entropy",
]
