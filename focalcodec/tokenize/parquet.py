"""Tokens of a corpus as Parquet: a folder that is joined from parts, or one file a part at a URL.

An object at a URL is there as a whole or not at all, but can't be locked or renamed. So each part
is a file of the output, and the process that finds all files there writes `meta.json`; two that do
so at the same time write the same.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from focalcodec.errors import UserError
from focalcodec.tokenize.dataset_source import import_datasets
from focalcodec.tokenize.parts import EncodedClip, failed_row, tokenized
from focalcodec.tokenize.plan import TokenizePlan
from focalcodec.tokenize.store import FAILED_COLUMNS, META_NAME, TokenizedClip
from focalcodec.tokenize.urls import Place, open_place, storage_errors

if TYPE_CHECKING:
    import pyarrow as pa

META_KEY = b"focalcodec"
_PART_KEY = b"focalcodec.part"
_GROUP_CLIPS = 256
_FILE_GROUPS = 400


def parquet_schema(codebook_size: int, meta: dict[str, Any]) -> pa.Schema:
    """Columns id, toks (the codec's own, uint16 or uint32), num_samples, sample_rate, spk_id, wrd.

    The schema's metadata hold `meta` as JSON under "focalcodec", and what `datasets` reads.
    """
    datasets = import_datasets()
    toks = datasets.List(datasets.Value("uint16" if codebook_size <= 1 << 16 else "uint32"))
    text, number = datasets.Value("string"), datasets.Value("int64")
    features = datasets.Features(
        {
            **{"id": text, "toks": toks, "num_samples": number, "sample_rate": number},
            **{"spk_id": text, "wrd": text},
        }
    )
    schema = features.arrow_schema
    return schema.with_metadata({**schema.metadata, META_KEY: json.dumps(meta).encode()})


def parquet_table(clips: Sequence[TokenizedClip], schema: pa.Schema) -> pa.Table:
    """Clips as a table."""
    import pyarrow as pa

    # Arrow stores lists as one array of values and the offset of each list.
    ends = np.cumsum([0, *(len(clip.toks) for clip in clips)], dtype=np.int32)
    values = torch.cat([torch.zeros(0, dtype=torch.int64), *(clip.toks for clip in clips)])
    dtype = schema.field("toks").type.value_type.to_pandas_dtype()
    columns = [
        [_utf8(clip.id) for clip in clips],
        pa.ListArray.from_arrays(ends, values.numpy().astype(dtype)),
        [clip.num_samples for clip in clips],
        [clip.sample_rate for clip in clips],
        [_utf8(clip.spk_id) for clip in clips],
        [_utf8(clip.wrd) for clip in clips],
    ]
    arrays = [pa.array(x, field.type) for x, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def write_parquet(
    folder: Path, clips: Iterable[TokenizedClip], codebook_size: int, meta: dict[str, Any]
) -> None:
    """Write `tokens-00000.parquet` and so on for the library `datasets`, 256 clips at a time."""
    schema = parquet_schema(codebook_size, meta)
    from pyarrow.parquet import ParquetWriter

    rest = iter(clips)
    groups = iter(lambda: list(islice(rest, _GROUP_CLIPS)), [])
    for place, first in enumerate(groups):
        with ParquetWriter(folder / f"tokens-{place:05d}.parquet", schema) as writer:
            for group in chain([first], islice(groups, _FILE_GROUPS - 1)):
                writer.write_table(parquet_table(group, schema))


def _utf8(text: str) -> str:
    """Text as Parquet can store it; names of files need not be UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


# -- at a URL --------------------------------------------------------------------------------------


class UrlOutput:
    """Output of one plan at a URL: `plan.json`, `parquet/`, `failed.csv`, and last `meta.json`."""

    def __init__(self, url: str, plan: TokenizePlan, model: dict[str, Any]) -> None:
        self.plan, self.url, self._model = plan, url, model
        self._place = open_place(url)
        if tuple(plan.options.formats) != ("parquet",):
            raise UserError(
                f"{url}: at a URL the format is Parquet only; give --format parquet, or a folder"
            )
        self._schema = parquet_schema(plan.vocabulary.codebook_size, model)

    def read(self, name: str) -> bytes | None:
        """Content of a file of the output; None if there is none."""
        place = self._place.below(name)
        with storage_errors(place.url):
            return place.files.cat_file(place.path) if place.files.exists(place.path) else None

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the output as a whole."""
        place = self._place.below(name)
        with storage_errors(place.url):
            place.files.pipe_file(place.path, content)

    def names(self) -> list[str]:
        """Names of the files of the output."""
        found: list[str] = []
        with storage_errors(self.url), suppress(FileNotFoundError):  # a new output
            self._place.files.invalidate_cache()
            found = self._place.files.find(self._place.path)
        root = self._place.path.strip("/")
        return [path.strip("/").removeprefix(f"{root}/") for path in found]

    def clear(self, keep: str) -> None:
        """Remove all but one file, which is removed last."""
        for name in [*(name for name in self.names() if name != keep), keep]:
            place = self._place.below(name)
            with storage_errors(place.url):
                place.files.rm(place.path)

    def part(self, number: int) -> str:
        """Name of a part."""
        return f"parquet/tokens-{number:06d}.parquet"

    def parts_left(self) -> list[int]:
        """Parts that are not there yet."""
        done = set(self.names())
        return [number for number in range(self.plan.parts) if self.part(number) not in done]

    def write_part(self, number: int, clips: Sequence[EncodedClip]) -> None:
        """Write the tokens of a part, with its counts and failed clips in the metadata."""
        from pyarrow.parquet import write_table

        failed = [failed_row(clip) for clip in clips if clip.reason]
        about = {
            "clips": len(clips) - len(failed),
            "failed": failed,
            "seconds": sum(clip.seconds for clip in clips),
            "tokens": sum(len(clip.toks) for clip in clips),
        }
        metadata = {**self._schema.metadata, _PART_KEY: json.dumps(about).encode()}
        table = parquet_table([*tokenized(clips)], self._schema.with_metadata(metadata))
        content = io.BytesIO()
        write_table(table, content)
        self.write(self.part(number), content.getvalue())

    def finish(self, pool: Executor) -> dict[str, Any]:
        """Write `failed.csv` and `meta.json` from the metadata of all parts."""
        parts = list(pool.map(self._about, range(self.plan.parts)))
        failed = [row for part in parts for row in part["failed"]]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, FAILED_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(failed)
        self.write("failed.csv", text.getvalue().encode("utf-8", "surrogateescape"))
        counts = {name: sum(part[name] for part in parts) for name in ("clips", "tokens")}
        seconds = round(sum(part["seconds"] for part in parts), 6)
        meta = {**self._model, **counts, "failed": len(failed), "seconds": seconds}
        self.write(META_NAME, (json.dumps(meta, indent=2) + "\n").encode())
        return meta

    def _about(self, number: int) -> dict[str, Any]:
        import pyarrow as pa
        from pyarrow.parquet import read_schema

        place: Place = self._place.below(self.part(number))
        try:
            with storage_errors(place.url), place.files.open(place.path, "rb") as file:
                return json.loads(read_schema(file).metadata[_PART_KEY])
        except (pa.ArrowException, KeyError) as error:
            raise UserError(
                f"{place.url}: not a part of this command; remove it and run the command again"
            ) from error
