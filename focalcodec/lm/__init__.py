"""Language models of speech tokens: text to speech, continuation, and recognition.

`model` has the transformer, `vocabulary` its ids, `packing` its training data, `likelihood` its
loss and comparisons of sequences, and `generation` its sampling. `aligned` is text to speech
without a language model, and `phonemes` its input. `readers` read texts with a voice, by both.
"""

from focalcodec.lm.aligned import AlignedModel, most_probable_path, spread
from focalcodec.lm.generation import Sampling, generate
from focalcodec.lm.likelihood import target_nats
from focalcodec.lm.model import KeyValueCache, SpeechLM
from focalcodec.lm.packing import PackedTokens
from focalcodec.lm.phonemes import Phonemes, write_phonemes
from focalcodec.lm.readers import (
    AlignedTextToSpeech,
    LMTextToSpeech,
    bits_of_toks,
    load_text_to_speech,
)
from focalcodec.lm.speech import TextToSpeech
from focalcodec.lm.vocabulary import Sequence, Vocabulary

__all__ = [
    "AlignedModel",
    "AlignedTextToSpeech",
    "KeyValueCache",
    "LMTextToSpeech",
    "PackedTokens",
    "Phonemes",
    "Sampling",
    "Sequence",
    "SpeechLM",
    "TextToSpeech",
    "Vocabulary",
    "bits_of_toks",
    "generate",
    "load_text_to_speech",
    "most_probable_path",
    "spread",
    "target_nats",
    "write_phonemes",
]
