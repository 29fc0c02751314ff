"""Voice conversion of recordings: the frames of a speaker, from signals, files and reference sets.

`FocalCodec.convert` converts a batch, and `convert_toks` a recording of any length. The search for
the nearest frames is in `knn`; docs/voice_conversion.md has examples.
"""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from focalcodec import __version__
from focalcodec.audio import Channels, audio_info, resample, resampled_length, validate_sig
from focalcodec.audio_stream import AudioStream
from focalcodec.choices import FLOAT_DTYPES
from focalcodec.codec import FocalCodec
from focalcodec.codec_base import CodecBase
from focalcodec.encoders import Encoder
from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.hub.fingerprint import FORMATS, check_same_encoder, encoder_identity
from focalcodec.hub.weights import check_values
from focalcodec.knn import ReferenceFrames, as_frames, check_k, check_width, convert_feats
from focalcodec.long_audio.coding import WINDOW_SECONDS, decode_blocks, feats_blocks
from focalcodec.nn.masking import as_tensor
from focalcodec.progress import ProgressBar

DTYPES = {name: getattr(torch, name) for name in FLOAT_DTYPES}
FORMAT = "focalcodec-reference-1"


@dataclass(eq=False)
class ReferenceSet(ReferenceFrames):
    """Frames of a speaker, `feats` (N, D) float, and their origin; can be saved in a file.

    `from_sigs`, `from_files`, `load` and `merge` make one.
    """

    encoder: dict[str, str] = field(default_factory=dict)  # `encoder_identity`; empty: unknown
    sample_rate: int = 0  # of the encoder's input, Hz; 0: unknown
    seconds: float = 0.0  # duration of the encoded audio
    files: tuple[str, ...] = ()  # names of the encoded files
    version: str = __version__  # of this package, when the frames were encoded

    def __post_init__(self) -> None:
        super().__post_init__()
        self._known: weakref.ref[Encoder] | None = None  # an encoder that was compared before

    # -- making one ------------------------------------------------------------------------------

    @classmethod
    def from_sigs(
        cls,
        codec: FocalCodec,
        sigs: Sequence[Tensor],
        sample_rate: int,
        dtype: str = "float32",
        window_seconds: float = WINDOW_SECONDS,
    ) -> ReferenceSet:
        """Encode signals of one speaker; the set is on the CPU.

        Raises a `UserError` for no signals, one that is not (T,), too short, NaN or infinite, or
        another dtype.

        Parameters
        ----------
        codec : FocalCodec
            In eval mode.
        sigs : sequence of Tensor
            (T,) float each, mono, about [-1, 1].
        sample_rate : int
            Their rate, Hz.
        dtype : {"float32", "float16"}
            How the frames are kept: float16 takes half the space.
        window_seconds : float
            A longer signal goes through the encoder in windows of this length.
        """
        rate, feats, seconds = codec.sample_rate_input, [], 0.0  # blocks (n, D)
        for index, given in enumerate(sigs):
            sig = as_tensor(f"reference {index}", given)
            if sig.dim() != 1:
                raise UserError(f"reference {index}: shape {tuple(sig.shape)}; give (samples,)")
            validate_sig(sig[None])
            resampled = resample(sig[None], sample_rate, rate)[0][0]
            _check_not_short(f"reference {index}", len(resampled), codec.encoder.hop)
            blocks = feats_blocks(codec, [resampled], rate, window_seconds)
            feats += [block.to("cpu", _dtype(dtype)) for block in blocks]
            seconds += len(sig) / sample_rate
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
        """Encode files of one speaker, of any format, rate and length; the set is on the CPU.

        All headers are read first, so that a bad file is found before the work, and memory for the
        features is taken once. `channels` is the policy for files of several channels, see
        `read_audio`; `progress` shows a bar on standard error; the rest is as in `from_sigs`.
        Raises a `UserError` if there are no files, or one is missing, damaged, or shorter than a
        frame.
        """
        kept_as = _dtype(dtype)
        if not paths:
            raise UserError("reference: no files; name at least one recording of the speaker")
        encoder, seconds, samples = codec.encoder, 0.0, []
        for path in paths:
            info = audio_info(path)
            length = resampled_length(info.num_samples, info.sample_rate, encoder.sample_rate)
            _check_not_short(str(path), length, encoder.hop)
            samples.append(length)
            seconds += info.seconds
        frames = encoder.output_lengths(torch.tensor(samples))
        feats, end = torch.empty(int(frames.sum()), encoder.dim, dtype=kept_as), 0  # (N, D)
        for path in ProgressBar(paths, "reference", unit="files", show=progress):
            with AudioStream(path, channels=channels) as stream:
                rate = stream.sample_rate
                for block in feats_blocks(codec, stream, rate, window_seconds):
                    feats[end : end + len(block)] = block
                    end += len(block)
        return cls._of(codec, feats, seconds, tuple(str(path) for path in paths))

    @classmethod
    def merge(cls, sets: Iterable[ReferenceSet]) -> ReferenceSet:
        """Join sets made by the same encoder, else a `UserError`, in the precision of the first."""
        sets = list(sets)
        if not sets:
            raise UserError("reference: no sets to merge; give at least one")
        first = sets[0]
        for other in sets[1:]:
            check_width(other.feats.shape[1], first.feats.shape[1])
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

    def check_codec(self, codec: CodecBase) -> None:
        """Raise a `UserError` if the codec's encoder did not make these frames.

        The encoder's weights are hashed once. If a set has no `encoder`, only the width of the
        feats is compared.
        """
        if self._known is not None and self._known() is codec.encoder:
            return
        super().check_codec(codec)
        if self.encoder:
            check_same_encoder(self.encoder, codec.encoder)
        self._known = weakref.ref(codec.encoder)

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file: `feats`, and the rest as metadata.

        Raises a `UserError` if the encoder is not known: a file must name it.
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
        """Open a file that `save` wrote; it is memory-mapped, so processes share it.

        Raises a `UserError` if it is missing, damaged, or of another kind, or as `check_values`.
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
                feats = file.get_tensor("feats")
                check_values(path, {"feats": feats})
                return cls(
                    feats,
                    encoder,
                    int(about["sample_rate"]),
                    float(about["seconds"]),
                    tuple(json.loads(about["files"])),
                    about["version"],
                )
        except UserError:
            raise
        except (
            *(OSError, SafetensorError, KeyError, ValueError, TypeError),
            RecursionError,
        ) as error:
            raise UserError(f"{path}: damaged reference set ({error}); make it again") from error


def convert_toks(
    codec: FocalCodec,
    toks: Tensor,
    reference: ReferenceFrames | Tensor,
    num_samples: int,
    sample_rate: int | None = None,
    k: int = 4,
    search: str = "exact",
    window_seconds: float = WINDOW_SECONDS,
) -> Iterator[Tensor]:
    """Convert toks (N,) integer, a recording of any length, to blocks rec_sig (T,) on the CPU.

    A recording that fits one window gives the same result as `FocalCodec.convert`. `num_samples` is
    the length of the output at `sample_rate`, Hz, default `codec.sample_rate_output`. The other
    arguments and the errors are those of `convert_feats` and `decode_blocks`.
    """
    change = feats_changer(codec, reference, k, search)
    return decode_blocks(codec, toks, num_samples, sample_rate, window_seconds, change)


def feats_changer(
    codec: FocalCodec, reference: ReferenceFrames | Tensor, k: int = 4, search: str = "exact"
) -> Callable[[Tensor], Tensor]:
    """Check a reference at once; return qfeats (n, D) -> feats (n, D) for `decode_blocks`.

    Arguments are those of `convert_feats`; raises a `UserError` for a reference of another encoder
    or of fewer than k frames.
    """
    frames = as_frames(reference)
    check_k(k, len(frames))
    frames.check_codec(codec)

    def change(qfeats: Tensor) -> Tensor:
        return convert_feats(qfeats[None], None, frames, k, search)[0]

    return change


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise UserError(f"dtype={name!r}: not one of {', '.join(DTYPES)}")
    return DTYPES[name]


def _check_not_short(name: str, num_samples: int, hop: int) -> None:
    """Raise if a recording is shorter than a frame: most of the input would be silence."""
    if num_samples < hop:
        raise UserError(f"{name}: {num_samples} samples, less than a frame of {hop}; leave it out")
