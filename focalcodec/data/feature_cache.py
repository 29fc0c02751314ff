"""Features of a frozen encoder, kept on disk between epochs."""

from __future__ import annotations

import hashlib
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from focalcodec.audio import Channels
from focalcodec.data.batch import Span
from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.hub.fingerprint import tensors_sha256

DTYPES = {"float32": torch.float32, "float16": torch.float16}


class _Encoder(Protocol):
    """What the cache must know of an encoder."""

    sample_rate: int
    hop: int
    dim: int

    @property
    def config(self) -> Mapping[str, Any]: ...

    def state_dict(self) -> Mapping[str, Tensor]: ...


def encoder_key(encoder: _Encoder, options: Mapping[str, Any] | None = None) -> str:
    """Digest of all that shapes an encoder's features: class, configuration, weights, options.

    Parameters
    ----------
    encoder : nn.Module
        With `config`.
    options : mapping, optional
        Whatever else changes them, JSON-ready, e.g. precision and channel policy.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    head = [type(encoder).__name__, dict(encoder.config), dict(options or {})]
    return tensors_sha256(head, encoder.state_dict())


def cache_bytes(seconds: float, sample_rate: int, hop: int, dim: int, dtype: str) -> int:
    """Bytes that the features of so much audio take.

    Parameters
    ----------
    seconds : float
        Audio.
    sample_rate, hop, dim : int
        The encoder's: Hz, samples, and width of the features.
    dtype : str
        One of `DTYPES`.

    Returns
    -------
    int
        Bytes.

    Example
    -------
    >>> cache_bytes(585 * 3600, 16000, 320, 1024, "float32") / 1e9
    431.3088
    """
    return round(seconds * sample_rate / hop * dim * DTYPES[dtype].itemsize)


class FeatureCache:
    """Features of clips on disk: one file a clip, in a folder for each encoder.

    A clip is known by its file's path, size and time of change, and by its part of the file; an
    entry that can't be read, or whose checksum is wrong, counts as not there.

    Parameters
    ----------
    folder : str or path
        Of the cache; several encoders and runs may share it.
    encoder : nn.Module
        Frozen encoder with `sample_rate`, `hop`, `dim` and `config`.
    dtype : {"float32", "float16"}
        On disk. float16 takes half the space and rounds to 11 bits.
    options : mapping, optional
        Whatever else changes the features, JSON-ready, e.g. precision and channel policy.

    Raises
    ------
    UserError
        `dtype` is neither.

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
        encoder: _Encoder,
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
        """Features of a clip, (N, D) float32; None when the cache has no sound entry.

        Parameters
        ----------
        wav : str or path
            File of the clip.
        span : (int, int), optional
            Part of the file that is the clip; default all of it.
        channels : {"error", "mix", "first"}
            What was done with several channels.
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
        """Keep a clip's features.

        Parameters
        ----------
        wav : str or path
            File of the clip.
        feats : Tensor
            (N, D), without padding.
        span : (int, int), optional
            Part of the file that is the clip; default all of it.
        channels : {"error", "mix", "first"}
            What was done with several channels.

        Returns
        -------
        Tensor
            (N, D) float32 as `get` will give it, on the device of `feats`: rounded, so that the
            epoch that fills the cache sees what the later ones see.
        """
        stored = feats.detach().to("cpu", DTYPES[self.dtype]).contiguous()
        with atomic_path(self._entry(wav, span, channels)) as temporary:
            save_file({"feats": stored}, temporary, {"crc32": _crc32(stored)})
        return stored.float().to(feats.device)

    def describe_cost(self, seconds: float) -> str:
        """One line on the space that a corpus takes, to be shown before a run fills it.

        Parameters
        ----------
        seconds : float
            Audio in the corpus.

        Returns
        -------
        str
            Sentence with size, folder and free space.

        Raises
        ------
        UserError
            More than is free, what is cached already counted in.
        """
        need = cache_bytes(seconds, self.sample_rate, self.hop, self.dim, self.dtype)
        place = self.folder
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        held = sum(path.stat().st_size for path in self.folder.glob("*/*.safetensors"))
        line = (
            f"feature cache: {seconds / 3600:.2f} h x {self.sample_rate / self.hop:g} frames/s x"
            f" {self.dim} x {self.dtype} = {need / 1e9:.3f} GB in {self.folder},"
            f" {held / 1e9:.3f} GB there, {free / 1e9:.1f} GB free"
        )
        if need - held > free:
            raise UserError(f"{line}; too much: use float16, another folder, or no cache")
        return line

    def _entry(self, wav: str | Path, span: Span | None, channels: Channels) -> Path:
        path = Path(wav).absolute()
        status = path.stat()
        clip = (str(path), status.st_size, status.st_mtime_ns, *(span or ()))
        if channels == "first":  # mix and error are one: of a mono file, and error has no other
            clip = (*clip, channels)
        name = hashlib.sha256(repr(clip).encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"


def pad_feats(feats: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Join features of several clips.

    Parameters
    ----------
    feats : sequence of Tensor
        (N, D) each.

    Returns
    -------
    feats : Tensor
        (B, N, D), zero beyond a clip's length.
    lengths : Tensor
        (B,) int64, frames of each clip.

    Example
    -------
    >>> feats, lengths = pad_feats([torch.ones(2, 4), torch.ones(3, 4)])
    >>> feats.shape, lengths
    (torch.Size([2, 3, 4]), tensor([2, 3]))
    """
    lengths = torch.tensor([len(x) for x in feats], dtype=torch.int64, device=feats[0].device)
    return torch.nn.utils.rnn.pad_sequence(list(feats), batch_first=True), lengths


def _crc32(tensor: Tensor) -> str:
    return str(zlib.crc32(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()))
