"""The frozen codec that a probe listens to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from focalcodec.codec import FocalCodec
from focalcodec.coders.coder import Sent
from focalcodec.coders.focal import FocalCoder, VocoderCoder
from focalcodec.coders.hub import HubCoder
from focalcodec.coders.spec import load_coder, parse_spec
from focalcodec.errors import UserError
from focalcodec.tokenize.plan import ModelIdentity
from focalcodec.tokenize.tokenizer import as_tokenizer

INPUTS = ("toks", "qfeats", "feats")


class ProbeCodec:
    """A codec with tokens, by what stands in the YAML.

    Parameters
    ----------
    text : str
        See `focalcodec.coders.spec`: a folder or hub name of ours, encodec:6, dac:4, mimi:8.
    device : torch.device
        Where it runs.

    Attributes
    ----------
    name : str
        What tables call it.
    coder : Coder
        As the evaluation knows it.
    tokenizer : Tokenizer
        As the corpus tokenizer knows it.

    Raises
    ------
    UserError
        It can't be had, or has no tokens.

    Example
    -------
    >>> ProbeCodec("original", torch.device("cpu"))
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: codec=original: it has no tokens; give a neural codec
    """

    def __init__(self, text: str, device: torch.device) -> None:
        spec = parse_spec(str(text))
        self.name, self.folder, self.text = spec.label, spec.folder, text
        coder = load_coder(spec, device)
        if isinstance(coder, FocalCoder) and not isinstance(coder, VocoderCoder):
            self.tokenizer = as_tokenizer(coder.codec)
        elif isinstance(coder, HubCoder):
            self.tokenizer = as_tokenizer(coder)
        else:
            raise UserError(f"codec={text}: it has no tokens; give a neural codec")
        self.coder: FocalCoder | HubCoder = coder

    @property
    def identity(self) -> ModelIdentity:
        """What tokens are kept by."""
        return ModelIdentity(self.name, self.coder.weights_sha256, streams=self.tokenizer.streams)

    @property
    def streams(self) -> int:
        """Tokens of a frame."""
        return self.tokenizer.streams

    @property
    def codebook_size(self) -> int:
        """Tokens of a stream."""
        return self.tokenizer.codebook_size

    def frozen(self, inputs: str) -> Any:
        """What makes a probe's inputs while it trains: nothing of tokens, else a part of ours.

        Raises
        ------
        UserError
            Not one of `INPUTS`, or features of a codec of others.
        """
        if inputs not in INPUTS:
            raise UserError(f"inputs={inputs!r}: not one of {', '.join(INPUTS)}")
        if inputs == "toks":
            return nn.Identity()
        codec = self._ours(f"inputs={inputs}")
        return codec if inputs == "qfeats" else codec.encoder

    def feature_dim(self) -> int:
        """Width of feats and qfeats."""
        return int(self._ours("feats").encoder.dim)

    @torch.no_grad()
    def decode(self, toks: Tensor) -> Tensor:
        """Waveform (T,) on the CPU, at the coder's output rate, of tokens (N,) or (N, Q)."""
        if isinstance(self.coder, FocalCoder):
            return self.coder.decode(Sent(False, None, [toks.cpu()]))[0].float().cpu()
        streams = toks.view(len(toks), self.streams).T.to(self.coder.device)
        return self.coder.decode_clip(streams).float().cpu()

    def describe(self) -> dict[str, Any]:
        """What a card says of it, JSON-ready."""
        return {"name": self.name, **self.coder.describe(), "streams": self.streams}

    def _ours(self, what: str) -> FocalCodec:
        if not isinstance(self.coder, FocalCoder):
            raise UserError(f"{what}: only FocalCodec's are known, not {self.name}'s; use toks")
        return self.coder.codec
