"""Probes: small networks that tell what a codec's tokens keep of words, voices and moods."""

from focalcodec.probes.ctc_decode import decode_greedily
from focalcodec.probes.inputs import FeatureProjection, TokenEmbedding
from focalcodec.probes.pit import permuted_cross_entropy
from focalcodec.probes.sequence import SequenceProbe
from focalcodec.probes.translator import TokenTranslator
from focalcodec.probes.utterance import UtteranceProbe

__all__ = [
    "FeatureProjection",
    "SequenceProbe",
    "TokenEmbedding",
    "TokenTranslator",
    "UtteranceProbe",
    "decode_greedily",
    "permuted_cross_entropy",
]
