"""Clips of IEMOCAP with their emotions.

Session<1..5>/sentences/wav/<dialog>/<dialog>_<F or M><number>.wav
Session<1..5>/dialog/EmoEvaluation/<dialog>.txt
Session<1..5>/dialog/transcriptions/<dialog>.txt
"""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from focalcodec.data.corpus import FoundClip, FoundFile, SetSource
from focalcodec.errors import UserError
from focalcodec.files import split_lines

# Excitement counts as happiness: the four classes have 5531 clips, of 10039.
EMOTIONS = {"ang": "angry", "hap": "happy", "exc": "happy", "neu": "neutral", "sad": "sad"}
OTHERS = ("fru", "fea", "sur", "dis", "oth", "xxx")  # xxx: the raters did not agree
GENDERS = {"F": "female", "M": "male"}
AUDIO, LABELS, TEXTS = "sentences/wav", "dialog/EmoEvaluation", "dialog/transcriptions"

# [6.2901 - 8.2357]	Ses01F_impro01_F000	neu	[2.5000, 2.5000, 2.5000]
_LABEL = re.compile(r"\[\d+\.\d+ - \d+\.\d+\]\s+(\S+)\s+(\S+)\s")
# Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
_TEXT = re.compile(r"(Ses\S+) \[[\d.]+-[\d.]+\]: *(.*)")
_logger = logging.getLogger(__name__)


def iemocap_sets(root: Path) -> dict[str, SetSource]:
    """Folders of "train", "valid" and "test" in a root that has Session1 to Session5.

    UserError if a folder is missing.
    """
    sessions_of = {"train": (range(1, 5), "FM"), "valid": ([5], "F"), "test": ([5], "M")}
    sets = {}
    for name, (sessions, genders) in sessions_of.items():
        folders = []
        for part in (AUDIO, LABELS, TEXTS):
            folders += [f"Session{number}/{part}" for number in sessions]
        _check_folders(root, [folder for folder in folders if not folder.endswith(TEXTS)])
        sets[name] = SetSource(folders, partial(find_clips, genders=genders), {"genders": genders})
    return sets


def find_clips(data_root: Path, files: Sequence[FoundFile], genders: str) -> list[FoundClip]:
    """Clips in one of the four emotions.

    Parameters
    ----------
    data_root : Path
        Root of the corpus.
    files : sequence of FoundFile
        Audio, labels and transcripts of some sessions.
    genders : str
        Speakers: "F", "M" or both.

    Returns
    -------
    list of FoundClip
        The label is the column `emotion`. A clip is broken if it has no audio, no file of labels,
        an unknown label, or a second label.
    """
    paths = [PurePosixPath(file.path) for file in files]
    # The folder of labels has subfolders with the labels of each rater.
    labels = [path for path in paths if str(path.parent).endswith(LABELS)]
    texts = [path for path in paths if str(path.parent).endswith(TEXTS)]
    audio = {path.stem: path for path in paths if f"/{AUDIO}/" in f"/{path}" and _is_wav(path)}
    labelled = {(path.parts[0], path.stem) for path in labels if path.suffix == ".txt"}
    words = dict(_texts(data_root, texts))
    clips: list[FoundClip] = []
    left_out: Counter[str] = Counter()
    seen: dict[str, str] = {}
    for path in labels:
        for place, name, label in _labels(data_root, path):
            if not _speaks(name, genders):
                continue
            if label in OTHERS:
                left_out[label] += 1
                continue
            problem = _problem(place, name, label, seen, audio)
            seen.setdefault(name, place)
            if problem:
                clips.append(FoundClip(place, str(path), problem=problem))
            else:
                clips.append(_clip(name, str(audio[name]), EMOTIONS[label], words))
    for name, path in sorted(audio.items()):
        session, dialog = path.parts[0], path.parent.name
        if (session, dialog) not in labelled and _speaks(name, genders):
            missing = data_root / session / LABELS / f"{dialog}.txt"
            clips.append(FoundClip(name, str(path), problem=f"{missing}: missing; copy it again"))
    if left_out:
        counts = ", ".join(f"{label} {count}" for label, count in sorted(left_out.items()))
        _logger.info("%s: left out, because of other emotions: %s", data_root, counts)
    return clips


def _clip(name: str, wav: str, emotion: str, words: dict[str, str]) -> FoundClip:
    gender = _gender(name)
    extra = {"emotion": emotion, "gender": GENDERS[gender]}
    return FoundClip(name, wav, name[: len("Ses01")] + gender, words.get(name, ""), extra)


def _problem(
    place: str, name: str, label: str, seen: dict[str, str], audio: dict[str, PurePosixPath]
) -> str:
    if label not in EMOTIONS:
        return f"{place}: label {label!r} is not one of {', '.join([*EMOTIONS, *OTHERS])}"
    if name in seen:
        return f"{place}: {name} has a label already, at {seen[name]}"
    return "" if name in audio else f"{place}: no {AUDIO}/.../{name}.wav; copy it again"


def _labels(data_root: Path, path: PurePosixPath) -> Iterator[tuple[str, str, str]]:
    """File and line number, clip and label of each line with a label."""
    # Comments of raters may contain any bytes; the lines that are used here are ASCII.
    text = _read(data_root / path)
    for number, line in enumerate(split_lines(text), start=1):
        found = _LABEL.match(line)
        if found:
            yield f"{data_root / path}, line {number}", found[1], found[2].lower()


def _texts(data_root: Path, paths: Sequence[PurePosixPath]) -> Iterator[tuple[str, str]]:
    strange: dict[PurePosixPath, list[int]] = defaultdict(list)
    for path in paths:
        for number, line in enumerate(split_lines(_read(data_root / path)), start=1):
            found = _TEXT.match(line)
            if found and "\ufffd" in line:
                strange[path].append(number)
            elif found:
                yield found[1], found[2].strip()
    for path, numbers in strange.items():
        lines = ", ".join(map(str, numbers))
        _logger.warning("%s: not UTF-8, clips without a text: line %s", data_root / path, lines)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); copy it again") from error


def _gender(name: str) -> str:
    """Gender of the speaker, not of the actor with motion capture: Ses01F_impro01_M000 is a man."""
    return name.rpartition("_")[2][:1]


def _speaks(name: str, genders: str) -> bool:
    return _gender(name) in genders


def _is_wav(path: PurePosixPath) -> bool:
    return path.suffix.lower() == ".wav"


def _check_folders(root: Path, folders: Sequence[str]) -> None:
    for folder in folders:
        if not (root / folder).is_dir():
            nested = next((x for x in sorted(root.glob("*")) if (x / "Session1").is_dir()), None)
            there = ", ".join(sorted(x.name for x in root.iterdir() if x.is_dir())) or "none"
            hint = f"did you mean {nested}?" if nested else f"its folders: {there}"
            raise UserError(
                f"data_folder {root}: no folder {folder}; IEMOCAP has Session1 to Session5; {hint}"
            )
