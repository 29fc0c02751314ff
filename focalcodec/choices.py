"""Values that options offer and their defaults; without torch, for --help."""

from __future__ import annotations

from typing import Literal

Channels = Literal["error", "mix", "first"]
CHANNELS = ("error", "mix", "first")
FLOAT_DTYPES = ("float32", "float16")  # of stored weights and reference sets
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
RESAMPLES = 2000  # of clips, for confidence intervals
SEARCHES = ("exact", "faiss")
TASKS = ("resynthesis", "denoising", "conversion")
TOKEN_FORMATS = ("memmap", "parquet")
WINDOW_SECONDS = 120.0
WRITTEN_FORMATS = ("wav", "flac")


def exact_precision(name: str) -> str:
    """The precision that a name means; `auto` is the fastest one that keeps every token.

    That is fp32, on every device: the others change some tokens, so they are chosen by name.

    Example
    -------
    >>> exact_precision("auto"), exact_precision("bf16")
    ('fp32', 'bf16')
    """
    return "fp32" if name == "auto" else name
