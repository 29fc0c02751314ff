"""Text to speech: a language model that continues a text, and perhaps a voice, with tokens.

The prompt of a voice is an utterance without its text in front of the text to read. It is given by
a recording, a token file, or the name of a voice that comes with the model.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from focalcodec.audio import audio_info
from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.fct import Tokens
from focalcodec.fct.header import check_model
from focalcodec.files import atomic_path, read_json
from focalcodec.hub import is_shipped
from focalcodec.hub.checkpoints import CONFIG_NAME, WEIGHTS_NAME, write_checkpoint
from focalcodec.hub.weights import read_tensors
from focalcodec.lm.generation import Sampling, generate, stream_ids
from focalcodec.lm.model import SpeechLM
from focalcodec.lm.vocabulary import Vocabulary
from focalcodec.streaming import DecoderSession

CARD_NAME = "README.md"
FORMAT = "focalcodec-tts"
SECONDS_A_CHARACTER = 0.5  # most of a text; a model that has not ended by then has failed
LEAST_PROMPT = 0.5  # seconds: less has no voice


class Spoken(NamedTuple):
    """Tokens of a text."""

    toks: Tensor  # (N,) int64
    ended: bool  # by the model, not by the limit


class TextToSpeech:
    """A model that reads texts, with the codec of its tokens.

    Parameters
    ----------
    model : SpeechLM
        Trained on `Vocabulary.utterance(["text", "speech"], ...)`; it is set to eval mode.
    vocabulary : Vocabulary
        Of the codec's tokens.
    codec : FocalCodec
        Makes prompts and audio.
    voices : mapping of str to Tensor, optional
        Toks (N,) of a prompt of each voice; the first is the default.
    sampling : Sampling, optional
        Default of all methods.
    prompt_seconds : float
        Most of a prompt.

    Example
    -------
    >>> codec, vocabulary = FocalCodec.from_pretrained("demo"), Vocabulary(8192)
    >>> model = SpeechLM(vocabulary.size, 16, num_layers=1, num_heads=1, num_kv_heads=1)
    >>> tts = TextToSpeech(model, vocabulary, codec)
    >>> torch.equal(tts.speak("Hi", seed=1), tts.speak("Hi", seed=1))  # random weights: noise
    True
    """

    def __init__(
        self,
        model: SpeechLM,
        vocabulary: Vocabulary,
        codec: FocalCodec,
        voices: Mapping[str, Tensor] | None = None,
        sampling: Sampling | None = None,
        prompt_seconds: float = 3.0,
    ) -> None:
        self.model, self.vocabulary, self.codec = model.eval(), vocabulary, codec.eval()
        self.voices, self.sampling = dict(voices or {}), sampling or Sampling()
        self.prompt_seconds = prompt_seconds
        if codec.codebook_size != vocabulary.codebook_size or codec.voice_tokens:
            raise UserError(
                f"codec {codec.name}: {codec.codebook_size} tokens, but the model has"
                f" {vocabulary.codebook_size}, and no vector of an utterance; give its codec"
            )
        first = vocabulary.toks.offset
        toks = torch.arange(first, first + vocabulary.codebook_size)
        self._end = vocabulary.special["eos"]
        self._allowed = torch.cat([toks, torch.tensor([self._end])])

    def to(self, device: str | torch.device) -> TextToSpeech:
        """Move the model and the codec."""
        self.model.to(device)
        self.codec.to(device)
        return self

    # -- prompts ---------------------------------------------------------------------------------

    def voice(self, source: str | os.PathLike[str] | None) -> Tensor | None:
        """Toks of a prompt: of a recording, a token file (.fct) or a named voice.

        None is the first voice of the model; if it has none, the voice is chosen by the seed.
        Raises `UserError` for a recording under 0.5 s, and tokens of another codec.
        """
        if source is None:
            return next(iter(self.voices.values()), None)
        if str(source) in self.voices:
            return self.voices[str(source)]
        if not Path(source).is_file():
            named = f"; its voices are {', '.join(self.voices)}" if self.voices else ""
            raise UserError(f"voice {source}: no such file{named}; name a recording")
        if Path(source).suffix == ".fct":
            found = Tokens.load(source)
            check_model(found.header, self.codec.name, self.codec.weights_sha256, str(source))
            toks = found.toks
        else:
            self._check_prompt(source, audio_info(source).seconds)
            toks = self.codec.encode_file(source).toks
        self._check_prompt(source, len(toks) / self.codec.token_rate)
        return toks[: round(self.prompt_seconds * self.codec.token_rate)]

    @staticmethod
    def _check_prompt(source: Any, seconds: float) -> None:
        if seconds < LEAST_PROMPT:
            raise UserError(
                f"voice {source}: {seconds:.2g} s; give at least {LEAST_PROMPT} s of one speaker"
            )

    # -- tokens and audio ------------------------------------------------------------------------

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
        """Tokens of a batch of texts; each is as with a batch of one."""
        rows = [self.prompt(text, voice) for text, voice in zip(texts, voices, strict=True)]
        most = [self.most_toks(text) for text in texts]
        how = sampling or self.sampling
        found = generate(self.model, rows, self._allowed, self._end, most, how, seeds)
        ended = [len(ids) > 0 and int(ids[-1]) == self._end for ids in found]
        return [
            Spoken(self.vocabulary.toks.to_toks(ids), end)
            for ids, end in zip(found, ended, strict=True)
        ]

    def speak(
        self,
        text: str,
        voice: Tensor | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Tensor:
        """Read a text: sig (T,) at `codec.sample_rate_output`. The same seed gives the same sig."""
        return self.decode(self.toks([text], [voice], [seed], sampling)[0].toks)

    def decode(self, toks: Tensor) -> Tensor:
        """Audio (T,) of toks (N,), on the CPU; a tenth of a second of silence if there are none."""
        if not len(toks):
            return torch.zeros(self.codec.sample_rate_output // 10)
        return self.codec.decode(toks[None].to(self.codec.device))[0].float().cpu()

    def stream(
        self,
        text: str,
        voice: Tensor | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Iterator[Tensor]:
        """Yield the audio (T,) of a text while it is made: the tokens of `speak`, in windows."""
        session, rows = DecoderSession(self.codec), [self.prompt(text, voice)]
        most, how = [self.most_toks(text)], sampling or self.sampling
        steps = stream_ids(self.model, rows, self._allowed, self._end, most, how, [seed])
        for (ids,) in steps:
            sig = session.push(self.vocabulary.toks.to_toks(ids)[None])[0]
            if len(sig):
                yield sig
        yield session.flush()[0]

    # -- files -----------------------------------------------------------------------------------

    def save_pretrained(
        self, folder: str | os.PathLike[str], dtype: str = "float16", about: str = ""
    ) -> Path:
        """Write `config.json`, `model.safetensors` and a model card; return the folder.

        `about` is the card's text on the training and its figures.
        """
        config = {
            "format": FORMAT,
            "model": self.model.config,
            "characters": self.vocabulary.characters,
            "codec": _source(self.codec),
            "codec_sha256": self.codec.weights_sha256,
            "codebook_size": self.vocabulary.codebook_size,
            "prompt_seconds": self.prompt_seconds,
            "sampling": asdict(self.sampling),
            "voices": {name: toks.tolist() for name, toks in self.voices.items()},
        }
        path = write_checkpoint(folder, config, self.model.state_dict(), dtype)
        with atomic_path(path / CARD_NAME) as card:
            card.write_text(self._card(config, about), encoding="utf-8")
        return path

    def _card(self, config: Mapping[str, Any], about: str) -> str:
        return _CARD.format(
            parameters=sum(p.numel() for p in self.model.parameters()) / 1e6,
            voices=", ".join(self.voices) or "none; a recording gives the voice",
            about=about or "Not given.",
            **{name: config[name] for name in ("codec", "codec_sha256", "characters")},
        )

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike[str], codec: FocalCodec | None = None
    ) -> TextToSpeech:
        """Load a folder of `save_pretrained`, or a run of a recipe that trained text to speech.

        `codec` is loaded by its name in the folder, if it is not given. Raises `UserError` if the
        folder is something else, or damaged, and for another codec than in training.
        """
        path = Path(folder).expanduser()
        path = path / "tts" if (path / "tts" / CONFIG_NAME).is_file() else path
        config = read_json(path / CONFIG_NAME, "give a folder of text to speech, or its run")
        if not isinstance(config, dict) or config.get("format") != FORMAT:
            raise UserError(f"{folder}: no text to speech; give a folder of it, or its run")
        codec = FocalCodec.from_pretrained(config["codec"]) if codec is None else codec
        if codec.weights_sha256 != config["codec_sha256"]:
            raise UserError(
                f"{folder}: trained on the tokens of {config['codec']}"
                f" ({config['codec_sha256'][:12]}), but this codec is {codec.weights_sha256[:12]};"
                " load that codec, or train again"
            )
        model = SpeechLM(**config["model"])
        try:
            model.load_state_dict(read_tensors(path / WEIGHTS_NAME))
        except RuntimeError as error:
            raise UserError(f"{path}: {WEIGHTS_NAME} is of another model; copy it again") from error
        voices = {name: torch.tensor(toks) for name, toks in config["voices"].items()}
        vocabulary = Vocabulary(config["codebook_size"], config["characters"])
        sampling = Sampling(**config["sampling"])
        return cls(model, vocabulary, codec, voices, sampling, config["prompt_seconds"])


def _source(codec: FocalCodec) -> str:
    """What loads a codec: its name, or its folder's whole path."""
    name = str(codec.model_id)
    return str(Path(name).resolve()) if Path(name).is_dir() and not is_shipped(name) else name


_CARD = """---
library_name: focalcodec
pipeline_tag: text-to-speech
tags: [speech, text-to-speech]
---

# A text-to-speech model on FocalCodec tokens

A demonstration: a decoder-only transformer of {parameters:.1f} million parameters, which predicts
the tokens of the codec `{codec}` from a text and the tokens of a voice.

```bash
focalcodec say "a short sentence" out.wav --model FOLDER --voice prompt.wav --seed 1
```

| | |
|---|---|
| characters | `{characters}` |
| voices that come with it | {voices} |
| codec | `{codec_sha256}` |

## Training and figures

{about}

## Intended use

Research and teaching: how a language model of speech tokens works. Its output has wrong words, and
its sound is that of a small codec.

Not meant for: imitating the voice of a person who has not agreed; deceiving anyone about who speaks
or what was said; messages on which somebody relies. Say that the speech is synthetic.
"""
