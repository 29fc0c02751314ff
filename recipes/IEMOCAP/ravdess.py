"""Clips of RAVDESS with their emotions: Actor_01/03-01-05-01-01-01-01.wav.

The numbers mean: modality, vocal channel, emotion, intensity, statement, repetition, actor.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from focalcodec.data.corpus import FoundClip, FoundFile, SetSource
from focalcodec.errors import UserError

EMOTIONS = {"01": "neutral", "03": "happy", "04": "sad", "05": "angry"}
STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
AUDIO_ONLY, SPEECH = "03", "01"
_NAME = re.compile(r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d\d)")


def ravdess_source(root: Path) -> SetSource:
    """Folder of the clips; UserError if no actor has a folder."""
    if not any(path.is_dir() for path in root.rglob("Actor_*")):
        raise UserError(f"data_folder {root}: no folder Actor_01; name the root of RAVDESS")
    return SetSource([""], find_clips, {"corpus": "ravdess"})


def find_clips(data_root: Path, files: Sequence[FoundFile]) -> list[FoundClip]:
    """Spoken clips in one of the four emotions; files with names of another form are broken.

    Parameters
    ----------
    data_root : Path
        Root of the corpus.
    files : sequence of FoundFile
        Files in any folder below the root; song is left out.

    Returns
    -------
    list of FoundClip
        With `gender`: actors with odd numbers are men.

    Example
    -------
    >>> files = [FoundFile("Actor_02/03-01-05-01-02-01-02.wav", 0, 0)]
    >>> clip = find_clips(Path("RAVDESS"), files)[0]
    >>> clip.spk_id, clip.wrd, clip.extra
    ('02', 'Dogs are sitting by the door', {'emotion': 'angry', 'gender': 'female'})
    """
    clips = []
    for path in (PurePosixPath(file.path) for file in files):
        if path.suffix.lower() != ".wav":
            continue
        found = _NAME.fullmatch(path.stem)
        if found is None:
            problem = f"{data_root / path}: its name is not seven numbers of RAVDESS"
            clips.append(FoundClip(path.stem, str(path), problem=problem))
            continue
        modality, channel, emotion, _, statement, _, actor = found.groups()
        if (modality, channel) == (AUDIO_ONLY, SPEECH) and emotion in EMOTIONS:
            gender = "male" if int(actor) % 2 else "female"
            about = {"emotion": EMOTIONS[emotion], "gender": gender}
            clips.append(FoundClip(path.stem, str(path), actor, STATEMENTS[statement], about))
    return clips
