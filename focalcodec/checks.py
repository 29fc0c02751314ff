"""What may be encoded and decoded: checks of sig, toks and the number of samples to give back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from focalcodec.audio import resampled_length
from focalcodec.errors import UserError
from focalcodec.nn.masking import full_lengths


def check_sig(sig: Tensor) -> None:
    """Refuse what no encoder hears.

    Parameters
    ----------
    sig : Tensor
        (B, T) float.

    Raises
    ------
    UserError
        `sig` is not (B, T) of floats with at least one sample.

    Example
    -------
    >>> check_sig(torch.zeros(16000))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: sig: (16000,) torch.float32; give floats of shape (batch,...
    """
    if sig.dim() != 2 or sig.shape[1] == 0 or not sig.is_floating_point():
        raise UserError(
            f"sig: {tuple(sig.shape)} {sig.dtype}; give floats of shape (batch, samples), "
            "at least one sample"
        )


def check_toks(toks: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Refuse what is not a batch of toks; their range is the quantizer's to check.

    Parameters
    ----------
    toks : Tensor
        (B, N') integer.
    lengths : Tensor, optional
        (B,) int64, tokens of each clip; default all.

    Returns
    -------
    Tensor
        (B,) int64, tokens of each clip.

    Raises
    ------
    UserError
        `toks` are not (B, N'), empty, or not integers; `lengths` do not fit them.

    Example
    -------
    >>> check_toks(torch.zeros(2, 5, dtype=torch.int64))
    tensor([5, 5])
    """
    if toks.dim() != 2 or toks.numel() == 0:
        raise UserError(f"toks: shape {tuple(toks.shape)}; give (batch, tokens), not empty")
    if toks.is_floating_point() or toks.is_complex() or toks.dtype == torch.bool:
        raise UserError(f"toks: {toks.dtype}; give integers, e.g. torch.int64")
    if lengths is None:
        return full_lengths(toks)
    if lengths.shape != toks.shape[:1] or lengths.dtype != torch.int64:
        raise UserError(
            f"lengths: {lengths.dtype} {tuple(lengths.shape)}; give int64 ({len(toks)},), in tokens"
        )
    if bool((lengths < 1).any()) or bool((lengths > toks.shape[1]).any()):
        raise UserError(f"lengths: {lengths.tolist()}; each must be in 1..{toks.shape[1]}")
    return lengths


def check_num_samples(
    codec: Any, num_samples: int | Tensor, lengths: Tensor, sample_rate: int
) -> Tensor:
    """Refuse a number of samples that these tokens were not made of.

    Parameters
    ----------
    codec : FocalCodec
        Codec of the tokens.
    num_samples : int or Tensor
        Samples that went into `encode`, one number or (B,) int64.
    lengths : Tensor
        (B,) int64, tokens of each clip.
    sample_rate : int
        Rate of `num_samples`, Hz.

    Returns
    -------
    Tensor
        (B,) int64, samples of each clip.

    Raises
    ------
    UserError
        Not int64 of the right shape, below 1, or more than the tokens last.
    """
    wanted = torch.as_tensor(num_samples, device=lengths.device)
    if wanted.dtype != torch.int64 or wanted.shape not in ((), lengths.shape):
        raise UserError(
            f"num_samples: {wanted.dtype} {tuple(wanted.shape)}; give an int or int64"
            f" ({len(lengths)},)"
        )
    wanted = wanted.expand_as(lengths)
    heard = [resampled_length(n, sample_rate, codec.sample_rate_input) for n in wanted.tolist()]
    frames = codec.encoder.output_lengths(torch.tensor(heard, device=lengths.device))
    toks = codec.compressor.output_lengths(frames)
    if bool((toks > lengths).any()) or bool((wanted < 1).any()):
        raise UserError(
            f"num_samples: {wanted.tolist()} at {sample_rate} Hz make {toks.tolist()} tokens, and"
            f" there are {lengths.tolist()}; give the number that went into encode"
        )
    return wanted
