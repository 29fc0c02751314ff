"""Any folder of audio: its clips, split into sets for training, validation and test."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from focalcodec.data.corpus import (
    OWN_OPTIONS,
    FoundClip,
    FoundFile,
    PrepareOptions,
    SetSource,
    ShareOptions,
    check_data_folder,
    path_ids,
)
from focalcodec.data.manifest import SETS_NAME, prepared_how, write_sets
from focalcodec.data.prepare import Row, build_manifests
from focalcodec.data.shares import SETS, first_copies, share_out
from focalcodec.errors import UserError
from focalcodec.files import AUDIO_SUFFIXES, read_text

REPORT_NAME = "skipped.csv"
_logger = logging.getLogger(__name__)
_LONGEST_TEXT = 100_000  # characters: the limit of the reader of CSV files is 131072


def find_clips(data_root: Path, files: Sequence[FoundFile], language: str = "") -> list[FoundClip]:
    """Find the clips of a folder: every audio file below it, in the files' order.

    The speaker is the first folder below the root, "" for files in the root itself; the transcript
    is the text of `<clip>.txt` beside the clip. If `language` (ISO 639-1, of all clips) is given,
    it is written as a column. Raises `UserError` if there is no audio.
    """
    paths = [file.path for file in files if _is_audio(file.path)]
    if not paths:
        raise UserError(
            f"{data_root}: no audio files ({', '.join(AUDIO_SUFFIXES)}); check the path"
        )
    known = {file.path for file in files}
    extra = {"language": language} if language else {}
    clips = []
    for name, path in zip(path_ids(paths), paths, strict=True):
        speaker, slash, _ = path.partition("/")
        text = os.path.splitext(path)[0] + ".txt"
        words = _read_text(data_root / text) if text in known else ""
        clip_id, spk_id = _readable(name), _readable(speaker) if slash else ""
        clips.append(FoundClip(clip_id, path, spk_id, words, extra))
    return clips


def prepare_own(
    folder: str | Path,
    save_folder: str | Path,
    skip_prep: bool = False,
    max_broken_share: float = 0.05,
    options: PrepareOptions = OWN_OPTIONS,
    shares: ShareOptions | None = None,
    language: str = "",
    overwrite: bool = False,
) -> None:
    """Make `train.csv`, `valid.csv`, `test.csv` and `sets.json` for any folder of audio.

    Manifests that were made from the same files with the same options are kept. Broken files are
    listed in `skipped.csv`.

    Parameters
    ----------
    folder, save_folder : str or path
        Any tree with audio files, which is only read; folder for the manifests.
    skip_prep : bool
        Return at once: the manifests exist.
    max_broken_share : float
        A larger share of broken files stops the preparation; the value in `options` is not used.
    options, shares : PrepareOptions, ShareOptions
        Which files to accept; how they are split into sets.
    language : str
        ISO 639-1, of all clips; written as a column.
    overwrite : bool
        Make manifests again that a person changed.

    Raises
    ------
    UserError
        There is no such folder, no audio or too little of it, too many files are broken, the save
        folder is inside the folder, or a manifest that was changed by hand would be made again.
    """
    if skip_prep:
        return
    shares = shares or ShareOptions()
    root, save = _check_folders(folder, save_folder)
    manifests = [save / f"{name}.csv" for name in SETS]
    details = {**asdict(shares), "language": language}
    source = SetSource([""], lambda root, files: find_clips(root, files, language), details)
    how = _how_before(save)
    remake = how is None

    def share(rows: list[Row]) -> dict[str, list[Row]]:
        nonlocal how
        sets, how = share_out(rows, _find_copies(root, rows), shares, str(root))
        # If the preparation stops after this line, the folder counts as not prepared.
        (save / SETS_NAME).unlink(missing_ok=True)
        return sets

    accepted = replace(options, max_broken_share=max_broken_share)
    report = save / REPORT_NAME
    build_manifests(
        manifests, root, source, accepted, share, report, remake=remake, overwrite=overwrite
    )
    write_sets(save, root, SETS, how or "")


def _check_folders(folder: str | Path, save_folder: str | Path) -> tuple[Path, Path]:
    """Both folders; the first absolute, because the manifests are used from other folders."""
    root, save = Path(folder).expanduser().absolute(), Path(save_folder).expanduser()
    if not root.is_dir():
        raise UserError(f"{folder}: no such folder; give a folder of audio")
    check_data_folder(folder, save_folder)
    return root, save


def _find_copies(root: Path, rows: Sequence[Row]) -> dict[str, str]:
    copies = first_copies(root, [row["wav"] for row in rows])
    for copy, first in list(copies.items())[:1]:
        _logger.warning(
            f"{root}: {len(copies)} files have the same bytes as another one, such as {copy} and"
            f" {first}; copies are kept in one set"
        )
    return copies


def _how_before(save: Path) -> str | None:
    """How a folder's clips were split; None if it is not prepared, or only in part."""
    try:
        return prepared_how(save)
    except UserError:
        return None


def _is_audio(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in AUDIO_SUFFIXES


def _readable(name: str) -> str:
    """A name that pictures and tables can show even if it is not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _read_text(path: Path) -> str:
    """Transcript in one line; "" if it can't be read or is too long."""
    try:
        text = " ".join(read_text(path).split())
    except UserError as error:
        _logger.warning(f"{error}; the transcript is left out")
        return ""
    return text if len(text) <= _LONGEST_TEXT else ""
