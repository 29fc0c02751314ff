"""Options that several commands share, and the model that they name.

Names are long and those of the YAML files, with units: `--window_seconds`.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import NamedTuple

from focalcodec.audio_stream import WRITTEN_FORMATS
from focalcodec.cli.default_model import DEFAULT_MODEL, choose_model
from focalcodec.codec import FocalCodec
from focalcodec.device import pick_device
from focalcodec.hub.fingerprint import weights_sha256
from focalcodec.hub.locations import is_shipped
from focalcodec.long_audio.coding import WINDOW_SECONDS, check_window
from focalcodec.precision import PRECISIONS, set_precision

ORIGINAL = "original"


class Model(NamedTuple):
    """A codec ready for use, and what its token files call it."""

    codec: FocalCodec
    name: str
    weights_sha256: str


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add --model, --revision, --device and --precision."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="FOLDER_OR_NAME",
        help="folder of an exported codec, a repository on the hub, or demo, which comes with the"
        f" package (default: {DEFAULT_MODEL}; demo where that can't be had)",
    )
    group.add_argument("--revision", help="branch, tag or commit of a hub repository")
    group.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, mps ...; auto takes a GPU if any"
    )
    group.add_argument(
        "--precision",
        default="fp32",
        choices=PRECISIONS,
        help="bf16 is faster on GPUs and on CPUs with its instructions, and changes a few tokens",
    )


def add_job_options(parser: argparse.ArgumentParser) -> None:
    """Add --jobs, --overwrite and --quiet, which `jobs.run_jobs` reads."""
    group = parser.add_argument_group("files")
    group.add_argument("--overwrite", action="store_true", help="make anew what is there already")
    group.add_argument(
        "--jobs",
        type=positive_int,
        default=1,
        metavar="N",
        help="processes, each with a model of its own (default: %(default)s)",
    )
    group.add_argument("--quiet", action="store_true", help="errors only, no bar and no counts")


def add_channels_option(parser: argparse.ArgumentParser) -> None:
    """Add --channels, for recordings that are read."""
    parser.add_argument(
        "--channels",
        choices=("mix", "first", "error"),
        default="mix",
        help="of a recording with several: their mean, the first, or refuse it"
        " (default: %(default)s)",
    )


def add_window_option(parser: argparse.ArgumentParser) -> None:
    """Add --window_seconds, for recordings longer than memory."""
    parser.add_argument(
        "--window_seconds",
        type=positive_float,
        default=WINDOW_SECONDS,
        metavar="S",
        help="longer recordings go in overlapping windows of this length (default: %(default)s)",
    )


def add_audio_output_options(parser: argparse.ArgumentParser) -> None:
    """Add --sample_rate and --format, for recordings that are written."""
    parser.add_argument(
        "--sample_rate",
        type=output_rate,
        metavar="HZ",
        help="of the output; original is that of the recording (default: the model's)",
    )
    parser.add_argument(
        "--format",
        choices=WRITTEN_FORMATS,
        help="of the output (default: by the suffix of OUT, else wav)",
    )


def audio_suffixes(file_format: str | None) -> tuple[str, ...]:
    """Suffixes that an output may have, the first that of files in a folder.

    Example
    -------
    >>> audio_suffixes(None), audio_suffixes("flac")
    (('.wav', '.flac'), ('.flac',))
    """
    formats = WRITTEN_FORMATS if file_format is None else (file_format,)
    return tuple(f".{name}" for name in formats)


def positive_int(text: str) -> int:
    """Type of an option: 1, 2, ..."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: give 1 or more")
    return value


def positive_float(text: str) -> float:
    """Type of an option: a finite number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: give a number above 0")
    return value


def output_rate(text: str) -> int | str:
    """Type of --sample_rate: Hz, or `original`."""
    if text == ORIGINAL:
        return text
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: give a rate in Hz, or {ORIGINAL}")
    return int(text)


def load_model(args: argparse.Namespace) -> Model:
    """Load the model that the options name.

    Parameters
    ----------
    args : argparse.Namespace
        With what `add_model_options` added.

    Returns
    -------
    Model
        The codec, in eval mode, on its device and in its precision.

    Raises
    ------
    UserError
        No such model or device, or a window that is too short for the model.
    """
    device = pick_device(args.device)
    choose_model(args)
    codec = FocalCodec.from_pretrained(args.model, revision=args.revision)
    sha256 = weights_sha256(codec)
    folder = Path(args.model).expanduser()
    is_folder = folder.is_dir() and not is_shipped(args.model)
    name = folder.resolve().name if is_folder else args.model
    set_precision(codec.to(device), args.precision)
    if hasattr(args, "window_seconds"):
        check_window(codec, args.window_seconds)
    return Model(codec, name, sha256)
