"""The methods of the official package's codec, composed of the steps of five parts.

A method takes the official arguments, states and relative `length` included, or `lengths=` by name:
exact valid samples or frames, (B,) int64, of each clip. With `lengths=` the output is zero on
padded positions, and a clip gives the same values alone and in any padded batch.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from focalcodec.codec_base import CodecBase, State
from focalcodec.errors import UserError, one_line
from focalcodec.knn import nearest_frames, take_frames

DEFAULT_CONFIGS = [
    "lucadellalib/focalcodec_50hz",
    "lucadellalib/focalcodec_50hz_65k_causal",
    "lucadellalib/focalcodec_50hz_4k_causal",
    "lucadellalib/focalcodec_50hz_2k_causal",
    "lucadellalib/focalcodec_25hz",
    "lucadellalib/focalcodec_12_5hz",
]


class OfficialCodec(CodecBase):
    """All conversions of `CodecBase`'s parts, with the official names and arguments."""

    # -- sig -> any ------------------------------------------------------------------------------

    def sig_to_feats(
        self,
        sig: Tensor,
        encoder_state: State = (),
        length: Tensor | None = None,
        return_state: bool = False,
        *,
        lengths: Tensor | None = None,
    ) -> Any:
        """Encode. sig (B, T) -> feats (B, N, D); `lengths` in samples."""
        feats, _, states = self._steps(sig, {"encoder": encoder_state}, lengths, length)
        return _result(feats, states, return_state)

    def sig_to_lats(
        self,
        sig: Tensor,
        encoder_state: State = (),
        compressor_state: State = (),
        length: Tensor | None = None,
        return_state: bool = False,
        *,
        lengths: Tensor | None = None,
    ) -> Any:
        """Encode and compress. sig (B, T) -> lats (B, N', L); `lengths` in samples."""
        states = {"encoder": encoder_state, "compressor": compressor_state}
        lats, _, after = self._steps(sig, states, lengths, length)
        return _result(lats, after, return_state)

    def sig_to_toks(
        self,
        sig: Tensor,
        encoder_state: State = (),
        compressor_state: State = (),
        length: Tensor | None = None,
        return_state: bool = False,
        *,
        lengths: Tensor | None = None,
    ) -> Any:
        """Tokenize. sig (B, T) -> toks (B, N') int64; `lengths` in samples."""
        states = {"encoder": encoder_state, "compressor": compressor_state}
        lats, frames, after = self._steps(sig, states, lengths, length)
        return _result(self.lats_to_toks(lats, lengths=frames), after, return_state)

    def sig_to_codes(
        self,
        sig: Tensor,
        encoder_state: State = (),
        compressor_state: State = (),
        length: Tensor | None = None,
        return_state: bool = False,
        *,
        lengths: Tensor | None = None,
    ) -> Any:
        """Quantize. sig (B, T) -> codes (B, N', L) of +-1/sqrt(L); `lengths` in samples."""
        states = {"encoder": encoder_state, "compressor": compressor_state}
        lats, frames, after = self._steps(sig, states, lengths, length)
        return _result(self._codes(lats, frames, sig), after, return_state)

    def sig_to_qfeats(
        self,
        sig: Tensor,
        encoder_state: State = (),
        compressor_state: State = (),
        decompressor_state: State = (),
        length: Tensor | None = None,
        return_state: bool = False,
        *,
        lengths: Tensor | None = None,
    ) -> Any:
        """Pass the bottleneck. sig (B, T) -> qfeats (B, N'', D); `lengths` in samples."""
        states = {
            "encoder": encoder_state,
            "compressor": compressor_state,
            "decompressor": decompressor_state,
        }
        qfeats, _, after = self._steps(sig, states, lengths, length)
        return _result(qfeats, after, return_state)

    def sig_to_sig(
        self,
        sig: Tensor,
        encoder_state: State = (),
        compressor_state: State = (),
        decompressor_state: State = (),
        decoder_state: State = (),
        length: Tensor | None = None,
        return_state: bool = False,
        *,
        lengths: Tensor | None = None,
    ) -> Any:
        """Resynthesise. sig (B, T) -> rec_sig, of the same duration; `lengths` in samples."""
        states = {
            "encoder": encoder_state,
            "compressor": compressor_state,
            "decompressor": decompressor_state,
            "decoder": decoder_state,
        }
        rec_sig, _, after = self._steps(sig, states, lengths, length)
        return _result(_fit(rec_sig, self._output_samples(sig)), after, return_state)

    def forward(
        self,
        sig: Tensor,
        encoder_state: State = (),
        compressor_state: State = (),
        decompressor_state: State = (),
        decoder_state: State = (),
        length: Tensor | None = None,
        return_state: bool = False,
        *,
        lengths: Tensor | None = None,
    ) -> Any:
        """Resynthesise sig (B, T): toks (B, N'), codes (B, N', L), rec_sig of the same duration.

        `return_state` appends the states of the four parts. With `lengths` (B,) int64 in samples it
        returns rec_sig (B, N'' * hop) and its valid samples instead. A `sig` that requires a
        gradient gets one from codes and rec_sig, straight through the quantizer.
        """
        lats, frames, states = self._steps(
            sig, {"encoder": encoder_state, "compressor": compressor_state}, lengths, length
        )
        codes = self._codes(lats, frames, sig)
        rec_sig, ends, more = self._steps(
            codes, {"decompressor": decompressor_state, "decoder": decoder_state}, frames
        )
        if lengths is not None:
            return rec_sig, ends
        outputs = self.codes_to_toks(codes), codes, _fit(rec_sig, self._output_samples(sig))
        return (*outputs, *states, *more) if return_state else outputs

    def _output_samples(self, sig: Tensor) -> int:
        return sig.shape[-1] * self.sample_rate_output // self.sample_rate_input

    # -- feats -> any ----------------------------------------------------------------------------

    def feats_to_lats(
        self,
        feats: Tensor,
        compressor_state: State = (),
        return_state: bool = False,
        *,
        lengths: Tensor | None = None,
    ) -> Any:
        """Compress. feats (B, N, D) -> lats (B, N', L); `lengths` in frames, as below."""
        lats, _, after = self._steps(feats, {"compressor": compressor_state}, lengths)
        return _result(lats, after, return_state)

    def feats_to_toks(
        self,
        feats: Tensor,
        compressor_state: State = (),
        return_state: bool = False,
        *,
        lengths: Tensor | None = None,
    ) -> Any:
        """Tokenize. feats (B, N, D) -> toks (B, N') int64."""
        lats, frames, after = self._steps(feats, {"compressor": compressor_state}, lengths)
        return _result(self.lats_to_toks(lats, lengths=frames), after, return_state)

    def feats_to_codes(
        self,
        feats: Tensor,
        compressor_state: State = (),
        return_state: bool = False,
        *,
        lengths: Tensor | None = None,
    ) -> Any:
        """Quantize. feats (B, N, D) -> codes (B, N', L)."""
        lats, frames, after = self._steps(feats, {"compressor": compressor_state}, lengths)
        return _result(self._codes(lats, frames, feats), after, return_state)

    def feats_to_qfeats(
        self,
        feats: Tensor,
        compressor_state: State = (),
        decompressor_state: State = (),
        return_state: bool = False,
        *,
        lengths: Tensor | None = None,
    ) -> Any:
        """Pass the bottleneck. feats (B, N, D) -> qfeats (B, N'', D)."""
        states = {"compressor": compressor_state, "decompressor": decompressor_state}
        qfeats, _, after = self._steps(feats, states, lengths)
        return _result(qfeats, after, return_state)

    def feats_to_sig(
        self,
        feats: Tensor,
        decoder_state: State = (),
        matching_set: Tensor | None = None,
        topk: int = 4,
        num_splits: int = 1,
        output_length: int | None = None,
        return_state: bool = False,
        *,
        lengths: Tensor | None = None,
    ) -> Any:
        """Decode. feats or qfeats (B, N, D) -> rec_sig (B, N * hop), or (B, output_length).

        With a `matching_set` (M, D) of another voice's feats, each frame becomes the mean of its
        `topk` nearest frames there.
        """
        if matching_set is not None:
            feats = self.knn(feats, matching_set, topk, num_splits).mean(dim=-2)
        rec_sig, _, after = self._steps(feats, {"decoder": decoder_state}, lengths)
        return _result(_fit(rec_sig, output_length), after, return_state)

    # -- lats, toks, codes -> any ----------------------------------------------------------------

    def lats_to_qfeats(
        self,
        lats: Tensor,
        decompressor_state: State = (),
        return_state: bool = False,
        *,
        lengths: Tensor | None = None,
    ) -> Any:
        """Quantize and decompress. lats (B, N', L) -> qfeats (B, N'', D)."""
        codes = self.lats_to_codes(lats, lengths=lengths)
        return self.codes_to_qfeats(codes, decompressor_state, return_state, lengths=lengths)

    def toks_to_qfeats(
        self,
        toks: Tensor,
        decompressor_state: State = (),
        return_state: bool = False,
        *,
        lengths: Tensor | None = None,
    ) -> Any:
        """Decompress. toks (B, N') int64 -> qfeats (B, N'', D)."""
        codes = self.toks_to_codes(toks, lengths=lengths)
        return self.codes_to_qfeats(codes, decompressor_state, return_state, lengths=lengths)

    def codes_to_qfeats(
        self,
        codes: Tensor,
        decompressor_state: State = (),
        return_state: bool = False,
        *,
        lengths: Tensor | None = None,
    ) -> Any:
        """Decompress. codes (B, N', L) -> qfeats (B, N'', D)."""
        qfeats, _, after = self._steps(codes, {"decompressor": decompressor_state}, lengths)
        return _result(qfeats, after, return_state)

    def toks_to_sig(
        self,
        toks: Tensor,
        decompressor_state: State = (),
        decoder_state: State = (),
        matching_set: Tensor | None = None,
        topk: int = 4,
        num_splits: int = 1,
        output_length: int | None = None,
        return_state: bool = False,
        *,
        lengths: Tensor | None = None,
    ) -> Any:
        """Synthesise. toks (B, N') int64 -> rec_sig (B, N'' * hop); the rest as `feats_to_sig`."""
        codes = self.toks_to_codes(toks, lengths=lengths)
        voice = matching_set, topk, num_splits, output_length, return_state
        return self.codes_to_sig(codes, decompressor_state, decoder_state, *voice, lengths=lengths)

    def codes_to_sig(
        self,
        codes: Tensor,
        decompressor_state: State = (),
        decoder_state: State = (),
        matching_set: Tensor | None = None,
        topk: int = 4,
        num_splits: int = 1,
        output_length: int | None = None,
        return_state: bool = False,
        *,
        lengths: Tensor | None = None,
    ) -> Any:
        """Synthesise. codes (B, N', L) -> rec_sig (B, N'' * hop); the rest as `feats_to_sig`."""
        qfeats, frames, after = self._steps(codes, {"decompressor": decompressor_state}, lengths)
        voice = matching_set, topk, num_splits, output_length
        rec_sig, more = self.feats_to_sig(qfeats, decoder_state, *voice, True, lengths=frames)
        return _result(rec_sig, [*after, more], return_state)

    # -- others ----------------------------------------------------------------------------------

    def knn(
        self, input: Tensor, matching_set: Tensor, topk: int = 4, num_splits: int = 1
    ) -> Tensor:
        """The `topk` nearest frames of a set (M, D), by cosine: (..., D) -> (..., topk, D).

        There are M if `topk` is larger. Memory is bounded, so `num_splits` has no effect.
        """
        k = min(topk, len(matching_set))
        found = nearest_frames(input.flatten(end_dim=-2), matching_set, k)
        return take_frames(matching_set, found).reshape(*input.shape[:-1], k, -1)

    def jit(self, classes: Sequence[type[nn.Module]] | None = None) -> OfficialCodec:
        """Copy with scripted parts, or with scripted modules of `classes`.

        A module that can't be scripted stays as it is, with a warning.
        """
        codec = copy.deepcopy(self)
        pending: list[nn.Module] = [codec]
        while pending:
            parent = pending.pop()
            for name, child in parent.named_children():
                if classes is None or isinstance(child, tuple(classes)):
                    setattr(parent, name, _script(name, child))
                else:
                    pending.append(child)
        return codec

    def onnx(
        self,
        f: Any,
        batch_size: int | None = None,
        chunk_size: int | None = None,
        return_state: bool = False,
        **kwargs: Any,
    ) -> None:
        """Export to ONNX, which `focalcodec.onnx.export_onnx` does here: a `UserError`."""
        raise UserError(
            "onnx: call focalcodec.onnx.export_onnx(codec, folder); its graphs take any batch and"
            " length"
        )


def _script(name: str, module: nn.Module) -> Any:
    try:
        return torch.jit.script(module)
    # of any kind: the module then works as before, slower
    except Exception as error:
        kind = type(module).__name__
        warnings.warn(f"{name} ({kind}) is not scripted: {one_line(error)}", stacklevel=3)
        return module


def _result(output: Tensor, states: Sequence[State], return_state: bool) -> Any:
    return (output, *states) if return_state else output


def _fit(rec_sig: Tensor, samples: int | None) -> Tensor:
    """Cut rec_sig (B, T), or repeat its last sample, so that T is `samples`."""
    missing = 0 if samples is None else samples - rec_sig.shape[1]
    if missing > 0:
        return nn.functional.pad(rec_sig[:, None], (0, missing), mode="replicate")[:, 0]
    return rec_sig[:, :samples]
