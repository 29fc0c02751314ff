"""Manifests: CSV files in SpeechBrain's columns that list the clips of a set.

Paths begin with `$data_root`, so the data folder and the manifests can both be moved. A prepared
folder holds `<set>.csv` for each set and `sets.json`, which names the sets and the data root.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from focalcodec.errors import UserError
from focalcodec.files import atomic_path, read_text

DATA_ROOT = "$data_root"
REQUIRED_COLUMNS = ("ID", "duration", "wav")
COLUMNS = ("ID", "duration", "wav", "spk_id", "wrd", "sample_rate", "num_samples")
SETS_NAME = "sets.json"
_NUMBERS: dict[str, type] = {
    **{"duration": float, "sample_rate": int, "num_samples": int},
    **{"start": int, "stop": int},
}
_WAY_OUT = "correct it, or remove the file and prepare again"
_FILES = ("wav", "noisy")


# -- manifests -------------------------------------------------------------------------------------


def write_manifest(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a manifest; the file is never half-written.

    Rows have `COLUMNS` and any others that all rows have. `wav` is relative to the data root, with
    forward slashes; paths in other columns begin with `DATA_ROOT`. A clip that is part of a file
    has `start` (first sample) and `stop` (the sample after its last).

    Example
    -------
    >>> import tempfile
    >>> clip = {"ID": "a", "duration": 1.0, "wav": "a.flac", "spk_id": "7", "wrd": "YES"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_manifest(f"{folder}/train.csv", [clip | {"sample_rate": 1, "num_samples": 1}])
    ...     print(Path(folder, "train.csv").read_text())
    ID,duration,wav,spk_id,wrd,sample_rate,num_samples
    a,1.0,$data_root/a.flac,7,YES,1,1
    <BLANKLINE>
    """
    rows = [{**row, "wav": f"{DATA_ROOT}/{row['wav']}"} for row in rows]
    extra = [name for name in (rows[0] if rows else {}) if name not in COLUMNS]
    write_csv(path, [*COLUMNS, *extra], rows)


def write_csv(path: str | Path, columns: list[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file in UTF-8 with these columns; the file is never half-written."""
    # surrogateescape: names of files that are not UTF-8 must be read again unchanged.
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        quoted = csv.DictWriter(file, columns, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writeheader()
        for row in rows:
            # without quotation marks, a reader ends the row at a carriage return
            has_return = any(isinstance(x, str) and "\r" in x for x in row.values())
            (quoted if has_return else writer).writerow(row)


def read_manifest(
    path: str | Path, data_root: str | Path, check_files: bool = True
) -> list[dict[str, Any]]:
    """Read a manifest of ours or any CSV with the columns ID, duration (seconds) and wav.

    Returns one dict per clip, in the manifest's order: numbers as numbers, every value that begins
    with `$data_root/` as the full path below `data_root`, `spk_id` and `wrd` empty if there is no
    such column. Parts of files have `start` and `stop` (samples at the file's rate).

    Raises `UserError`: no such manifest, no rows, missing columns, a broken line, an ID twice, a
    `stop` that is not after `start`, or, with `check_files`, missing audio (of `wav` and `noisy`).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such manifest; run the preparation (skip_prep off) first")
    rows: list[dict[str, Any]] = []
    lines: dict[str, int] = {}
    try:
        reader = csv.DictReader(io.StringIO(read_text(path, "surrogateescape"), newline=""))
        missing = [name for name in REQUIRED_COLUMNS if name not in (reader.fieldnames or [])]
        if missing:
            raise UserError(
                f"{path}: no column {missing[0]!r} among {reader.fieldnames or []};"
                f" a manifest needs {', '.join(REQUIRED_COLUMNS)}"
            )
        for raw in reader:
            rows.append(_parse_row(f"{path}, line {reader.line_num}", raw, str(data_root)))
            first = lines.setdefault(rows[-1]["ID"], reader.line_num)
            if first != reader.line_num:
                raise UserError(
                    f"{path}, line {reader.line_num}: ID {rows[-1]['ID']!r} is on line"
                    f" {first} already; IDs must differ"
                )
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV file ({error}); {_WAY_OUT}") from error
    if not rows:
        raise UserError(f"{path}: no clips; prepare it again with other splits or options")
    if check_files:
        _check_files(path, rows)
    return rows


def refuse_segments(path: str | Path, rows: Iterable[Mapping[str, Any]], way_out: str) -> None:
    """Raise `UserError` if a row is part of a file, for code that reads whole files only."""
    for row in rows:
        if "start" in row:
            raise UserError(
                f"{path}: clip {row['ID']!r} is a part of a file, {row['start']} to {row['stop']};"
                f" {way_out}"
            )


def _parse_row(where: str, raw: dict[Any, Any], data_root: str) -> dict[str, Any]:
    if None in raw or None in raw.values():
        raise UserError(f"{where}: more or fewer values than columns; {_WAY_OUT}")
    row: dict[str, Any] = {"spk_id": "", "wrd": "", **raw}
    for name, value in raw.items():
        if value.startswith(f"{DATA_ROOT}/"):
            row[name] = data_root + value[len(DATA_ROOT) :]
    for name, kind in _NUMBERS.items():
        if name in row:
            try:
                row[name] = kind(row[name])
            except ValueError as error:
                raise UserError(f"{where}: {name}={row[name]!r} is not a number") from error
            if name == "start" and row[name] < 0:
                raise UserError(f"{where}: start={row[name]}; it must be 0 or more")
            if name != "start" and not 0 < row[name] < float("inf"):
                raise UserError(f"{where}: {name}={row[name]}; it must be above 0 and finite")
    _check_segment(where, row)
    return row


def _check_segment(where: str, row: Mapping[str, Any]) -> None:
    if ("start" in row) != ("stop" in row):
        given, missing = ("start", "stop") if "start" in row else ("stop", "start")
        raise UserError(f"{where}: column {given} without {missing}; a part of a file needs both")
    if "start" not in row:
        return
    samples = row["stop"] - row["start"]
    if samples < 1 or samples != row.get("num_samples", samples):
        of = f" of {row['num_samples']} samples" if "num_samples" in row else ""
        raise UserError(
            f"{where}: start={row['start']}, stop={row['stop']} is no segment{of}; {_WAY_OUT}"
        )


def _check_files(path: Path, rows: list[dict[str, Any]]) -> None:
    # Many segments can be in one file.
    files = list(dict.fromkeys(row[name] for row in rows for name in _FILES if name in row))
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of {len(files)} audio files are missing, first"
            f" {missing[0]}; check the data folder, or prepare again"
        )


# -- prepared folders ------------------------------------------------------------------------------


def write_sets(folder: Path, data_root: str | Path, names: Sequence[str], how: str = "") -> None:
    """Write `sets.json` into a folder of manifests, unless it has this content already.

    It has the data root and the names of the sets. If the corpus has no splits, it also describes
    for people how the clips were split.
    """
    about = {"data_root": str(data_root), "sets": list(names)} | ({"split": how} if how else {})
    text, path = json.dumps(about, indent=2) + "\n", folder / SETS_NAME
    if not path.is_file() or path.read_bytes() != text.encode():
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def is_prepared(folder: str | Path) -> bool:
    """Whether a folder holds manifests that a preparation made."""
    return (Path(folder).expanduser() / SETS_NAME).is_file()


def find_manifests(source: str | Path) -> dict[str, Path]:
    """Manifests by set: those of a prepared folder, or the one that `source` is; else none."""
    path = Path(source).expanduser()
    if path.suffix.lower() == ".csv" and path.is_file():
        return {path.stem: path}
    if is_prepared(path):
        return {name: path / f"{name}.csv" for name in prepared_names(path)}
    return {}


def root_of_manifest(manifest: Path, data_folder: str | Path | None = None) -> Path | None:
    """Data root of a manifest: as given, or from the `sets.json` beside it; None without both."""
    if data_folder is not None:
        return Path(data_folder).expanduser()
    return prepared_root(manifest.parent) if is_prepared(manifest.parent) else None


def read_prepared(folder: str | Path) -> dict[str, list[dict[str, Any]]]:
    """Read the rows of each set of a prepared folder, as `read_manifest`, by name.

    Raises `UserError` if it is not a prepared folder, or a manifest or audio file is missing.
    """
    place, root = Path(folder).expanduser(), prepared_root(folder)
    return {name: read_manifest(place / f"{name}.csv", root) for name in prepared_names(folder)}


def prepared_names(folder: str | Path) -> list[str]:
    """Names of the sets of a prepared folder."""
    return _read_sets(folder)["sets"]


def prepared_root(folder: str | Path) -> Path:
    """Data root of a prepared folder."""
    return Path(_read_sets(folder)["data_root"]).expanduser()


def prepared_how(folder: str | Path) -> str:
    """How the clips of a prepared folder were split; "" if the corpus has its own splits."""
    return _read_sets(folder)["split"]


def _read_sets(folder: str | Path) -> dict[str, Any]:
    path = Path(folder).expanduser() / SETS_NAME
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        names = [str(name) for name in about["sets"]]
        root, how = str(about["data_root"]), str(about.get("split", ""))
        return {"data_root": root, "sets": names, "split": how}
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file; run the preparation (skip_prep off) first"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not as the preparation writes it; prepare again") from error
