"""Clips of EMO-DB with their emotions: wav/03a01Fa.wav.

A name means: actor, sentence, first letter of the German word for the emotion, version. Copies
that are sorted by class, such as angry/03a02Wb.wav, are read too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from focalcodec.data.corpus import FoundClip, FoundFile, SetSource, walk_files
from focalcodec.errors import UserError
from focalcodec.files import AUDIO_SUFFIXES

EMOTIONS = {"W": "angry", "F": "happy", "N": "neutral", "T": "sad"}
OTHERS = {"L": "bored", "E": "disgusted", "A": "fearful"}
GENDERS = dict.fromkeys(("03", "10", "11", "12", "15"), "male")
GENDERS |= dict.fromkeys(("08", "09", "13", "14", "16"), "female")
SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank",
    "a02": "Das will sie am Mittwoch abgeben",
    "a04": "Heute abend könnte ich es ihm sagen",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück",
    "a07": "In sieben Stunden wird es soweit sein",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen",
}
_NAME = re.compile(r"(\d\d)([ab]\d\d)([WFNTLEA])[a-z]?")


def emodb_source(root: Path) -> SetSource:
    """Folder of the clips; UserError if none has a name of EMO-DB."""
    if not any(_NAME.fullmatch(PurePosixPath(file.path).stem) for file in walk_files(root, "")):
        raise UserError(f"data_folder {root}: no wav/03a01Fa.wav; name the root of EMO-DB")
    return SetSource([""], find_clips, {"corpus": "emodb"})


def find_clips(data_root: Path, files: Sequence[FoundFile]) -> list[FoundClip]:
    """Clips in one of the four emotions; files with names of another form are broken.

    Parameters
    ----------
    data_root : Path
        Root of the corpus.
    files : sequence of FoundFile
        Files in any folder below the root. A clip in the folder of another class is broken.

    Returns
    -------
    list of FoundClip
        With `emotion` and `gender`.

    Example
    -------
    >>> clip = find_clips(Path("EMO-DB"), [FoundFile("wav/03a01Fa.wav", 0, 0)])[0]
    >>> clip.spk_id, clip.wrd, clip.extra
    ('03', 'Der Lappen liegt auf dem Eisschrank', {'emotion': 'happy', 'gender': 'male'})
    """
    clips = []
    for path in (PurePosixPath(file.path) for file in files):
        if path.suffix.lower() not in AUDIO_SUFFIXES:
            continue
        found = _NAME.fullmatch(path.stem)
        if found is None:
            problem = f"{data_root / path}: not named <actor><sentence><emotion><version>, 03a01Fa"
            clips.append(FoundClip(path.stem, str(path), problem=problem))
            continue
        actor, sentence, letter = found.groups()
        emotion, folder = {**EMOTIONS, **OTHERS}[letter], path.parent.name
        if folder in EMOTIONS.values() and folder != emotion:
            problem = f"{data_root / path}: letter {letter} is {emotion}, but the folder {folder}"
            clips.append(FoundClip(path.stem, str(path), problem=problem))
        elif letter in EMOTIONS:
            about = {"emotion": emotion, "gender": GENDERS.get(actor, "")}
            text = SENTENCES.get(sentence, "")
            clips.append(FoundClip(path.stem, str(path), actor, text, about))
    return clips
