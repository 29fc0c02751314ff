"""What voice conversion knows of a speaker: frames of continuous features, kept for use again."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from focalcodec import __version__
from focalcodec.audio import Channels, resample, validate_sig
from focalcodec.codec import FocalCodec
from focalcodec.conversion.encoder_identity import FORMATS, check_same_encoder, encoder_identity
from focalcodec.conversion.nearest import nearest_frames
from focalcodec.conversion.nearest_faiss import FaissIndex
from focalcodec.conversion.reference_feats import check_not_short, read_feats
from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.long_audio.coding import WINDOW_SECONDS, feats_blocks

DTYPES = {"float32": torch.float32, "float16": torch.float16}
SEARCHES = ("exact", "faiss")
FORMAT = "focalcodec-reference-1"


@dataclass(eq=False)
class ReferenceSet:
    """Frames of a speaker, among which voice conversion looks for the nearest.

    Make one with `from_sigs`, `from_files`, `load` or `merge`; from bare feats it can be made
    too, and then nothing is known of where they come from.

    Parameters
    ----------
    feats : Tensor
        (N, D) float, continuous feats without padding.
    encoder : dict
        `encoder_identity` of the encoder that made them; empty when it is not known.
    sample_rate : int
        Rate that the encoder heard, Hz; 0 when it is not known.
    seconds : float
        Audio that they were made of.
    files : tuple of str
        Names of the files that they were made of.
    version : str
        Of this package, when they were made.

    Raises
    ------
    UserError
        Not (N, D), no frames, NaN or infinite.

    Example
    -------
    >>> reference = ReferenceSet(torch.eye(3))
    >>> reference.nearest(torch.tensor([[0.1, 1.0, 0.2]]), k=2)
    tensor([[1, 2]])
    """

    feats: Tensor
    encoder: dict[str, str] = field(default_factory=dict)
    sample_rate: int = 0
    seconds: float = 0.0
    files: tuple[str, ...] = ()
    version: str = __version__

    def __post_init__(self) -> None:
        shape = tuple(self.feats.shape)
        if len(shape) != 2 or 0 in shape or not self.feats.is_floating_point():
            raise UserError(
                f"reference: {self.feats.dtype} {shape}; give float feats (frames, features), with"
                " at least one frame"
            )
        # a block at a time: an hour's frames are not all in memory when they come from a file
        if not all(bool(torch.isfinite(block).all()) for block in self.feats.split(4096)):
            raise UserError("reference: NaN or infinite feats; with float16, use float32")
        self._known: weakref.ref[Any] | None = None
        self._index: FaissIndex | None = None

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.feats)

    # -- making one ------------------------------------------------------------------------------

    @classmethod
    def from_sigs(
        cls,
        codec: FocalCodec,
        sigs: Sequence[Tensor],
        sample_rate: int | None = None,
        dtype: str = "float32",
        window_seconds: float = WINDOW_SECONDS,
    ) -> ReferenceSet:
        """Encode signals of one speaker.

        Parameters
        ----------
        codec : FocalCodec
            In eval mode.
        sigs : sequence of Tensor
            (T,) float each, mono, about [-1, 1].
        sample_rate : int, optional
            Their rate, Hz; default `codec.sample_rate_input`.
        dtype : {"float32", "float16"}
            How the frames are kept: float16 takes half the space.
        window_seconds : float
            A longer signal goes through the encoder in windows of this length.

        Returns
        -------
        ReferenceSet
            On the CPU.

        Raises
        ------
        UserError
            No signals, or one that is not (T,), too short, NaN or infinite; no such dtype.
        """
        rate = codec.sample_rate_input if sample_rate is None else sample_rate
        feats, seconds = [], 0.0
        for index, sig in enumerate(sigs):
            if sig.dim() != 1:
                raise UserError(f"reference {index}: shape {tuple(sig.shape)}; give (samples,)")
            validate_sig(sig[None])
            heard = resample(sig[None], rate, codec.sample_rate_input)[0][0]
            check_not_short(f"reference {index}", len(heard), codec.encoder.hop)
            blocks = feats_blocks(codec, [heard], window_seconds)
            feats += [block.to("cpu", _dtype(dtype)) for block in blocks]
            seconds += len(sig) / rate
        if not feats:
            raise UserError("reference: no signals; give at least one of the speaker")
        return cls._of(codec, torch.cat(feats), seconds)

    @classmethod
    def from_files(
        cls,
        codec: FocalCodec,
        paths: Sequence[str | os.PathLike[str]],
        channels: Channels = "error",
        dtype: str = "float32",
        window_seconds: float = WINDOW_SECONDS,
        progress: bool = False,
    ) -> ReferenceSet:
        """Encode files of one speaker: any format, rate and length.

        Parameters
        ----------
        codec : FocalCodec
            In eval mode.
        paths : sequence of str or path
            Audio files.
        channels : {"error", "mix", "first"}
            What to do with files of several channels.
        dtype, window_seconds
            See `from_sigs`.
        progress : bool
            Show a bar on standard error.

        Returns
        -------
        ReferenceSet
            On the CPU.

        Raises
        ------
        UserError
            No file, or one that is missing, no sound audio, or too short; no such dtype.
        """
        feats, seconds = read_feats(codec, paths, _dtype(dtype), channels, window_seconds, progress)
        return cls._of(codec, feats, seconds, tuple(str(path) for path in paths))

    @classmethod
    def merge(cls, sets: Iterable[ReferenceSet]) -> ReferenceSet:
        """Join sets made by the same encoder; the result has the precision of the first.

        Raises
        ------
        UserError
            No set, or sets of different encoders.

        Example
        -------
        >>> len(ReferenceSet.merge([ReferenceSet(torch.eye(3)), ReferenceSet(torch.ones(2, 3))]))
        5
        """
        sets = list(sets)
        if not sets:
            raise UserError("reference: no sets to merge; give at least one")
        first = sets[0]
        for other in sets[1:]:
            _check_width(other.feats.shape[1], first.feats.shape[1])
            if other.encoder != first.encoder or other.sample_rate != first.sample_rate:
                raise UserError(
                    "reference: sets of different encoders, or of one encoder in different"
                    " precisions; make them with one codec"
                )
        if len(sets) == 1:
            return first
        return cls(
            torch.cat([part.feats.to(first.feats) for part in sets]),
            first.encoder,
            first.sample_rate,
            sum(part.seconds for part in sets),
            tuple(file for part in sets for file in part.files),
            first.version,
        )

    @classmethod
    def _of(
        cls, codec: FocalCodec, feats: Tensor, seconds: float, files: tuple[str, ...] = ()
    ) -> ReferenceSet:
        encoder = codec.encoder
        made = cls(feats, encoder_identity(encoder), encoder.sample_rate, seconds, files)
        made._known = weakref.ref(encoder)
        return made

    # -- use -------------------------------------------------------------------------------------

    def check_codec(self, codec: FocalCodec) -> None:
        """Refuse a codec whose encoder did not make these frames.

        The encoder's weights are hashed once; bare feats are checked for their width only.

        Raises
        ------
        UserError
            Another encoder.
        """
        if self._known is not None and self._known() is codec.encoder:
            return
        _check_width(self.feats.shape[1], codec.encoder.dim)
        if self.encoder:
            check_same_encoder(self.encoder, codec.encoder)
        self._known = weakref.ref(codec.encoder)

    def build_index(self, num_lists: int | None = None, num_probes: int = 16) -> None:
        """Index the frames for `search="faiss"`, see `FaissIndex`; else its first use does it."""
        self._index = FaissIndex(self.feats, num_lists, num_probes)

    def nearest(self, queries: Tensor, k: int, search: str = "exact") -> Tensor:
        """Find the k nearest frames of each query, by cosine.

        Parameters
        ----------
        queries : Tensor
            (Q, D) float.
        k : int
            Neighbours, 1..N.
        search : {"exact", "faiss"}
            Compare all, or look into an index.

        Returns
        -------
        Tensor
            (Q, k) int64, most similar first, on the queries' device.

        Raises
        ------
        UserError
            k is not in 1..N, no such search, or faiss is not installed.
        """
        if search not in SEARCHES:
            raise UserError(f"search={search!r}: not one of {', '.join(SEARCHES)}")
        if search == "exact":
            return nearest_frames(queries, self.feats, k)
        if self._index is None:
            self.build_index()
        return cast(FaissIndex, self._index).nearest(queries, k)

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file: the frames, and the rest as metadata.

        Raises
        ------
        UserError
            Made of bare feats: a file must say whose they are.
        """
        if not self.encoder:
            raise UserError(f"{path}: bare feats have no encoder; make the set with from_files")
        about = {
            "format": FORMAT,
            "encoder": json.dumps(self.encoder),
            "sample_rate": str(self.sample_rate),
            "seconds": repr(self.seconds),
            "files": json.dumps(self.files),
            "version": self.version,
        }
        with atomic_path(path) as temporary:
            save_file({"feats": self.feats.cpu().contiguous()}, temporary, about)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ReferenceSet:
        """Open a file that `save` wrote. It is memory-mapped: processes share it.

        Raises
        ------
        UserError
            Not there, damaged, or not such a file.
        """
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file; check the path")
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                if about.get("format") != FORMAT:
                    raise UserError(f"{path}: not a reference set; make one with from_files")
                encoder = json.loads(about["encoder"])
                if not isinstance(encoder, dict) or not encoder.keys() & FORMATS:
                    raise ValueError(f"encoder {encoder!r}")
                return cls(
                    file.get_tensor("feats"),
                    encoder,
                    int(about["sample_rate"]),
                    float(about["seconds"]),
                    tuple(json.loads(about["files"])),
                    about["version"],
                )
        except UserError:
            raise
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise UserError(f"{path}: damaged reference set ({error}); make it again") from error


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise UserError(f"dtype={name!r}: not one of {', '.join(DTYPES)}")
    return DTYPES[name]


def _check_width(width: int, expected: int) -> None:
    if width != expected:
        raise UserError(
            f"reference: feats of {width} values, expected {expected}; make it with this encoder"
        )
