"""Real speakers: the first clip of each reader of LibriSpeech, train-clean-100 (OpenSLR 12)."""

from __future__ import annotations

from pathlib import Path

from demo_tree import SPEAKERS_NAME, DemoClip
from torch import Tensor

from focalcodec.audio import audio_info, read_audio
from focalcodec.data.corpus import walk_files
from focalcodec.data.librispeech_tree import find_clips
from focalcodec.errors import UserError
from focalcodec.files import read_text, split_lines

SPLIT = "train-clean-100"
LAST_TRAINED = 8000  # readers with a higher ID are in dev-libri


def find_readers(folder: str | Path) -> list[DemoClip]:
    """First clip of each reader, in `train-libri` and `dev-libri`; `source` is its path.

    Parameters
    ----------
    folder : str or path
        Folder with `train-clean-100` in it.

    Raises
    ------
    UserError
        There are no clips.
    """
    root = Path(folder).expanduser()
    found = find_clips(root, walk_files(root, SPLIT)) if (root / SPLIT).is_dir() else []
    first: dict[str, DemoClip] = {}
    for clip in sorted(found, key=lambda clip: clip.wav):
        reader, chapter, number = clip.id.split("-")
        split = "dev-libri" if int(reader) > LAST_TRAINED else "train-libri"
        one = DemoClip(split, reader, chapter, int(number), clip.wrd, root / clip.wav)
        first.setdefault(reader, one)
    if not first:
        raise UserError(
            f"librispeech_folder {folder}: no {SPLIT}/<reader>/<chapter>/<clip>.flac; name the"
            " folder LibriSpeech of OpenSLR 12"
        )
    return list(first.values())


def reader_names(folder: str | Path) -> dict[str, tuple[str, str]]:
    """F or M, and name, of each reader in LibriSpeech's table; no readers without a table."""
    path = Path(folder).expanduser() / SPEAKERS_NAME
    lines = split_lines(read_text(path)) if path.is_file() else []
    cells = [[cell.strip() for cell in line.split("|")] for line in lines if line[:1] != ";"]
    return {row[0]: (row[1], row[-1]) for row in cells if len(row) > 2}


def read_reader(clip: DemoClip) -> tuple[Tensor, int]:
    """Signal (T,) of a clip and its rate, Hz; `UserError` if the file can't be read."""
    rate = audio_info(clip.source).sample_rate
    return read_audio(clip.source, rate), rate
