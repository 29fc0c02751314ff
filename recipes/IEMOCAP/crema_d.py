"""Clips of CREMA-D with their emotions: AudioWAV/<actor>_<sentence>_<emotion>_<level>.wav."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from focalcodec.data.corpus import FoundClip, FoundFile, SetSource
from focalcodec.errors import UserError

FOLDER, DEMOGRAPHICS = "AudioWAV", "VideoDemographics.csv"
EMOTIONS = {"ANG": "angry", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
OTHERS = ("DIS", "FEA")
SENTENCES = {
    "DFA": "Don't forget a jacket",
    "IEO": "It's eleven o'clock",
    "IOM": "I'm on my way to the meeting",
    "ITH": "I think I have a doctor's appointment",
    "ITS": "I think I've seen this before",
    "IWL": "I would like a new alarm clock",
    "IWW": "I wonder what this is about",
    "MTI": "Maybe tomorrow it will be cold",
    "TAI": "The airplane is almost full",
    "TIE": "That is exactly what happened",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
# XX: no level; one clip of the corpus has a single X.
_NAME = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_(LO|MD|HI|XX?)")


def crema_d_source(root: Path) -> SetSource:
    """Folder of the clips; UserError if it is missing."""
    if not (root / FOLDER).is_dir():
        raise UserError(f"data_folder {root}: no folder {FOLDER}; name the root of CREMA-D")
    genders = _genders(root / DEMOGRAPHICS)
    return SetSource([FOLDER], find_clips, {"genders": genders, "corpus": "crema-d"})


def find_clips(data_root: Path, files: Sequence[FoundFile]) -> list[FoundClip]:
    """Clips in one of the four emotions; files with names of another form are broken.

    Parameters
    ----------
    data_root : Path
        Root of the corpus.
    files : sequence of FoundFile
        Content of its folder of audio.

    Returns
    -------
    list of FoundClip
        `gender` is "" if `VideoDemographics.csv` lacks it.

    Example
    -------
    >>> files = [FoundFile("AudioWAV/1001_DFA_ANG_XX.wav", 0, 0)]
    >>> clip = find_clips(Path("CREMA-D"), files)[0]
    >>> clip.spk_id, clip.wrd, clip.extra["emotion"]
    ('1001', "Don't forget a jacket", 'angry')
    """
    genders = _genders(data_root / DEMOGRAPHICS)
    clips = []
    for path in (PurePosixPath(file.path) for file in files):
        if path.suffix.lower() != ".wav":
            continue
        found = _NAME.fullmatch(path.stem)
        if found is None or found[3] not in (*EMOTIONS, *OTHERS):
            problem = f"{data_root / path}: not named <actor>_<sentence>_<emotion>_<level>.wav"
            clips.append(FoundClip(path.stem, str(path), problem=problem))
        elif found[3] in EMOTIONS:
            about = {"emotion": EMOTIONS[found[3]], "gender": genders.get(found[1], "")}
            text = SENTENCES.get(found[2], "")
            clips.append(FoundClip(path.stem, str(path), found[1], text, about))
    return clips


def _genders(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    rows = csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig", "replace")))
    about = [(row.get("ActorID"), row.get("Sex")) for row in rows]
    return {actor: sex.lower() for actor, sex in about if actor and sex}
