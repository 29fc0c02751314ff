"""Five parts behind each other: their steps, and what they say about the codec.

Parts may be missing: a program that only decodes can remove encoder and compressor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from focalcodec.contracts import Decoder, Quantizer, RateChanger, takes_lengths
from focalcodec.encoders import Encoder
from focalcodec.errors import UserError
from focalcodec.hub import model_name
from focalcodec.hub.checkpoints import PART_NAMES
from focalcodec.hub.fingerprint import weights_sha256
from focalcodec.nn.layers import project_to_sphere
from focalcodec.nn.masking import valid_mask, zero_padding
from focalcodec.parts import stored_name
from focalcodec.version import VERSION

State = Sequence[Any]  # of a part: what its call returned after the output, `()` at the start
_FACTS = (
    *("sample_rate", "hop", "chunk_size", "causal", "factor", "config"),
    *("codebook_size", "num_codebooks", "unit_norm", "voice_tokens"),
)


class CodecBase(nn.Module):
    """Steps and properties of a codec with five parts; of those that were removed, the others.

    Parameters
    ----------
    parts : dict
        Parts by their names, in order.
    given : dict
        `<part>_name` and `<part>_config` of each, which become attributes.
    """

    __version__ = VERSION
    packed_sha256: str | None = None  # hash of the weights before `pack_weights`

    encoder: Encoder
    compressor: RateChanger
    quantizer: Quantizer
    decompressor: RateChanger
    decoder: Decoder
    encoder_name: str
    encoder_config: dict[str, Any]
    compressor_name: str
    compressor_config: dict[str, Any]
    quantizer_name: str
    quantizer_config: dict[str, Any]
    decompressor_name: str
    decompressor_config: dict[str, Any]
    decoder_name: str
    decoder_config: dict[str, Any]

    def __init__(self, parts: dict[str, Any], given: dict[str, Any]) -> None:
        super().__init__()
        self.model_id: str | None = None  # what from_pretrained or from_config was given
        self._hashed: tuple[Any, str] = (None, "")  # versions of the weights, and their hash
        for name, value in (given | parts).items():
            setattr(self, name, value)
        self._facts = {
            (part, fact): getattr(module, fact)
            for part, module in parts.items()
            for fact in _FACTS
            if hasattr(module, fact)
        }
        for part, module in parts.items():
            self._facts[part, "lengths"] = part == "quantizer" or takes_lengths(module)
        # the official call gives lats of any norm
        is_official = not self._facts["compressor", "lengths"]
        self._facts.setdefault(("compressor", "unit_norm"), is_official)

    def _fact(self, part: str, fact: str, default: Any = None) -> Any:
        """Attribute of a part; the first one's where the part is scripted or was removed."""
        known = self._facts.get((part, fact), default)
        return getattr(getattr(self, part, None), fact, known)

    # -- properties ------------------------------------------------------------------------------

    @property
    def sample_rate_input(self) -> int:
        """Sample rate of the encoder's input, Hz."""
        return self._fact("encoder", "sample_rate")

    @property
    def sample_rate_output(self) -> int:
        """Sample rate of the decoder's output, Hz: one decoder hop for each frame of feats."""
        hop = self._fact("encoder", "hop")
        return self._fact("decoder", "hop") * self.sample_rate_input // hop

    @property
    def sample_rate(self) -> int:
        """Sample rate of input and output, Hz; a RuntimeError if they differ."""
        rates = self.sample_rate_input, self.sample_rate_output
        if rates[0] != rates[1]:
            raise RuntimeError(
                f"sample_rate: input and output have {rates[0]} and {rates[1]} Hz; take"
                " sample_rate_input or sample_rate_output"
            )
        return rates[0]

    @property
    def hop_length(self) -> int:
        """Samples of the input for each token, at `sample_rate_input`, as in EnCodec and DAC."""
        return self._fact("encoder", "hop") * self._fact("compressor", "factor")

    @property
    def frame_rate(self) -> float:
        """Frames of tokens per second, Hz: `sample_rate_input` / `hop_length`."""
        return self.sample_rate_input / self.hop_length

    @property
    def codebook_size(self) -> int:
        """Codes of a codebook: tokens are in [0, `codebook_size`)."""
        return self._fact("quantizer", "codebook_size")

    @property
    def num_codebooks(self) -> int:
        """Tokens of a frame; 1, unless the quantizer has this attribute."""
        return self._fact("quantizer", "num_codebooks", 1)

    @property
    def voice_tokens(self) -> int:
        """Tokens of the vector of an utterance, 12 bits each; 0 for a codec without one."""
        return self._fact("compressor", "voice_tokens", 0)

    @property
    def vocab_size(self) -> int:
        """Different tokens: the size of a language model's table, without special tokens."""
        return self.codebook_size

    @property
    def token_rate(self) -> float:
        """Tokens per second: `frame_rate`, where a frame has one token."""
        return self.frame_rate * self.num_codebooks

    @property
    def bits_per_token(self) -> int:
        """Bits of a packed token: log2(`codebook_size`), rounded up to whole bits."""
        return (self.codebook_size - 1).bit_length()

    @property
    def bitrate(self) -> float:
        """Bits per second without entropy coding: log2(`codebook_size`) for each token."""
        return self.token_rate * math.log2(self.codebook_size)

    @property
    def causal(self) -> bool:
        """Whether no part uses more of the future than the rest of a chunk."""
        parts = ("encoder", "compressor", "decompressor", "decoder")
        return all(bool(self._fact(part, "causal", False)) for part in parts)

    @property
    def chunk_size(self) -> int:
        """Samples of a chunk, at `sample_rate_input`."""
        return self._fact("encoder", "chunk_size", self._fact("encoder", "hop"))

    @property
    def latency(self) -> float | None:
        """Duration of a chunk, ms; None if the codec is not causal."""
        return 1000.0 * self.chunk_size / self.sample_rate_input if self.causal else None

    @property
    def lookahead(self) -> float | None:
        """Input after a token's own `hop_length` samples on which it may depend, at most, ms.

        It is the rest of a chunk of the parts, for the token and its audio; None where that is all
        of the signal, in models that are not causal.
        """
        if not self.causal:
            return None
        hop, frames = self._fact("encoder", "hop"), self._fact("decompressor", "chunk_size", 1)
        chunk = math.lcm(self.chunk_size, self.hop_length, hop * frames)
        return 1000.0 * (chunk - self.hop_length) / self.sample_rate_input

    @property
    def codebook(self) -> Tensor:
        """All codes, (2^L, L), in the order of their toks, on the codec's device."""
        return self.quantizer.codebook.to(self._weight)

    @property
    def config(self) -> dict[str, Any]:
        """The `config.json` of this codec."""
        return config_of({part: self._part(part) for part in PART_NAMES})

    @property
    def name(self) -> str:
        """What `model_id` is called in token files."""
        return "unnamed" if self.model_id is None else model_name(self.model_id)

    @property
    def weights_sha256(self) -> str:
        """Hash of configuration and weights in token files, see `hub.fingerprint`.

        It is that of the weights before a change of precision. Training changes it.
        """
        versions = [(id(p), 0 if p.is_inference() else p._version) for p in self.parameters()]
        if versions != self._hashed[0]:
            self._hashed = versions, weights_sha256(self)
        return self._hashed[1]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CodecBase:
        """Change all weights; if they are rounded, their hash is taken before."""
        # a part may be scripted, or was removed
        whole = all(hasattr(getattr(self, part, None), "config") for part in PART_NAMES)
        if whole and self.device.type != "meta":
            weight = self._weight.detach()
            if torch.promote_types(weight.dtype, fn(weight[:0]).dtype) != fn(weight[:0]).dtype:
                self.weights_sha256  # noqa: B018
        return super()._apply(fn, recurse)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._weight.device

    @property
    def _weight(self) -> Tensor:
        """Any weight: it has the device and the dtype."""
        for part in ("compressor", "decompressor", "decoder", "encoder"):
            for weight in getattr(getattr(self, part, None), "parameters", list)():
                return weight
        return torch.zeros(())

    def info(self) -> dict[str, Any]:
        """Name, version, rates, chunk and number of parameters."""
        return {
            "model_id": self.model_id,
            "version": self.__version__,
            "sample_rate_input": self.sample_rate_input,
            "sample_rate_output": self.sample_rate_output,
            "causal": self.causal,
            "chunk_size": self.chunk_size,
            "latency": self.latency,
            "num_total_params": sum(tensor.numel() for tensor in self.state_dict().values()),
        }

    def _part(self, part: str) -> Any:
        """A part by its name; a `UserError` if it was removed."""
        module = getattr(self, part, None)
        if module is None:
            raise UserError(f"{part}: was removed from this codec; load the codec again")
        return module

    # -- one part --------------------------------------------------------------------------------

    def _step(
        self,
        part: str,
        x: Tensor,
        state: State | None,
        lengths: Tensor | None = None,
        voice: Tensor | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None, State]:
        """Output of a part, its valid frames if `lengths` are given, and the state after it.

        Only a part with `voice_tokens` gets `voice` (B, V), the vector of the utterance.
        """
        state = () if state is None else state
        if isinstance(state, Tensor) or any(isinstance(entry, (int, float)) for entry in state):
            raise UserError(f"{part}_state: numbers; valid lengths go by name: lengths=...")
        module = self._part(part)
        takes_voice = voice is not None and self._fact(part, "voice_tokens", 0)
        more = {"voice": voice} if takes_voice else {}
        if lengths is None:
            options = {key: value for key, value in options.items() if value is not None}
            x, *state = module(x, *state, **options, **more)
            if part == "compressor" and self._fact(part, "unit_norm"):
                x = project_to_sphere(x)
            return x, None, state
        if len(state) > 0 or any(value is not None for value in options.values()):
            raise UserError("lengths: not together with states or length; give one of them")
        if not self._facts[part, "lengths"]:
            raise UserError(f"{part}: {type(module).__name__} takes no lengths; give clips alone")
        x, lengths = module(x, lengths=lengths, **more)
        return x, lengths, ()

    def _steps(
        self,
        x: Tensor,
        states: Mapping[str, State],
        lengths: Tensor | None,
        length: Any = None,
        voice: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, list[State]]:
        """Apply the parts of `states`, in order, with the quantizer before the decompressor.

        `length` is for the encoder, `voice` for the decompressor and the decoder.
        """
        after, given = [], x
        for part, state in states.items():
            if part == "decompressor" and "compressor" in states:
                x = self._codes(x, lengths, given)
            options = {"length": length} if part == "encoder" else {}
            x, lengths, state = self._step(part, x, state, lengths, voice, **options)
            after.append(state)
        return x, lengths, after

    # -- the quantizer ---------------------------------------------------------------------------

    def lats_to_codes(self, lats: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Quantize. lats (B, N', L) -> codes (B, N', L) of +-1/sqrt(L).

        lats that require a gradient get one, straight through, as in the training of a quantizer.
        """
        return self._codes(lats, lengths, lats)

    def _codes(self, lats: Tensor, lengths: Tensor | None, given: Tensor) -> Tensor:
        """Codes of lats; straight-through if `given`, the input of the call, asks for a gradient.

        So do all inputs in training mode. Otherwise codes have no gradient, as officially: weights
        of a codec in eval mode may require one that nobody asked for.
        """
        codes = self.quantizer.lats_to_codes(lats)
        if given.requires_grad or self.training:
            # a scripted quantizer has no `project`; that of ours is done already
            points = getattr(self.quantizer, "project", nn.Identity())(lats)  # (B, N', L)
            codes = codes + (points - points.detach())  # plus zero: the values do not change
        return _zero(codes, lengths)

    def lats_to_toks(self, lats: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Quantize. lats (B, N', L) -> toks (B, N') int64."""
        return _zero(self.quantizer.lats_to_toks(lats), lengths)

    def codes_to_toks(self, codes: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Index codes. codes (B, N', L) -> toks (B, N') int64."""
        return _zero(self.quantizer.codes_to_toks(codes), lengths)

    def toks_to_codes(self, toks: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Look up codes. toks (B, N') integers in [0, 2^L) -> codes (B, N', L)."""
        codes = self.quantizer.toks_to_codes(_zero(toks, lengths)).to(self._weight.dtype)
        return _zero(codes, lengths)


def _zero(x: Tensor, lengths: Tensor | None) -> Tensor:
    return x if lengths is None else zero_padding(x, valid_mask(lengths, x.shape[1]))


def config_of(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Names and configurations of parts, by their roles, as in `config.json`."""
    config: dict[str, Any] = {}
    for part, module in parts.items():
        config[f"{part}_name"] = stored_name(module)
        config[f"{part}_config"] = dict(module.config)
    return config
