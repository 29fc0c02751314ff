"""Features of a frozen encoder: computed once for each clip, then read from disk."""

from __future__ import annotations

import hashlib
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from focalcodec.audio import Channels, resample
from focalcodec.data.clips import Span, read_clip
from focalcodec.encoders import Encoder
from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.hub.fingerprint import tensors_sha256

if TYPE_CHECKING:
    from focalcodec.data.dataset import AudioBatch

DTYPES = {"float32": torch.float32, "float16": torch.float16}


@torch.no_grad()
def batch_feats(
    encoder: Encoder,
    batch: AudioBatch,
    cache: FeatureCache | None = None,
    sample_rate: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Features (B, N, D), zero-padded, and frames (B,) int64 of a batch or its `mixture`.

    The encoder is frozen, in eval mode, (sig, lengths) -> (feats, lengths), and on the batch's
    device. The sig has `sample_rate` Hz, None is the encoder's rate; another one is resampled as
    the file would be. New features go to the cache. A batch with one clip that is not cached is
    encoded as a whole. So a run that was killed while it filled the cache gives the same bits when
    resumed.
    """
    cached = [x for x in batch.feats if x is not None]
    if len(cached) == len(batch):
        return pad_feats(cached)
    sig, lengths = batch.sig, batch.lengths  # (B, T), (B,)
    if bool((lengths == 0).any()):
        clips = zip(batch.wav, batch.span, batch.channels, strict=True)
        whole = [
            read_clip(wav, encoder.sample_rate, span, channels) for wav, span, channels in clips
        ]
        sig, lengths = (x.to(batch.sig.device) for x in pad_feats(whole))
    elif sample_rate not in (None, encoder.sample_rate):
        sig, lengths = resample(sig, sample_rate, encoder.sample_rate, lengths)
    feats, frames = encoder(sig, lengths=lengths)  # (B, N, D), (B,)
    if cache is None:
        return feats, frames
    ends = zip(batch.wav, feats, frames.tolist(), batch.span, batch.channels, strict=True)
    return pad_feats([cache.put(wav, x[:end], span, mix) for wav, x, end, span, mix in ends])


def pad_feats(feats: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Join (N, D) features of clips: (B, N, D), zero-padded, and lengths (B,) int64."""
    lengths = torch.tensor([len(x) for x in feats], dtype=torch.int64, device=feats[0].device)
    return torch.nn.utils.rnn.pad_sequence(list(feats), batch_first=True), lengths


class FeatureCache:
    """Features of clips on disk: one file per clip, in one folder per encoder.

    The key of a clip is its file's path, size and time of change, and its part of the file. If an
    entry can't be read or has a wrong checksum, it counts as missing.

    Parameters
    ----------
    folder : str or path
        Folder of the cache; several encoders and runs may share it.
    encoder : nn.Module
        Frozen encoder with `sample_rate`, `hop`, `dim` and `config`.
    dtype : {"float32", "float16"}
        On disk. float16 needs half the space and rounds to 11 bits. Others raise `UserError`.
    options : mapping, optional
        Everything else that changes the features, JSON-ready, e.g. precision and channel policy.

    Example
    -------
    >>> import tempfile
    >>> from focalcodec.encoders.logmel import LogMel
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     wav = Path(folder) / "a.wav"
    ...     _ = wav.write_bytes(b"audio")
    ...     cache = FeatureCache(folder, LogMel())
    ...     _ = cache.put(wav, torch.ones(2, 3))
    ...     cache.get(wav)
    tensor([[1., 1., 1.],
            [1., 1., 1.]])
    """

    def __init__(
        self,
        folder: str | Path,
        encoder: Encoder,
        dtype: str = "float32",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise UserError(f"cache dtype={dtype!r}: not one of {', '.join(DTYPES)}")
        self.dtype = dtype
        self.sample_rate, self.hop, self.dim = encoder.sample_rate, encoder.hop, encoder.dim
        key = encoder_key(encoder, {**(options or {}), "cache_dtype": dtype})
        self.folder = Path(folder).expanduser() / key[:16]

    def get(
        self, wav: str | Path, span: Span | None = None, channels: Channels = "error"
    ) -> Tensor | None:
        """Return the features of a clip, (N, D) float32; None if there is no valid entry.

        `span` is the part of the file that is the clip (default all of it), `channels` how several
        channels were read.
        """
        try:
            with safe_open(self._entry(wav, span, channels), framework="pt") as file:
                feats = file.get_tensor("feats")
                intact = (file.metadata() or {}).get("crc32") == _crc32(feats)
        except (OSError, SafetensorError):
            return None
        return feats.float() if intact else None

    def put(
        self,
        wav: str | Path,
        feats: Tensor,
        span: Span | None = None,
        channels: Channels = "error",
    ) -> Tensor:
        """Store a clip's features (N, D), without padding; `span` and `channels` as in `get`.

        Returns the same values as `get`, float32 rounded to `dtype`, on the device of the features,
        so that the epoch that fills the cache has the same input as later ones.
        """
        stored = feats.detach().to("cpu", DTYPES[self.dtype]).contiguous()
        with atomic_path(self._entry(wav, span, channels)) as temporary:
            save_file({"feats": stored}, temporary, {"crc32": _crc32(stored)})
        return stored.float().to(feats.device)

    def describe_cost(self, seconds: float) -> str:
        """Return one line on the disk space for so many seconds of audio: size, folder, free space.

        Raises `UserError` if the features do not fit on the disk; cached ones are counted too.
        """
        needed = cache_bytes(seconds, self.sample_rate, self.hop, self.dim, self.dtype)
        place = self.folder
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        stored = sum(path.stat().st_size for path in self.folder.glob("*/*.safetensors"))
        line = (
            f"feature cache: {seconds / 3600:.2f} h x {self.sample_rate / self.hop:g} frames/s x"
            f" {self.dim} x {self.dtype} = {needed / 1e9:.3f} GB in {self.folder},"
            f" {stored / 1e9:.3f} GB there, {free / 1e9:.1f} GB free"
        )
        if needed - stored > free:
            raise UserError(f"{line}; too much: use float16, another folder, or no cache")
        return line

    def _entry(self, wav: str | Path, span: Span | None, channels: Channels) -> Path:
        path = Path(wav).absolute()
        status = path.stat()
        clip = (str(path), status.st_size, status.st_mtime_ns, *(span or ()))
        # "mix" and "error" share entries: they agree on mono files, and "error" has no others.
        if channels == "first":
            clip = (*clip, channels)
        name = hashlib.sha256(repr(clip).encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"


def encoder_key(encoder: Encoder, options: Mapping[str, Any] | None = None) -> str:
    """Return a digest (64 hexadecimal digits) of everything that shapes an encoder's features.

    That is its class, `config`, weights, and `options` (JSON-ready, e.g. precision).
    """
    head = [type(encoder).__name__, dict(encoder.config), dict(options or {})]
    return tensors_sha256(head, encoder.state_dict())


def cache_bytes(seconds: float, sample_rate: int, hop: int, dim: int, dtype: str) -> int:
    """Bytes of the features of so much audio, for an encoder's rate (Hz), hop and width."""
    return round(seconds * sample_rate / hop * dim * DTYPES[dtype].itemsize)


def _crc32(tensor: Tensor) -> str:
    return str(zlib.crc32(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()))
