"""Options that several commands share, without torch: `--help` must be quick.

An option has the name of the same key in YAML files, with its unit: `--window_seconds`.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from focalcodec.choices import PRECISIONS, WINDOW_SECONDS, WRITTEN_FORMATS, exact_precision
from focalcodec.cli.models import DEFAULT_MODEL, add_trust_option
from focalcodec.hub import DEMO, shipped_text

ORIGINAL = "original"
DEVICE_HELP = "cpu, cuda, cuda:1, mps ...; auto takes a GPU if there is one (default: %(default)s)"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add --model, --revision, --device and --precision, which `load_model` reads."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="FOLDER_OR_NAME",
        help="model folder, name of a repository on the hub, or codec of the package"
        f" ({shipped_text()}; default: {DEFAULT_MODEL}; {DEMO} if that is not available)",
    )
    group.add_argument("--revision", help="branch, tag or commit of a repository on the hub")
    add_trust_option(group)
    group.add_argument("--device", default="auto", help=DEVICE_HELP)
    group.add_argument(
        "--precision",
        type=exact_precision,
        default="auto",
        choices=PRECISIONS,
        help="auto is the fastest that keeps every token: fp32; bf16 is faster on GPUs and CPUs"
        " with such instructions, and changes a few tokens; int8 is for CPUs, and changes many"
        " (default: %(default)s)",
    )


def add_runtime_option(parser: argparse.ArgumentParser) -> None:
    """Add --runtime, for commands that work without torch too."""
    parser.add_argument(
        "--runtime",
        choices=("torch", "onnx"),
        default="torch",
        help="onnx runs the graphs of focalcodec export --format onnx on onnxruntime; --model is"
        " their folder (default: %(default)s)",
    )


def add_job_options(parser: argparse.ArgumentParser) -> None:
    """Add --jobs, --overwrite and --quiet, which `jobs.run_jobs` reads."""
    group = parser.add_argument_group("files")
    group.add_argument(
        "--overwrite", action="store_true", help="replace existing outputs; without it, skip them"
    )
    add_jobs_option(group)
    group.add_argument(
        "--quiet", action="store_true", help="print errors only, no progress bar and no counts"
    )


def add_jobs_option(parser: argparse._ActionsContainer) -> None:
    """Add --jobs."""
    parser.add_argument(
        "--jobs",
        type=positive_int,
        default=1,
        metavar="N",
        help="number of processes, each with its own model (default: %(default)s)",
    )


def add_channels_option(parser: argparse._ActionsContainer) -> None:
    """Add --channels, for commands that read recordings."""
    parser.add_argument(
        "--channels",
        choices=("mix", "first", "error"),
        default="mix",
        help="for recordings with several channels: mix takes their mean, first takes the first,"
        " error makes them fail (default: %(default)s)",
    )


def add_window_option(parser: argparse._ActionsContainer) -> None:
    """Add --window_seconds, for commands that read recordings of any length."""
    parser.add_argument(
        "--window_seconds",
        type=positive_float,
        default=WINDOW_SECONDS,
        metavar="S",
        help="process longer recordings in overlapping windows of this length, which bounds the"
        " memory (default: %(default)s)",
    )


def add_batch_option(parser: argparse._ActionsContainer, default: float) -> None:
    """Add --batch_seconds."""
    parser.add_argument(
        "--batch_seconds",
        type=positive_float,
        default=default,
        metavar="S",
        help="seconds of audio per batch, padding included (default: %(default)g)",
    )


def add_audio_output_options(parser: argparse._ActionsContainer) -> None:
    """Add --sample_rate and --format, for commands that write recordings."""
    parser.add_argument(
        "--sample_rate",
        type=output_rate,
        metavar="HZ",
        help="sample rate of the output; original is that of the recording"
        " (default: output rate of the model)",
    )
    parser.add_argument(
        "--format",
        choices=WRITTEN_FORMATS,
        help="file format of the output (default: by the suffix of OUT, else wav)",
    )


def add_table_option(parser: argparse._ActionsContainer, use: str) -> None:
    """Add --table, the token frequencies of entropy-coded token files."""
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help=f"file of token frequencies (.fcf), {use}"
    )


def audio_suffixes(file_format: str | None) -> tuple[str, ...]:
    """Suffixes that an output may have; the first is that of outputs in a folder."""
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
