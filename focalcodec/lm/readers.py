"""Both kinds of text to speech: by a language model, and by an aligned model."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.files import read_json
from focalcodec.hub.checkpoints import CONFIG_NAME, WEIGHTS_NAME
from focalcodec.hub.weights import read_tensors
from focalcodec.lm.aligned import AlignedModel
from focalcodec.lm.generation import Sampling, generate, stream_ids
from focalcodec.lm.model import SpeechLM
from focalcodec.lm.phonemes import Phonemes
from focalcodec.lm.speech import FORMAT, Spoken, TextToSpeech
from focalcodec.lm.vocabulary import Vocabulary

LONG_TEXT = 120  # characters
BATCH_SENTENCES = 16  # of a long text, at once
PAUSE_SECONDS = 0.2
# Not after titles, initials, and abbreviations such as e.g. and p.m.
_SENTENCE_END = re.compile(
    r"((?:(?<!\b[^\W\d])(?<!\b(?:Mr|Ms|Dr|St))(?<!\bMrs)\.|[!?;])[\"'\u201d\u2019)\]]*)\s"
)
SECONDS_A_CHARACTER = 0.5  # most of a text; a model that has not ended by then has failed


class LMTextToSpeech(TextToSpeech):
    """Text to speech by a language model, which continues prompt and text with tokens.

    The prompt of a voice is an utterance without its text, in front of the text to read.

    Parameters
    ----------
    model : SpeechLM
        Trained on `Vocabulary.utterance(["text", "speech"], ...)`.
    vocabulary : Vocabulary
        Of the codec's tokens.
    codec : FocalCodec
        Whose tokens the model predicts.
    *args, **how
        `voices`, `sampling` and `prompt_seconds` of `TextToSpeech`.

    Example
    -------
    >>> codec, vocabulary = FocalCodec.from_pretrained("demo"), Vocabulary(8192)
    >>> model = SpeechLM(vocabulary.size, 16, num_layers=1, num_heads=1, num_kv_heads=1)
    >>> tts = LMTextToSpeech(model, vocabulary, codec)
    >>> torch.equal(tts.speak("Hi", seed=1), tts.speak("Hi", seed=1))  # random weights: noise
    True
    """

    kind = "lm"
    about = "a decoder-only transformer, which predicts one token after the other"
    model: SpeechLM

    def __init__(
        self, model: SpeechLM, vocabulary: Vocabulary, codec: FocalCodec, *args: Any, **how: Any
    ) -> None:
        super().__init__(model, codec, *args, **how)
        self.vocabulary = vocabulary
        if codec.codebook_size != vocabulary.codebook_size:
            raise UserError(
                f"codec {codec.name}: {codec.codebook_size} tokens, but the model has"
                f" {vocabulary.codebook_size}; give its codec"
            )
        first = vocabulary.toks.offset
        toks = torch.arange(first, first + vocabulary.codebook_size)
        self._end = vocabulary.special["eos"]
        self._allowed = torch.cat([toks, torch.tensor([self._end])])

    def prompt(self, text: str, voice: Tensor | None) -> Tensor:
        """Ids in front of the speech: the utterance of a voice, the text, and `<speech>`."""
        end = torch.tensor([self._end])
        before = [] if voice is None else [self.vocabulary.speech(voice), end]
        written = self.vocabulary.part("text", self.vocabulary.text_ids(text))
        return torch.cat([*before, written, torch.tensor([self.vocabulary.special["speech"]])])

    def most_toks(self, text: str) -> int:
        """Most tokens of a text: 0.5 s a character."""
        seconds = SECONDS_A_CHARACTER * len(self.vocabulary.normalised(text))
        return math.ceil(seconds * self.codec.token_rate)

    def toks(
        self,
        texts: Sequence[str],
        voices: Sequence[Tensor | None],
        seeds: Sequence[int],
        sampling: Sampling | None = None,
    ) -> list[Spoken]:
        """Sample the tokens of a batch of texts; each is as with a batch of one."""
        rows = [self.prompt(text, voice) for text, voice in zip(texts, voices, strict=True)]
        most = [self.most_toks(text) for text in texts]
        how = sampling or self.sampling
        found = generate(self.model, rows, self._allowed, self._end, most, how, seeds)
        ended = [len(ids) > 0 and int(ids[-1]) == self._end for ids in found]
        return [
            Spoken(self.vocabulary.toks.to_toks(ids), end)
            for ids, end in zip(found, ended, strict=True)
        ]

    def toks_of_stream(
        self, text: str, voice: Tensor | None, seed: int, sampling: Sampling | None
    ) -> Iterator[Tensor]:
        """Yield the toks of each step of the model."""
        rows, most = [self.prompt(text, voice)], [self.most_toks(text)]
        how = sampling or self.sampling
        steps = stream_ids(self.model, rows, self._allowed, self._end, most, how, [seed])
        return (self.vocabulary.toks.to_toks(ids) for (ids,) in steps)

    def inputs(self) -> str:
        """Return its characters."""
        known = self.vocabulary.characters
        return "bytes of UTF-8" if known is None else f"characters `{known}`"

    def text_config(self) -> dict[str, Any]:
        """Return the vocabulary."""
        known = self.vocabulary
        return {"characters": known.characters, "codebook_size": known.codebook_size}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], codec: FocalCodec) -> LMTextToSpeech:
        """Make the parts, with random weights."""
        vocabulary = Vocabulary(config["codebook_size"], config["characters"])
        return cls(SpeechLM(**config["model"]), vocabulary, codec)


class AlignedTextToSpeech(TextToSpeech):
    """Text to speech by an aligned model: durations of phonemes, then all tokens at once.

    It needs espeak-ng for the phonemes, from `pip install 'focalcodec[say]'`. Its default is the
    most probable value of each bit; then seeds change nothing.

    Parameters
    ----------
    model : AlignedModel
        Its bits are those of the codec's tokens.
    phonemes : Phonemes
        Of the texts of the training.
    codec : FocalCodec
        Whose tokens the model predicts.
    *args, **how
        `voices`, `sampling` and `prompt_seconds` of `TextToSpeech`; of `sampling` only the
        temperature is used.
    """

    kind = "aligned"
    about = "durations of phonemes, then the bits of all tokens at once, by focal modulation"
    usual_sampling = Sampling(temperature=0.0)
    model: AlignedModel

    def __init__(
        self, model: AlignedModel, phonemes: Phonemes, codec: FocalCodec, *args: Any, **how: Any
    ) -> None:
        super().__init__(model, codec, *args, **how)
        self.phonemes, self.codes = phonemes, bits_of_toks(codec)
        if model.config["code_dim"] != self.codes.shape[1]:
            raise UserError(
                f"codec {codec.name}: {self.codes.shape[1]} bits a token, but the model has"
                f" {model.config['code_dim']}; give its codec"
            )

    def toks(
        self,
        texts: Sequence[str],
        voices: Sequence[Tensor | None],
        seeds: Sequence[int],
        sampling: Sampling | None = None,
    ) -> list[Spoken]:
        """Predict the tokens of a batch of texts; each is as with a batch of one.

        A long text is read sentence by sentence, with a pause between them.
        """
        found: list[list[Tensor]] = [[] for _ in texts]
        parts = [(k, part) for k, text in enumerate(texts) for part in sentences(text)]
        for first in range(0, len(parts), BATCH_SENTENCES):
            places, lines = zip(*parts[first : first + BATCH_SENTENCES], strict=True)
            rows = self._predict(
                lines,
                [voices[k] for k in places],
                [seeds[k] for k in places],
                sampling or self.sampling,
            )
            for k, toks in zip(places, rows, strict=True):
                found[k] += [self._pause, toks] if found[k] else [toks]
        return [Spoken(torch.cat(each), True) for each in found]

    @torch.inference_mode()
    def _predict(
        self,
        texts: Sequence[str],
        voices: Sequence[Tensor | None],
        seeds: Sequence[int],
        how: Sampling,
    ) -> list[Tensor]:
        """Toks (N,) of each text."""
        device = self.model.place.weight.device
        ids = [row.to(device) for row in self.phonemes.text_ids(texts)]
        lengths = torch.tensor([len(row) for row in ids], device=device)
        voice = torch.cat([self._voice(toks, device) for toks in voices])  # (B, V)
        x = self.model.encode(pad_sequence(ids, batch_first=True), lengths, voice)  # (B, S, D)
        logits, frames = self.model.bits(x, self.model.durations(x, lengths), voice)  # (B, N, L)
        rows = zip(logits.float().cpu(), frames.tolist(), seeds, strict=True)
        return [self._draw(row[:end], how, seed) for row, end, seed in rows]

    @cached_property
    def _pause(self) -> Tensor:
        """Toks of silence between sentences."""
        silence = torch.zeros(1, round(PAUSE_SECONDS * self.codec.sample_rate_input))
        return self.codec.sig_to_toks(silence.to(self.codec.device))[0].cpu()

    def _draw(self, logits: Tensor, how: Sampling, seed: int) -> Tensor:
        """Toks (N,) from logits (N, L) of their bits: the most probable, or drawn with a seed."""
        least = torch.full_like(logits, 0.5)
        if how.temperature > 0:
            least = torch.rand(logits.shape, generator=torch.Generator().manual_seed(seed))
            logits = logits / how.temperature
        return self.codec.codes_to_toks((logits.sigmoid() - least)[None])[0]

    def _voice(self, toks: Tensor | None, device: torch.device) -> Tensor:
        """Vector (1, V) of a prompt."""
        if toks is None:
            raise UserError("voice: none is given; name a recording, as this model has no voices")
        codes = self.codes[toks.cpu()].to(device)[None]  # (1, N, L)
        return self.model.voice(codes, torch.tensor([len(toks)], device=device))

    def toks_of_stream(
        self, text: str, voice: Tensor | None, seed: int, sampling: Sampling | None
    ) -> Iterator[Tensor]:
        """Yield the toks of each sentence of a long text."""
        how = sampling or self.sampling
        for place, part in enumerate(sentences(text)):
            (toks,) = self._predict([part], [voice], [seed], how)
            yield torch.cat([self._pause, toks]) if place else toks

    def inputs(self) -> str:
        """Return its phonemes."""
        return f"phonemes of espeak-ng, {self.phonemes.language}: `{' '.join(self.phonemes.names)}`"

    def text_config(self) -> dict[str, Any]:
        """Return the phonemes."""
        return {"phonemes": self.phonemes.names, "language": self.phonemes.language}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], codec: FocalCodec) -> AlignedTextToSpeech:
        """Make the parts, with random weights."""
        phonemes = Phonemes(config["phonemes"], config["language"])
        return cls(AlignedModel(**config["model"]), phonemes, codec)


def sentences(text: str) -> list[str]:
    """Sentences of a text longer than those of most trainings; else the text.

    An empty line ends a sentence too.

    Example
    -------
    >>> sentences("Dr. Who? Yes.")
    ['Dr. Who? Yes.']
    >>> len(sentences("The first of two sentences, by Dr. Who, is here. " * 6))
    6
    """
    if len(" ".join(text.split())) <= LONG_TEXT:
        return [" ".join(text.split())]
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        line = " ".join(paragraph.split())
        for part in _SENTENCE_END.sub(r"\1\n", line).split("\n"):
            if found and not (_has_words(found[-1]) and _has_words(part)):  # such as ". . ."
                found[-1] += f" {part}"
            else:
                found.append(part)
    return found


def _has_words(text: str) -> bool:
    return any(letter.isalnum() for letter in text)


def bits_of_toks(codec: FocalCodec) -> Tensor:
    """Bits (K, L) of all tokens of a codec, as 1 and -1; `UserError` if its codes are no bits."""
    codes = codec.codebook.cpu()  # (K, L)
    if not torch.equal(codes.abs(), codes.abs().amax().expand_as(codes)):
        raise UserError(
            f"codec {codec.name}: its codes are no bits, which an aligned model predicts; give a"
            " codec with a binary spherical quantizer"
        )
    return codes.sign()


def load_text_to_speech(
    folder: str | os.PathLike[str], codec: FocalCodec | None = None
) -> TextToSpeech:
    """Load a folder of `save_pretrained`, or a run of a recipe that trained text to speech.

    `codec` is loaded by its name in the folder, if it is not given. Raises `UserError` if the
    folder is something else, or damaged, and for another codec than in training.
    """
    path = Path(folder).expanduser()
    path = path / "tts" if (path / "tts" / CONFIG_NAME).is_file() else path
    config = read_json(path / CONFIG_NAME, "give a folder of text to speech, or its run")
    kinds = {kind.kind: kind for kind in (LMTextToSpeech, AlignedTextToSpeech)}
    known = isinstance(config, dict) and config.get("kind") in kinds
    if not known or config.get("format") != FORMAT:
        raise UserError(f"{folder}: no text to speech; give a folder of it, or its run")
    codec = FocalCodec.from_pretrained(config["codec"]) if codec is None else codec
    if codec.weights_sha256 != config["codec_sha256"]:
        raise UserError(
            f"{folder}: trained on the tokens of {config['codec']}"
            f" ({config['codec_sha256'][:12]}), but this codec is {codec.weights_sha256[:12]};"
            " load that codec, or train again"
        )
    tts = kinds[config["kind"]].from_config(config, codec)
    try:
        tts.model.load_state_dict(read_tensors(path / WEIGHTS_NAME))
    except RuntimeError as error:
        raise UserError(f"{path}: {WEIGHTS_NAME} is of another model; copy it again") from error
    tts.voices = {name: torch.tensor(toks) for name, toks in config["voices"].items()}
    tts.sampling = Sampling(**config["sampling"])
    tts.prompt_seconds = config["prompt_seconds"]
    return tts
