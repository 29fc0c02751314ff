"""One interface for all codecs, ours and others: their names, and how they are loaded.

A codec is named `[LABEL=]KIND[:SETTING][@SOURCE]`, for example `mimi:8`. FocalCodec is named by its
folder or hub repository (`[LABEL=]FOLDER`, `[LABEL=]OWNER/NAME[@REVISION]`), or by the name of a
codec in the package (`[LABEL=]demo`). Tables and folders show the label; the default is the name
itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from focalcodec.choices import WINDOW_SECONDS
from focalcodec.errors import UserError
from focalcodec.files import safe_file_name

if TYPE_CHECKING:
    import torch

    from focalcodec.coders.coder import Coder


@dataclass(frozen=True)
class CodecSpec:
    """A codec before it is loaded: `kind` is one of `KINDS`, or "" for FocalCodec."""

    label: str
    kind: str
    setting: str = ""
    source: str = ""
    trust: tuple[str, ...] = field(default=(), repr=False)  # modules of one's own parts

    @property
    def folder(self) -> str:
        """Name of the codec's folder in a run."""
        return safe_file_name(self.label)


class _Place(NamedTuple):
    device: torch.device
    window_seconds: float


# Modules of coders are imported only when one is loaded, because each needs other packages.


def _original(spec: CodecSpec, place: _Place) -> Coder:
    from focalcodec.coders.coder import Original

    return Original()


def _hub(name: str, repository: str) -> Callable[[CodecSpec, _Place], Coder]:
    def make(spec: CodecSpec, place: _Place) -> Coder:
        from focalcodec.coders import hub

        setting = _number(spec) if spec.setting else None
        return getattr(hub, name)(spec.source or repository, setting, place.device)

    return make


def _opus(spec: CodecSpec, place: _Place) -> Coder:
    from focalcodec.coders.ffmpeg import Opus

    return Opus(_number(spec))


def _codec2(spec: CodecSpec, place: _Place) -> Coder:
    from focalcodec.coders.ffmpeg import Codec2

    return Codec2(spec.setting.upper())


def _vocoder(spec: CodecSpec, place: _Place) -> Coder:
    from focalcodec.coders.focal import VocoderCoder

    return VocoderCoder(spec.setting, spec.source or None, *place, spec.trust)


def _ours(spec: CodecSpec, place: _Place) -> Coder:
    from focalcodec.coders.focal import FocalCoder

    return FocalCoder(spec.setting, spec.source or None, *place, spec.trust)


def _merge(spec: CodecSpec, place: _Place) -> Coder:
    from focalcodec.coders.focal import MergedCoder

    return MergedCoder(_number(spec), spec.source, None, *place, spec.trust)


def _voice(spec: CodecSpec, place: _Place) -> Coder:
    from focalcodec.coders.focal import VoiceCoder

    return VoiceCoder(spec.setting, spec.source or None, *place, spec.trust)


KINDS: dict[str, tuple[Callable[[CodecSpec, _Place], Coder], str]] = {
    "original": (_original, "original, no codec: the recordings themselves"),
    "vocoder": (_vocoder, "vocoder:FOLDER, the decoder alone, on clean feats"),
    "merge": (_merge, "merge:COSINE@FOLDER, similar neighbouring tokens are merged"),
    "voice": (_voice, "voice:FOLDER, converts by the vector of the utterance"),
    "opus": (_opus, "opus:KBPS, from 6 kbit/s"),
    "codec2": (_codec2, "codec2:MODE, 3200 ... 1300, 1200 or 700C bit/s"),
    "encodec": (_hub("Encodec", "facebook/encodec_24khz"), "encodec:KBPS, 1.5, 3, 6, 12 or 24"),
    "dac": (_hub("Dac", "descript/dac_16khz"), "dac:CODEBOOKS, default all 12 of them"),
    "mimi": (_hub("Mimi", "kyutai/mimi"), "mimi:CODEBOOKS, default 8 of 32"),
    "xcodec2": (_hub("XCodec2", "HKUSTAudio/xcodec2-hf"), "xcodec2"),
}


def parse_spec(text: str) -> CodecSpec:
    """Parse the name of a codec (see the module) without loading it.

    UserError if the name is empty or a setting is missing.

    Example
    -------
    >>> parse_spec("opus:6")
    CodecSpec(label='opus:6', kind='opus', setting='6', source='')
    >>> parse_spec("new=results/run/codec")
    CodecSpec(label='new', kind='', setting='results/run/codec', source='')
    >>> parse_spec("mimi:5@models/mimi").source
    'models/mimi'
    """
    label, has_label, name = text.partition("=")
    # A folder may have "=" in its name.
    if not has_label or Path(text).expanduser().is_dir():
        label, name = "", text
    if not name:
        raise UserError(f"codecs: {text!r} names none; {_known()}")
    kind, has_setting, setting = name.partition("@")[0].partition(":")
    if kind.lower() not in KINDS or (not has_setting and Path(name).expanduser().is_dir()):
        path = Path(name).expanduser()
        if path.is_dir():
            return CodecSpec(label or path.resolve().name, "", name)
        repository, _, revision = name.partition("@")
        return CodecSpec(label or repository.split("/")[-1], "", repository, revision)
    kind, source = kind.lower(), name.partition("@")[2]
    if kind in ("vocoder", "voice"):
        label = label or f"{kind}:{Path(setting).expanduser().resolve().name}"
    if (kind in ("opus", "codec2", "vocoder", "voice") and not setting) or (
        kind == "merge" and not (setting and source)
    ):
        raise UserError(f"codecs: {text}: give {KINDS[kind][1]}")
    return CodecSpec(label or f"{kind}{':' if setting else ''}{setting}", kind, setting, source)


def parse_specs(texts: Sequence[str], trust: Collection[str] = ()) -> tuple[CodecSpec, ...]:
    """Parse the names of codecs; UserError if there are none, or two have the same label.

    Classes of the modules in `trust` may be parts of ours.

    Example
    -------
    >>> [spec.folder for spec in parse_specs(["opus:6", "codec2:700C"])]
    ['opus-6', 'codec2-700C']
    """
    if not texts:
        raise UserError(f"codecs: none; {_known()}")
    specs = tuple(replace(parse_spec(str(text)), trust=tuple(trust)) for text in texts)
    names = Counter(spec.folder.lower() for spec in specs)
    for spec, text in zip(specs, texts, strict=True):
        if names[spec.folder.lower()] > 1:
            raise UserError(
                f"codecs: {text}: another codec has the label {spec.label}; give NAME={text}"
            )
    return specs


def load_coder(
    spec: CodecSpec, device: torch.device, window_seconds: float = WINDOW_SECONDS
) -> Coder:
    """Load a codec.

    Parameters
    ----------
    spec : CodecSpec
        Result of `parse_spec`.
    device : torch.device
        Where it runs.
    window_seconds : float
        FocalCodec codes longer clips in windows of this length.

    Raises
    ------
    UserError
        The codec can't be loaded; the message names the missing part and how to get it.

    Example
    -------
    >>> load_coder(parse_spec("original"), torch.device("cpu")).source
    'original'
    """
    make = KINDS[spec.kind][0] if spec.kind else _ours
    try:
        return make(spec, _Place(device, window_seconds))
    except UserError as error:
        raise UserError(f"{spec.label}: {error}") from error


def _number(spec: CodecSpec) -> float:
    try:
        return float(spec.setting)
    except ValueError as error:
        raise UserError(f"setting {spec.setting!r}: give {KINDS[spec.kind][1]}") from error


def _known() -> str:
    kinds = "; ".join(help_text for _, help_text in KINDS.values())
    return f"give the folder of an exported codec, or {kinds}"
