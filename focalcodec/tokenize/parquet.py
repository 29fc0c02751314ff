"""Tokens of a corpus as Parquet files that the library `datasets` loads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from focalcodec.tokenize.dataset_source import import_datasets
from focalcodec.tokenize.store import TokenizedClip

META_KEY = b"focalcodec"
_GROUP_CLIPS = 256
_FILE_GROUPS = 400


def write_parquet(
    folder: Path, clips: Iterable[TokenizedClip], codebook_size: int, meta: dict[str, Any]
) -> None:
    """Write `tokens-00000.parquet` and so on, some hundred clips at a time.

    Columns: id, toks (the codec's own, uint16 or uint32), num_samples, sample_rate, spk_id, wrd.
    The metadata of each file's schema hold `meta` under "focalcodec", as JSON.

    Parameters
    ----------
    folder : Path
        Where to.
    clips : iterable of TokenizedClip
        In the order of the corpus.
    codebook_size : int
        Of the codec.
    meta : dict
        What to say of the model, JSON-ready.

    Raises
    ------
    UserError
        `datasets` is not installed.
    """
    datasets = import_datasets()
    from pyarrow.parquet import ParquetWriter

    dtype = "uint16" if codebook_size <= 1 << 16 else "uint32"
    toks_type = datasets.List(datasets.Value(dtype))
    text, number = datasets.Value("string"), datasets.Value("int64")
    features = datasets.Features(
        {
            **{"id": text, "toks": toks_type, "num_samples": number, "sample_rate": number},
            **{"spk_id": text, "wrd": text},
        }
    )
    schema = features.arrow_schema
    schema = schema.with_metadata({**schema.metadata, META_KEY: json.dumps(meta).encode()})
    rest = iter(clips)
    groups = iter(lambda: list(islice(rest, _GROUP_CLIPS)), [])
    for place, first in enumerate(groups):
        with ParquetWriter(folder / f"tokens-{place:05d}.parquet", schema) as writer:
            for group in chain([first], islice(groups, _FILE_GROUPS - 1)):
                writer.write_table(_table(group, dtype, schema))


def _table(clips: Sequence[TokenizedClip], dtype: str, schema: Any) -> Any:
    import pyarrow as pa

    ends = np.cumsum([0, *(len(clip.toks) for clip in clips)], dtype=np.int32)
    values = torch.cat([clip.toks for clip in clips]).numpy().astype(dtype)
    columns = [
        [_utf8(clip.id) for clip in clips],
        pa.ListArray.from_arrays(ends, values),
        [clip.num_samples for clip in clips],
        [clip.sample_rate for clip in clips],
        [_utf8(clip.spk_id) for clip in clips],
        [_utf8(clip.wrd) for clip in clips],
    ]
    arrays = [pa.array(x, field.type) for x, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _utf8(text: str) -> str:
    """Text as Parquet can hold it: names of files need not be UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
