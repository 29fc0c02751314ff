"""Make the manifests of a corpus' sets; every dataset's preparation uses this module.

Manifests are made again when, and only when, files or options have changed. A manifest that a
person changed is never replaced without `overwrite`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from focalcodec.audio import audio_info, check_channels
from focalcodec.data.corpus import (
    FoundClip,
    FoundFile,
    PrepareOptions,
    SetSource,
    check_data_folder,
    walk_files,
)
from focalcodec.data.manifest import write_csv, write_manifest, write_sets
from focalcodec.errors import UserError
from focalcodec.files import AUDIO_SUFFIXES, atomic_path, file_sha256
from focalcodec.progress import ProgressBar

Row = dict[str, Any]


class EditedError(UserError):
    """A manifest that a person changed would be made again."""


_FORMAT = 2  # of the manifest and of its key: a new number remakes all manifests
_logger = logging.getLogger(__name__)


def prepare_sets(
    data_root: str | Path,
    save_folder: str | Path,
    sets: Mapping[str, SetSource],
    options: PrepareOptions,
    skip_prep: bool = False,
    num_threads: int = 8,
) -> None:
    """Make `<name>.csv` for each set, and `sets.json`, which names the sets.

    Broken clips are left out and listed in `<name>.skipped.csv`. A set that was made from the same
    files with the same options is kept. The data folder is only read.

    Parameters
    ----------
    data_root, save_folder : str or path
        Root of the corpus; folder for the manifests.
    sets : mapping of str to SetSource
        Sets by name: "train", "valid", "test", and any others.
    options : PrepareOptions
        Which clips to accept.
    skip_prep : bool
        Return at once: the manifests exist.
    num_threads : int
        Threads that read headers.

    Raises
    ------
    UserError
        A folder is missing, there are no clips, two clips have one ID, or too many are broken.
    """
    if skip_prep:
        return
    root, folder = check_data_folder(data_root, save_folder), Path(save_folder).expanduser()
    for name, source in sets.items():
        report = folder / f"{name}.skipped.csv"
        all_to_one = partial(_all_to, name)
        build_manifests(
            [folder / f"{name}.csv"], root, source, options, all_to_one, report, num_threads
        )
    # Not made absolute: with a relative root, both folders can be moved together.
    write_sets(folder, data_root, list(sets))


def _all_to(name: str, rows: list[Row]) -> dict[str, list[Row]]:
    return {name: rows}


def prepare_shares(
    data_root: Path,
    save_folder: str | Path,
    source: SetSource,
    share_out: Callable[[list[Row]], Mapping[str, list[Row]]],
    options: PrepareOptions,
    how: str,
) -> None:
    """Make `train.csv`, `valid.csv` and `test.csv` from one source, not from three.

    `share_out` splits the rows of all clips into the sets. The source's details must describe the
    split, and `how` describes it for people. Errors are those of `prepare_sets`.
    """
    folder = Path(save_folder).expanduser()
    names = ("train", "valid", "test")
    manifests = [folder / f"{name}.csv" for name in names]
    build_manifests(manifests, data_root, source, options, share_out, folder / "skipped.csv")
    write_sets(folder, data_root, names, how)


def build_manifests(
    manifests: Sequence[Path],
    data_root: Path,
    source: SetSource,
    options: PrepareOptions,
    share_out: Callable[[list[Row]], Mapping[str, list[Row]]],
    report: Path,
    num_threads: int = 8,
    remake: bool = False,
    overwrite: bool = False,
) -> bool:
    """Make the manifests of all sets from one source; True if made, False if kept.

    A sidecar, `<manifest>.json`, holds the key: options, folders, details, and a digest of names,
    sizes and times of the files. If the key differs, or with `remake`, all are made again, but an
    edited manifest only with `overwrite`. `share_out` splits rows of whole files into rows of each
    manifest, by its stem; these may be parts of files. Broken clips are left out and listed in
    `report`. Errors are those of `prepare_sets`, and `EditedError`.
    """
    files = [file for folder in source.folders for file in walk_files(data_root, folder)]
    key = _key(source, options, files)
    edited = [manifest for manifest in manifests if _is_edited(manifest)]
    current = all(_is_current(manifest, key) for manifest in manifests)
    if current and not (remake or overwrite):
        for manifest in edited:
            _logger.warning(f"{manifest}: changed after it was made; kept as it is")
        return False
    if edited and not overwrite:
        if not _read_sidecar(edited[0]):
            raise EditedError(
                f"{_sidecar(edited[0])}: damaged, so {edited[0].name} may have been changed by"
                " hand; give another folder, or remove both to make them again"
            )
        raise EditedError(
            f"{edited[0]}: changed by hand after it was made, and now the files or options are"
            " others; give another folder, or remove it to make it again"
        )
    clips = source.find(data_root, files)
    _check_found(clips, data_root, source.folders)
    rows, broken = _check_clips(clips, data_root, options, num_threads, report.name.split(".")[0])
    _report_broken(report, broken, len(clips), options.max_broken_share)
    sets = share_out(rows)
    for manifest in manifests:
        cut = cut_long(sets[manifest.stem], options.segment_seconds)
        with atomic_path(manifest) as made:
            write_manifest(made, cut)
            content = {"key": key, **_summarise(manifest, cut), "sha256": file_sha256(made)}
            manifest.unlink(missing_ok=True)  # a kill here leaves no manifest, not another one
            with atomic_path(_sidecar(manifest)) as temporary:
                temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return True


def _key(source: SetSource, options: PrepareOptions, files: list[FoundFile]) -> dict[str, Any]:
    found = repr([(file.path, file.size, file.modified_ns) for file in files])
    return {
        "format": _FORMAT,
        "folders": list(source.folders),
        "details": json.loads(json.dumps(dict(source.details))),
        "options": vars(options),
        "files": len(files),
        "bytes": sum(file.size for file in files),
        "digest": hashlib.sha256(found.encode()).hexdigest(),
    }


def _summarise(manifest: Path, rows: list[Row]) -> dict[str, Any]:
    without = sum(not row["wrd"] for row in rows)
    if 0 < without < len(rows):
        _logger.warning(f"{manifest}: {without} of {len(rows)} clips have no transcript; kept")
    seconds = round(sum(row["duration"] for row in rows), 3)
    _logger.info(f"{manifest}: {len(rows)} clips, {seconds / 3600:.2f} h")
    return {"clips": len(rows), "seconds": seconds, "without_transcript": without}


def _sidecar(manifest: Path) -> Path:
    return manifest.with_name(manifest.name + ".json")


def _read_sidecar(manifest: Path) -> dict[str, Any] | None:
    """Content of the sidecar, {} if it is damaged, None if there is none."""
    try:
        sidecar = json.loads(_sidecar(manifest).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return sidecar if isinstance(sidecar, dict) else {}


def _is_current(manifest: Path, key: dict[str, Any]) -> bool:
    if not manifest.is_file():
        return False
    if (_read_sidecar(manifest) or {}).get("key") != key:
        _logger.info(f"{manifest}: made with other options or files; making it again")
        return False
    return True


def _is_edited(manifest: Path) -> bool:
    """Whether a person changed a manifest; `UserError` if a preparation did not make it."""
    if not manifest.is_file():
        return False
    sidecar = _read_sidecar(manifest)
    if sidecar is None:
        raise UserError(f"{manifest}: not made by a preparation; give another folder, or remove it")
    # with a damaged sidecar it may have been changed; those of old versions have no hash
    return not sidecar or sidecar.get("sha256", "") not in ("", file_sha256(manifest))


def _check_found(clips: list[FoundClip], data_root: Path, folders: Sequence[str]) -> None:
    if not clips:
        raise UserError(
            f"{data_root}: no clips in {', '.join(folders)}; audio files"
            f" ({', '.join(AUDIO_SUFFIXES)}) must be in the tree of the recipe's README"
        )
    seen: dict[str, str] = {}
    for clip in clips:
        first = seen.setdefault(clip.id, clip.wav)
        if first != clip.wav:
            raise UserError(
                f"{data_root}: ID {clip.id!r} twice, {first} and {clip.wav}; remove one of them"
            )


def _check_clips(
    clips: list[FoundClip], data_root: Path, options: PrepareOptions, num_threads: int, name: str
) -> tuple[list[Row], list[dict[str, str]]]:
    """Rows of whole files, and path and reason of each broken clip."""
    check = partial(_check_clip, data_root=data_root, options=options)
    rows, broken = [], []
    with ThreadPool(num_threads) as pool:
        results = pool.imap(check, clips, chunksize=16)
        bar = ProgressBar(results, name, len(clips), unit="clips")
        for clip, result in zip(clips, bar, strict=True):
            if isinstance(result, str):
                broken.append({"path": clip.wav, "reason": result})
            else:
                rows.append(result)
    return rows, broken


def _check_clip(clip: FoundClip, data_root: Path, options: PrepareOptions) -> Row | str:
    if clip.problem:
        return clip.problem
    path = data_root / clip.wav
    try:
        info = audio_info(path)
        check_channels(path, info.channels, options.channels)
        start, stop = clip.span or (0, info.num_samples)
        seconds = (stop - start) / info.sample_rate
        if not 0 <= start <= stop <= info.num_samples:
            raise UserError(f"{path}: {start} to {stop} do not fit its {info.num_samples} samples")
        if seconds < options.min_seconds:
            raise UserError(
                f"{path}: {seconds:.3f} s, shorter than min_seconds={options.min_seconds}"
            )
    except UserError as error:
        return str(error)
    row = {
        "ID": clip.id,
        "duration": round(info.seconds, 6),
        "wav": clip.wav,
        "spk_id": clip.spk_id,
        "wrd": clip.wrd,
        "sample_rate": info.sample_rate,
        "num_samples": info.num_samples,
        **clip.extra,
    }
    if clip.span:
        row = segment_row(row, clip.id, start, stop) | {"wrd": clip.wrd}
    # Training accepts several channels only if the manifest states how to read them.
    return row if options.channels == "error" else {**row, "channels": options.channels}


def _report_broken(
    report: Path, broken: list[dict[str, str]], num_clips: int, max_broken_share: float
) -> None:
    if not broken:
        report.unlink(missing_ok=True)
        return
    write_csv(report, ["path", "reason"], broken)
    line = f"{len(broken)} of {num_clips} clips are broken, listed in {report}"
    if len(broken) > max_broken_share * num_clips or len(broken) == num_clips:
        raise UserError(
            f"{line}; first: {broken[0]['reason']}; repair them, or raise"
            f" max_broken_share={max_broken_share}"
        )
    _logger.warning(f"{line}; left out")


# -- segments --------------------------------------------------------------------------------------


def cut_long(rows: Sequence[Row], segment_seconds: float | None) -> list[Row]:
    """Cut rows that are longer than a segment into equal segments.

    IDs of segments end in a number. If one row has `start` and `stop`, all get them.

    Example
    -------
    >>> row = {"ID": "a", "duration": 5.0, "sample_rate": 4, "num_samples": 20, "wrd": "YES"}
    >>> [(x["ID"], x["start"], x["stop"]) for x in cut_long([row], 2)]
    [('a_0000', 0, 6), ('a_0001', 6, 13), ('a_0002', 13, 20)]
    """
    limit = math.inf if segment_seconds is None else segment_seconds
    used = {row["ID"] for row in rows}
    cut = []
    for row in rows:
        count = math.ceil(row["num_samples"] / row["sample_rate"] / limit)
        if count < 2:
            cut.append(row)
            continue
        first = row.get("start", 0)
        edges = [first + row["num_samples"] * place // count for place in range(count + 1)]
        name = row["ID"]
        # The name of a file can be equal to that of a segment of another file.
        while any(f"{name}_{place:04d}" in used for place in range(count)):
            name += "_"
        segments = [
            segment_row(row, f"{name}_{place:04d}", *edge)
            for place, edge in enumerate(itertools.pairwise(edges))
        ]
        used.update(x["ID"] for x in segments)
        cut += segments
    if any("start" in row for row in cut):
        cut = [row if "start" in row else {**row, **_whole(row)} for row in cut]
    return cut


def _whole(row: Row) -> dict[str, int]:
    return {"start": 0, "stop": row["num_samples"]}


def segment_row(row: Row, name: str, start: int, stop: int) -> Row:
    """Row of a part of a file, with ID `name`, without the transcript, which is of the whole."""
    samples = stop - start
    seconds = round(samples / row["sample_rate"], 6)
    span = {"num_samples": samples, "start": start, "stop": stop}
    return {**row, "ID": name, "duration": seconds, "wrd": "", **span}
