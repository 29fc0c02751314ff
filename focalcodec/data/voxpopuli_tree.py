"""Clips in the tree of VoxPopuli: speech with transcripts, and speech without.

transcribed_data/<language>/asr_{train,dev,test}.tsv
transcribed_data/<language>/<year>/<id>.ogg
unlabelled_data/<language>/<year>/<recording>_<language>_<number>.ogg
raw_audios/<language>/<year>/<recording>_<language>.ogg
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from focalcodec.data.corpus import FoundClip, FoundFile
from focalcodec.errors import UserError
from focalcodec.files import read_text, split_lines

TRANSCRIBED = "transcribed_data"
UNLABELLED = (
    "unlabelled_data",
    "raw_audios",
)  # segments, or whole recordings
COLUMNS = ("id", "raw_text", "normalized_text", "speaker_id")

_logger = logging.getLogger(__name__)


def find_clips(
    data_root: Path, files: list[FoundFile], split: str, transcribed: Sequence[str]
) -> list[FoundClip]:
    """Clips of one split, and of speech without transcripts.

    Parameters
    ----------
    data_root : Path
        Folder with `transcribed_data`.
    files : list of FoundFile
        Each of `unlabelled_data` and `raw_audios` is a clip.
    split : str
        "train", "dev" or "test".
    transcribed : sequence of str
        Folders of `transcribed_data`; their tsv files list the clips.

    Returns
    -------
    list of FoundClip
        With a column `language`.

    Raises
    ------
    UserError
        A tsv can't be read.

    Example
    -------
    >>> from focalcodec.data.corpus import embedded_corpus
    >>> root = embedded_corpus("VoxPopuli")
    >>> clip = find_clips(root, [], "test", ["transcribed_data/it"])[0]
    >>> clip.wav
    'transcribed_data/it/2010/201004-PLENARY-it_test_00.ogg'
    >>> clip.spk_id, clip.wrd, clip.extra
    ('carlo', 'ora sarete inseriti nella conferenza', {'language': 'it'})
    """
    clips = [clip for folder in transcribed for clip in tsv_clips(data_root, folder, split)]
    if not clips:
        tsvs = ", ".join(f"{folder}/{tsv_name(split)}" for folder in transcribed)
        raise UserError(f"{data_root}: no clips in {tsvs}; make them again")
    return clips + unlabelled_clips(data_root, files, transcribed)


def is_table(path: Path) -> bool:
    """Whether a file is a table of VoxPopuli's clips."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return set(COLUMNS) <= set(file.readline().rstrip("\r\n").split("\t"))


def tsv_clips(data_root: Path, folder: str, split: str) -> list[FoundClip]:
    """Clips that a table lists, with a column `language`; bad lines are clips with a problem."""
    language = (data_root / folder).absolute().name
    tsv = str(PurePosixPath(folder, tsv_name(split)))
    clips: list[FoundClip] = []
    lines: dict[str, int] = {}
    for number, row in _read_tsv(data_root / tsv):
        name = row["id"]
        problem = ""
        if None in row or None in row.values() or not name:
            problem = "no ID" if not name else "more or fewer values than columns"
        elif name in lines:
            problem = f"ID {name!r} is on line {lines[name]} already"
        if problem:
            problem = f"{data_root / tsv}, line {number}: {problem}"
            clips.append(FoundClip(f"{tsv}:{number}", tsv, problem=problem))
            continue
        lines[name] = number
        clips.append(
            FoundClip(
                id=name,
                wav=str(PurePosixPath(folder, name[:4], f"{name}.ogg")),
                spk_id=row["speaker_id"],
                wrd=row["normalized_text"] or row["raw_text"],
                extra={"language": language},
            )
        )
    return clips


def _read_tsv(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Line number and values of each line with content."""
    # The files are written without quoting: a quotation mark is part of a transcript.
    lines = split_lines(read_text(path))
    reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        rows = [(reader.line_num, row) for row in reader if any(row.values())]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}; make it again") from error
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
    if missing:
        raise UserError(
            f"{path}: no column {missing[0]!r} among {reader.fieldnames or []}; make it again with"
            " VoxPopuli's get_asr_data"
        )
    return rows


def unlabelled_clips(
    data_root: Path, files: Sequence[FoundFile], transcribed: Sequence[str]
) -> list[FoundClip]:
    """Clips without transcripts, but not those of recordings that dev or test have clips of."""
    paths = [PurePosixPath(file.path) for file in files]
    paths = [path for path in paths if path.parts[0] in UNLABELLED and path.suffix == ".ogg"]
    held_out = {
        PurePosixPath(folder).name: _recordings(data_root, folder) for folder in transcribed
    }
    clips = []
    for path in paths:
        language = path.parts[1]
        # <recording>_<language>, and a number if it is a segment
        recording = path.stem.rpartition(f"_{language}")[0]
        if recording not in held_out.get(language, ()):
            clips.append(FoundClip(path.stem, str(path), extra={"language": language}))
    if len(clips) < len(paths):
        _logger.info(
            "%d of %d unlabelled files are left out, because they contain clips of dev or test",
            len(paths) - len(clips),
            len(paths),
        )
    return clips


def _recordings(data_root: Path, folder: str) -> set[str]:
    """Possible names of the recordings of dev and test clips: a clip's ID is <recording>-<rest>."""
    tsvs = [data_root / folder / tsv_name(split) for split in ("dev", "test")]
    names = [row["id"] for tsv in tsvs if tsv.is_file() for _, row in _read_tsv(tsv)]
    return {name[:at] for name in names for at, sign in enumerate(name) if sign == "-"}


def tsv_name(split: str) -> str:
    """Name of a split's table."""
    return f"asr_{split}.tsv"
