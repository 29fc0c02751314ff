"""Voice conversion: the words of one recording in the voice of another, without training.

Each frame of the source's qfeats gives way to the mean of its k nearest frames (cosine) among the
continuous feats of the reference speaker, and the decoder speaks the result (arXiv 2502.04465,
section on voice conversion; kNN-VC, arXiv 2305.18975).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from focalcodec.audio import resample, resampled_length
from focalcodec.codec import FocalCodec
from focalcodec.conversion.nearest import check_k, take_frames
from focalcodec.conversion.reference_set import ReferenceSet
from focalcodec.errors import UserError
from focalcodec.long_audio.coding import WINDOW_SECONDS, decode_blocks
from focalcodec.nn.masking import fit_lengths, full_lengths, valid_mask

# Frames whose neighbours are looked up at once: 256 x 4 of 1024 values are 4 MB.
AVERAGED_AT_ONCE = 256


@torch.no_grad()
def convert(
    codec: FocalCodec,
    sig: Tensor,
    reference: ReferenceSet | Tensor,
    sample_rate: int | None = None,
    lengths: Tensor | None = None,
    k: int = 4,
    sample_rate_output: int | None = None,
    search: str = "exact",
) -> Tensor:
    """Say what `sig` says in the reference's voice; `FocalCodec.convert` tells the rest.

    Example
    -------
    >>> from focalcodec.bsq import BinarySphericalQuantizer
    >>> from focalcodec.focalnet import FocalDecoder, FocalEncoder
    >>> from focalcodec.encoders.logmel import LogMel
    >>> from focalcodec.vocos import Vocos
    >>> parts = [LogMel(), FocalEncoder(80, 3, [8], [1]), BinarySphericalQuantizer(8)]
    >>> codec = FocalCodec(*parts, FocalDecoder(3, 80, [8], [1]), Vocos(80, 1, 8, 8)).eval()
    >>> reference = ReferenceSet.from_sigs(codec, [torch.randn(16000), torch.randn(9000)])
    >>> codec.convert(torch.randn(1, 4001), reference).shape
    torch.Size([1, 4001])
    """
    reference = _reference_for(codec, reference, k)
    rate = codec.sample_rate_input if sample_rate is None else sample_rate
    out_rate = codec.sample_rate_output if sample_rate_output is None else sample_rate_output
    toks, tok_lengths = codec.encode(sig, rate, lengths)
    # each clip alone: which frames are nearest may hang on the last bit, which padding changes
    clips = [
        codec.toks_to_qfeats(clip[None, :end])[0]
        for clip, end in zip(toks, tok_lengths.tolist(), strict=True)
    ]
    qfeats = pad_sequence(clips, batch_first=True)
    frames = tok_lengths.new_tensor([len(clip) for clip in clips])
    feats = convert_feats(qfeats, frames, reference, k, search)
    rec_sig, ends = codec.decoder(feats, frames)
    rec_sig, _ = resample(rec_sig, codec.sample_rate_output, out_rate, ends)
    samples = (full_lengths(sig) if lengths is None else lengths).tolist()
    wanted = torch.tensor([resampled_length(n, rate, out_rate) for n in samples])
    return fit_lengths(rec_sig, wanted.to(rec_sig.device))


@torch.no_grad()
def convert_feats(
    qfeats: Tensor,
    lengths: Tensor | None,
    reference: ReferenceSet | Tensor,
    k: int = 4,
    search: str = "exact",
) -> Tensor:
    """Replace each frame by the mean of its k nearest frames of the reference.

    Parameters
    ----------
    qfeats : Tensor
        (B, N, D) float; feats do as well.
    lengths : Tensor, optional
        (B,) int64, frames of each clip; default all.
    reference : ReferenceSet or Tensor
        The wanted speaker's frames; a Tensor is (R, D).
    k : int
        Neighbours, 1..R: 4 in the paper.
    search : {"exact", "faiss"}
        How they are found.

    Returns
    -------
    Tensor
        (B, N, D) of the dtype and on the device of `qfeats`, zero beyond a clip's length.

    Raises
    ------
    UserError
        Widths differ, k is not in 1..R, or valid frames are NaN or infinite.

    Example
    -------
    >>> convert_feats(torch.tensor([[[0.9, 0.1], [0.2, 0.7]]]), None, 2 * torch.eye(2), k=1)
    tensor([[[2., 0.],
             [0., 2.]]])
    """
    if isinstance(reference, Tensor):
        reference = ReferenceSet(reference)
    if qfeats.shape[2] != reference.feats.shape[1]:
        raise UserError(
            f"qfeats: {qfeats.shape[2]} values a frame, the reference has"
            f" {reference.feats.shape[1]}; make it with this codec"
        )
    lengths = full_lengths(qfeats) if lengths is None else lengths.to(qfeats.device)
    mask = valid_mask(lengths, qfeats.shape[1])
    queries = qfeats[mask]
    if not bool(torch.isfinite(queries).all()):
        raise UserError("qfeats: NaN or infinite frames; use a higher precision")
    nearest = reference.nearest(queries, k, search)
    means = [
        take_frames(reference.feats, some).float().mean(dim=1)
        for some in nearest.split(AVERAGED_AT_ONCE)
    ]
    converted = torch.zeros_like(qfeats)
    converted[mask] = torch.cat(means).to(qfeats)
    return converted


def convert_toks(
    codec: FocalCodec,
    toks: Tensor,
    reference: ReferenceSet | Tensor,
    num_samples: int,
    sample_rate: int | None = None,
    k: int = 4,
    search: str = "exact",
    window_seconds: float = WINDOW_SECONDS,
) -> Iterator[Tensor]:
    """Say what tokens say in the reference's voice: a recording of any length, in bounded memory.

    Parameters
    ----------
    codec : FocalCodec
        In eval mode.
    toks : Tensor
        (N,) integer, such as those of `encode_blocks`.
    reference : ReferenceSet or Tensor
        The wanted speaker's frames.
    num_samples : int
        Samples to give back at `sample_rate`.
    sample_rate : int, optional
        Rate of the output, Hz; default `codec.sample_rate_output`.
    k, search
        See `convert_feats`.
    window_seconds : float
        Length of a window. What fits one is converted as `FocalCodec.convert` does.

    Yields
    ------
    Tensor
        rec_sig (T,) float32, on the CPU.

    Raises
    ------
    UserError
        Not toks; a reference of another encoder, or of fewer than k frames; a window that is
        shorter than the model's context.
    """
    change = feats_changer(codec, reference, k, search)
    return decode_blocks(codec, toks, num_samples, sample_rate, window_seconds, change)


def feats_changer(
    codec: FocalCodec, reference: ReferenceSet | Tensor, k: int = 4, search: str = "exact"
) -> Callable[[Tensor], Tensor]:
    """Voice conversion as `decode_blocks` takes it, checked before the first second of work.

    Parameters
    ----------
    codec : FocalCodec
        In eval mode.
    reference, k, search
        See `convert_feats`.

    Returns
    -------
    callable
        qfeats (n, D) -> feats (n, D).

    Raises
    ------
    UserError
        A reference of another encoder, or of fewer than k frames.
    """
    reference = _reference_for(codec, reference, k)

    def change(qfeats: Tensor) -> Tensor:
        return convert_feats(qfeats[None], None, reference, k, search)[0]

    return change


def _reference_for(codec: FocalCodec, reference: ReferenceSet | Tensor, k: int) -> ReferenceSet:
    """Check all that can be checked before the first second of work."""
    reference = ReferenceSet(reference) if isinstance(reference, Tensor) else reference
    check_k(k, len(reference))
    reference.check_codec(codec)
    return reference
