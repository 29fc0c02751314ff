"""Manifests: CSV files in SpeechBrain's columns that say what a set consists of.

Paths begin with `$data_root`, so that the data folder and the manifests can both be moved.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from focalcodec.errors import UserError
from focalcodec.files import atomic_path

DATA_ROOT = "$data_root"
REQUIRED_COLUMNS = ("ID", "duration", "wav")
COLUMNS = ("ID", "duration", "wav", "spk_id", "wrd", "sample_rate", "num_samples")
_NUMBERS: dict[str, type] = {
    **{"duration": float, "sample_rate": int, "num_samples": int},
    **{"start": int, "stop": int},
}
_FILES = ("wav", "noisy")


def write_manifest(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a manifest, or nothing.

    Parameters
    ----------
    path : str or path
        CSV file to write; never left half-written.
    rows : iterable of mapping
        One a clip, with `COLUMNS` and any others that all rows have. `wav` is relative to the
        data root, with forward slashes; further paths begin with `DATA_ROOT`. A clip that is
        part of a file has `start` and `stop`: its first sample and the one behind its last.

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
    """Write a CSV file in UTF-8, or nothing.

    Parameters
    ----------
    path : str or path
        File to write; never left half-written.
    columns : list of str
        Names, in order.
    rows : iterable of mapping
        Values by name.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_csv(f"{folder}/a.csv", ["path", "reason"], [{"path": "x", "reason": "y"}])
    """
    # File names that are not UTF-8 must survive the way there and back: surrogateescape.
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_manifest(
    path: str | Path, data_root: str | Path, check_files: bool = True
) -> list[dict[str, Any]]:
    """Read a manifest of ours or any CSV with the columns ID, duration (seconds) and wav.

    Parameters
    ----------
    path : str or path
        CSV file.
    data_root : str or path
        Folder that takes the place of `$data_root`.
    check_files : bool
        Refuse a manifest whose audio files are not there.

    Returns
    -------
    list of dict
        One a clip, in the manifest's order: numbers as numbers, `wav` and all else that begins
        with `$data_root/` as the whole path, `spk_id` and `wrd` empty where the manifest has
        none. `start` and `stop` (samples at the file's rate) are there for parts of files.

    Raises
    ------
    UserError
        No such manifest, no rows, missing columns, a broken line, an ID twice, a start without
        a stop behind it, missing audio (of `wav` and `noisy`).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such manifest; run the preparation (skip_prep off) first")
    rows: list[dict[str, Any]] = []
    lines: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file)
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
        raise UserError(f"{path}: not a CSV file ({error}); prepare it again") from error
    if not rows:
        raise UserError(f"{path}: no clips; prepare it again with other splits or options")
    if check_files:
        _check_files(path, rows)
    return rows


def refuse_segments(path: str | Path, rows: Iterable[Mapping[str, Any]], way_out: str) -> None:
    """Refuse rows that are parts of files, for what reads whole files only.

    Parameters
    ----------
    path : str or path
        Manifest, to be named.
    rows : iterable of mapping
        Its rows.
    way_out : str
        What to do instead.

    Raises
    ------
    UserError
        A row with `start`.

    Example
    -------
    >>> refuse_segments("a.csv", [{"ID": "a", "start": 0, "stop": 9}], "give the folder")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: a.csv: clip 'a' is a part of a file, 0 to 9; give the folder
    """
    for row in rows:
        if "start" in row:
            raise UserError(
                f"{path}: clip {row['ID']!r} is a part of a file, {row['start']} to {row['stop']};"
                f" {way_out}"
            )


def _parse_row(where: str, raw: dict[Any, Any], data_root: str) -> dict[str, Any]:
    if None in raw or None in raw.values():
        raise UserError(f"{where}: more or fewer values than columns; prepare it again")
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
        there, missing = ("start", "stop") if "start" in row else ("stop", "start")
        raise UserError(f"{where}: column {there} without {missing}; a part of a file needs both")
    if "start" not in row:
        return
    samples = row["stop"] - row["start"]
    if samples < 1 or samples != row.get("num_samples", samples):
        of = f" of {row['num_samples']} samples" if "num_samples" in row else ""
        raise UserError(
            f"{where}: start={row['start']}, stop={row['stop']} is no segment{of}; prepare it again"
        )


def _check_files(path: Path, rows: list[dict[str, Any]]) -> None:
    # Many segments may be of one file.
    files = list(dict.fromkeys(row[name] for row in rows for name in _FILES if name in row))
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of {len(files)} audio files are not there, first"
            f" {missing[0]}; check the data folder, or prepare again"
        )
