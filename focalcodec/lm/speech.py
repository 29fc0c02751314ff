"""Text to speech: tokens of a text with the voice of a prompt, by one of two kinds of model.

A language model continues a text with tokens, one after the other, and decides where they end. An
aligned model predicts durations of phonemes, then all tokens at once. The prompt of a voice is
given by a recording, a token file, or the name of a voice that comes with the model.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from focalcodec.audio import audio_info
from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.fct import Tokens
from focalcodec.fct.header import check_model
from focalcodec.files import atomic_path
from focalcodec.hub import is_shipped
from focalcodec.hub.checkpoints import write_checkpoint
from focalcodec.lm.generation import Sampling
from focalcodec.streaming import DecoderSession

CARD_NAME = "README.md"
FORMAT = "focalcodec-tts"
LEAST_PROMPT = 0.5  # seconds: less has no voice


class Spoken(NamedTuple):
    """Tokens of a text."""

    toks: Tensor  # (N,) int64
    ended: bool  # by the model, not by the limit


class TextToSpeech(ABC):
    """A model that reads texts, with the codec of its tokens.

    `load_text_to_speech` loads both kinds, `LMTextToSpeech` and `AlignedTextToSpeech`.

    Parameters
    ----------
    model : nn.Module
        It is set to eval mode.
    codec : FocalCodec
        Makes prompts and audio.
    voices : mapping of str to Tensor, optional
        Toks (N,) of a prompt of each voice; the first is the default.
    sampling : Sampling, optional
        Default of all methods; if it is not given, that of the kind.
    prompt_seconds : float
        Most of a prompt.
    """

    kind: ClassVar[str]
    about: ClassVar[str]
    """What the model is, for its card."""
    usual_sampling: ClassVar[Sampling] = Sampling()

    def __init__(
        self,
        model: nn.Module,
        codec: FocalCodec,
        voices: Mapping[str, Tensor] | None = None,
        sampling: Sampling | None = None,
        prompt_seconds: float = 3.0,
    ) -> None:
        self.model, self.codec = model.eval(), codec.eval()
        self.voices, self.sampling = dict(voices or {}), sampling or self.usual_sampling
        self.prompt_seconds = prompt_seconds
        if codec.voice_tokens:
            raise UserError(
                f"codec {codec.name}: it has a vector of an utterance, which text to speech does"
                " not predict; give a codec without it"
            )

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

    @abstractmethod
    def toks(
        self,
        texts: Sequence[str],
        voices: Sequence[Tensor | None],
        seeds: Sequence[int],
        sampling: Sampling | None = None,
    ) -> list[Spoken]:
        """Tokens of a batch of texts; each is as with a batch of one."""

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

    @abstractmethod
    def toks_of_stream(
        self, text: str, voice: Tensor | None, seed: int, sampling: Sampling | None
    ) -> Iterator[Tensor]:
        """Yield the toks (N,) of a text while they are made."""

    def stream(
        self,
        text: str,
        voice: Tensor | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Iterator[Tensor]:
        """Yield the audio (T,) of a text while it is made: the tokens of `speak`, in windows."""
        session = DecoderSession(self.codec)
        for toks in self.toks_of_stream(text, voice, seed, sampling):
            sig = session.push(toks[None])[0]
            if len(sig):
                yield sig
        yield session.flush()[0]

    # -- files -----------------------------------------------------------------------------------

    @abstractmethod
    def text_config(self) -> dict[str, Any]:
        """What the configuration has of the texts."""

    @abstractmethod
    def inputs(self) -> str:
        """Return what the model reads, for its card."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any], codec: FocalCodec) -> TextToSpeech:
        """Make the parts, with random weights."""

    def save_pretrained(
        self, folder: str | os.PathLike[str], dtype: str = "float16", about: str = ""
    ) -> Path:
        """Write `config.json`, `model.safetensors` and a model card; return the folder.

        `about` is the card's text on the training and its figures.
        """
        config = {
            "format": FORMAT,
            "kind": self.kind,
            "model": self.model.config,
            **self.text_config(),
            "codec": _source(self.codec),
            "codec_sha256": self.codec.weights_sha256,
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
            what=self.about,
            inputs=self.inputs(),
            **{name: config[name] for name in ("codec", "codec_sha256")},
        )


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

A demonstration: a model of {parameters:.1f} million parameters that predicts the tokens of the
codec `{codec}` from a text and the tokens of a voice: {what}.

```bash
focalcodec say "a short sentence" out.wav --model FOLDER --voice prompt.wav --seed 1
```

| | |
|---|---|
| input | {inputs} |
| voices that come with it | {voices} |
| codec | `{codec_sha256}` |

## Training and figures

{about}

## Intended use

Research and teaching: how speech is predicted as tokens. Its output has wrong words, and
its sound is that of a small codec.

Not meant for: imitating the voice of a person who has not agreed; deceiving anyone about who speaks
or what was said; messages on which somebody relies. Say that the speech is synthetic.
"""
