"""Values that options offer, and their defaults, without torch: `--help` must be quick."""

from __future__ import annotations

from typing import Literal

Channels = Literal["error", "mix", "first"]
CHANNELS = ("error", "mix", "first")
FLOAT_DTYPES = ("float32", "float16")  # of stored weights and reference sets
PRECISIONS = ("fp32", "bf16", "fp16")
RESAMPLES = 2000  # of clips, for confidence intervals
SEARCHES = ("exact", "faiss")
TASKS = ("resynthesis", "denoising", "conversion")
TOKEN_FORMATS = ("memmap", "parquet")
WINDOW_SECONDS = 120.0
WRITTEN_FORMATS = ("wav", "flac")
