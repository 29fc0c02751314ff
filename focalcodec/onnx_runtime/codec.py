"""The methods of a codec with NumPy arrays."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from focalcodec.errors import UserError
from focalcodec.onnx_runtime.bundle import Array, Bundle, full_lengths
from focalcodec.onnx_runtime.knn import convert_feats


class OnnxCodec:
    """Audio to tokens and back with the graphs of a bundle; the methods are those of `FocalCodec`.

    Arrays are batch first, time second. `lengths`, always by name, are (B,) integers: the valid
    samples, tokens or frames of each clip. With them the output is zero on padded positions, and a
    clip gives the same alone and in a padded batch. `length`, as in the official package, are the
    same as parts of the longest, 0 to 1.

    Example
    -------
    >>> OnnxCodec.from_pretrained("no/such")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: no/such: no folder with onnx.json; make one with focalcodec export\
 CODEC no/such --format onnx
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        about = bundle.about
        self.model_id: str = about["model"]
        self.weights_sha256: str = about["weights_sha256"]
        self.sample_rate_input: int = about["sample_rate_input"]
        self.sample_rate_output: int = about["sample_rate_output"]
        self.hop_length: int = about["hop_length"]  # samples of the input for each token
        self.codebook_size: int = about["codebook_size"]
        self.bits_per_token: int = about["bits_per_token"]
        self.causal: bool = bool(about.get("causal"))

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], *, threads: int = 0) -> OnnxCodec:
        """Codec of a bundle; `threads` of the processor it may use, 0 is all.

        Raises a `UserError` if the folder is no bundle, or a file of it is damaged.
        """
        return cls(Bundle(folder, threads))

    @property
    def token_rate(self) -> float:
        """Tokens per second."""
        return self.sample_rate_input / self.hop_length

    # -- steps -----------------------------------------------------------------------------------

    def sig_to_toks(
        self, sig: npt.ArrayLike, length: npt.ArrayLike | None = None, *, lengths: Any = None
    ) -> Array:
        """Tokenize. sig (B, T), float at `sample_rate_input` -> toks (B, N') int64."""
        return self.encode(sig, lengths=_exact(length, lengths, np.shape(sig)))[0]

    def sig_to_feats(
        self, sig: npt.ArrayLike, length: npt.ArrayLike | None = None, *, lengths: Any = None
    ) -> Array:
        """Encode. sig (B, T) -> feats (B, N, D)."""
        return self._encode(sig, _exact(length, lengths, np.shape(sig)))[0]

    def toks_to_qfeats(
        self, toks: npt.ArrayLike, length: npt.ArrayLike | None = None, *, lengths: Any = None
    ) -> Array:
        """Decompress. toks (B, N') integers -> qfeats (B, N, D)."""
        return self._decompress(toks, _exact(length, lengths, np.shape(toks)))[0]

    def feats_to_sig(
        self, feats: npt.ArrayLike, length: npt.ArrayLike | None = None, *, lengths: Any = None
    ) -> Array:
        """Decode. feats or qfeats (B, N, D) -> rec_sig (B, T)."""
        given = _floats("feats", feats, 3)
        if given.shape[2] != self.bundle.about["dim"]:
            raise UserError(
                f"feats: {given.shape[2]} values a frame, the decoder takes"
                f" {self.bundle.about['dim']}; make them with this codec"
            )
        return self._decode(given, _exact(length, lengths, given.shape))[0]

    def toks_to_sig(
        self, toks: npt.ArrayLike, length: npt.ArrayLike | None = None, *, lengths: Any = None
    ) -> Array:
        """Synthesise. toks (B, N') integers -> rec_sig (B, T)."""
        qfeats, ends = self._decompress(toks, _exact(length, lengths, np.shape(toks)))
        return self._decode(qfeats, ends)[0]

    # -- batches ---------------------------------------------------------------------------------

    def encode(self, sig: npt.ArrayLike, *, lengths: Any = None) -> tuple[Array, Array]:
        """Audio (B, T) to toks (B, N') int64, and the tokens of each clip (B,)."""
        _, _, toks, ends = self._encode(sig, lengths)
        return toks, ends

    def decode(self, toks: npt.ArrayLike, *, lengths: Any = None) -> tuple[Array, Array]:
        """Toks (B, N') to rec_sig (B, T), and the samples of each clip (B,)."""
        rec_sig, ends = self._decode(*self._decompress(toks, lengths))
        return rec_sig, ends

    def convert(
        self, sig: npt.ArrayLike, reference: npt.ArrayLike, *, lengths: Any = None, k: int = 4
    ) -> Array:
        """Voice conversion: sig (B, T) with the voice of reference feats (R, D), rec_sig (B, T').

        Each frame of the qfeats becomes the mean of its `k` nearest frames of the reference, by
        cosine (arXiv 2305.18975).
        """
        frames = _floats("reference", reference, 2)
        toks, ends = self.encode(sig, lengths=lengths)
        qfeats, ends = self._decompress(toks, ends)
        return self._decode(convert_feats(qfeats, ends, frames, k), ends)[0]

    # -- graphs ----------------------------------------------------------------------------------

    def _encode(self, sig: npt.ArrayLike, lengths: Any) -> tuple[Array, Array, Array, Array]:
        """Feats, frames, toks and their number."""
        given = _floats("sig", sig, 2)
        inputs = {"sig": given, "lengths": _lengths(lengths, given, "samples")}
        feats, frames, toks, ends = self.bundle.run("encoder", inputs)
        return feats[:, : frames.max()], frames, toks[:, : ends.max()], ends

    def _decompress(self, toks: npt.ArrayLike, lengths: Any) -> tuple[Array, Array]:
        given = np.asarray(toks)
        if given.ndim != 2 or not given.size or given.dtype.kind not in "iu":
            raise UserError(
                f"toks: shape {given.shape} {given.dtype}; give integers (batch, tokens), not empty"
            )
        low, high = int(given.min()), int(given.max())
        if low < 0 or high >= self.codebook_size:
            raise UserError(
                f"token {low if low < 0 else high}: this codec's tokens are in"
                f" [0, {self.codebook_size}); were they made by this codec?"
            )
        inputs = {"toks": given.astype(np.int64), "lengths": _lengths(lengths, given, "tokens")}
        qfeats, ends = self.bundle.run("decompressor", inputs)
        return qfeats, ends

    def _decode(self, feats: Array, lengths: Any) -> tuple[Array, Array]:
        inputs = {"feats": feats, "lengths": _lengths(lengths, feats, "frames")}
        rec_sig, ends = self.bundle.run("decoder", inputs)
        return rec_sig, ends


def _floats(name: str, value: npt.ArrayLike, dims: int) -> Array:
    """Values as float32; a `UserError` for another shape or type, NaN and infinite values."""
    given = np.asarray(value)
    if given.ndim != dims or not given.size or given.dtype.kind != "f":
        shape = "(batch, samples)" if name == "sig" else f"{dims} axes"
        raise UserError(f"{name}: shape {given.shape} {given.dtype}; give floats, {shape}")
    if not np.isfinite(given).all():
        raise UserError(f"{name}: NaN or infinite values; remove or repair them")
    return np.ascontiguousarray(given, dtype=np.float32)


def _lengths(lengths: Any, x: Array, unit: str) -> Array:
    """Lengths (B,) int64 in 1..T of a batch x (B, T, ...); None is all."""
    if lengths is None:
        return full_lengths(x)
    given = np.asarray(lengths)
    if given.shape != (len(x),) or given.dtype.kind not in "iu":
        raise UserError(
            f"lengths: {given.dtype} {given.shape}; give integers ({len(x)},), in {unit}"
        )
    if (given < 1).any() or (given > x.shape[1]).any():
        raise UserError(f"lengths: {given.tolist()}; each must be in 1..{x.shape[1]}")
    return given.astype(np.int64)


def _exact(length: npt.ArrayLike | None, lengths: Any, shape: tuple[int, ...]) -> Any:
    """Valid items (B,) of relative or exact lengths of a batch of this shape; None is all."""
    if length is None:
        return lengths
    given = np.asarray(length)
    if lengths is not None or given.dtype.kind != "f" or given.shape != shape[:1]:
        raise UserError(
            f"length: {given.dtype} {given.shape}; give 0.0 to 1.0 of the longest for each clip, or"
            " lengths="
        )
    size = shape[1]
    return np.clip(np.ceil(given * size).astype(np.int64), 1, size)
