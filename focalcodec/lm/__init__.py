"""Language models of speech tokens: text to speech, continuation, and recognition.

`model` has the transformer, `vocabulary` its ids, `packing` its training data, `likelihood` its
loss and comparisons of sequences, `generation` its sampling, and `speech` a voice that reads text.
"""

from focalcodec.lm.generation import Sampling, generate
from focalcodec.lm.likelihood import target_nats
from focalcodec.lm.model import KeyValueCache, SpeechLM
from focalcodec.lm.packing import PackedTokens
from focalcodec.lm.speech import TextToSpeech
from focalcodec.lm.vocabulary import Sequence, Vocabulary

__all__ = [
    "KeyValueCache",
    "PackedTokens",
    "Sampling",
    "Sequence",
    "SpeechLM",
    "TextToSpeech",
    "Vocabulary",
    "generate",
    "target_nats",
]
