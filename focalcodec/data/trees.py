"""Clips of a folder with speakers and transcripts: in the tree of a corpus, or in any other."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from focalcodec.data.corpus import FoundClip, FoundFile, path_ids
from focalcodec.data.librispeech_tree import clip_texts
from focalcodec.data.voxpopuli_tree import (
    TRANSCRIBED,
    UNLABELLED,
    is_table,
    tsv_clips,
    unlabelled_clips,
)
from focalcodec.errors import UserError
from focalcodec.files import AUDIO_SUFFIXES, read_text

OWN_SETS = {"train": "train", "dev": "valid", "test": "test"}
"""Beginning of the name of a corpus' split, and the set that it is."""
_LONGEST_TEXT = 100_000  # characters: the limit of the reader of CSV files is 131072
_LIBRISPEECH = re.compile(r"([^-]+)-[^-]+\.trans\.txt")  # <speaker>-<chapter>.trans.txt
_LIBRITTS = re.compile(r"([^_]+)_.+\.normalized\.txt")  # <speaker>_<chapter>_... .normalized.txt
_VOXPOPULI = re.compile(r"asr_(train|dev|test)\.tsv")
_logger = logging.getLogger(__name__)


class Labels(NamedTuple):
    """What a corpus' tree says of a clip."""

    spk_id: str
    wrd: str
    own_set: str = ""  # train, valid or test
    language: str = ""


def find_labels(data_root: Path, files: Sequence[FoundFile]) -> dict[str, Labels]:
    """Speakers and transcripts of the clips in the trees of LibriSpeech, LibriTTS and VoxPopuli.

    The keys are paths of `files`. The root may be the corpus, one split of it, or a folder above.
    Other clips are not in the result. `UserError` for a transcript that can't be read.

    Example
    -------
    >>> from focalcodec.data.corpus import embedded_corpus, walk_files
    >>> root = embedded_corpus("LibriSpeech")
    >>> labels = find_labels(root, walk_files(root, "test-real"))["test-real/91/1/91-1-0000.flac"]
    >>> labels.spk_id, labels.own_set
    ('91', 'test')
    """
    return _libri_labels(data_root, files) | _voxpopuli_labels(data_root, files)


def _libri_labels(data_root: Path, files: Sequence[FoundFile]) -> dict[str, Labels]:
    speakers: dict[PurePosixPath, str] = {}  # of each chapter's folder
    for path in (PurePosixPath(file.path) for file in files):
        if match := _LIBRISPEECH.fullmatch(path.name) or _LIBRITTS.fullmatch(path.name):
            speakers[path.parent] = match[1]
    inside = [file for file in files if PurePosixPath(file.path).parent in speakers]
    texts = clip_texts(data_root, inside)
    return {
        str(path): Labels(speakers[path.parent], texts.get(path.with_suffix(""), ""), _split(path))
        for path in (PurePosixPath(file.path) for file in inside)
        if _is_audio(path.name)
    }


def _split(path: PurePosixPath) -> str:
    """Set of a clip below a folder such as `train-clean-100`; "" if there is none."""
    names = (part.split("-")[0] for part in path.parts[:-1])
    return next((OWN_SETS[name] for name in names if name in OWN_SETS), "")


def _voxpopuli_labels(data_root: Path, files: Sequence[FoundFile]) -> dict[str, Labels]:
    labels = {}
    for path in (PurePosixPath(file.path) for file in files):
        match = _VOXPOPULI.fullmatch(path.name)
        if match and is_table(data_root / path):
            for clip in tsv_clips(data_root, str(path.parent), match[1]):
                own = OWN_SETS[match[1]]
                labels[clip.wav] = Labels(clip.spk_id, clip.wrd, own, clip.extra["language"])
    if labels:
        for clip in _unlabelled(data_root, files):
            labels[clip.wav] = Labels("", "", "train", clip.extra["language"])
    return labels


def _unlabelled(data_root: Path, files: Sequence[FoundFile]) -> list[FoundClip]:
    place = data_root / TRANSCRIBED
    names = [path.name for path in place.iterdir()] if place.is_dir() else []
    return unlabelled_clips(data_root, files, [f"{TRANSCRIBED}/{name}" for name in sorted(names)])


def find_clips(data_root: Path, files: Sequence[FoundFile], language: str = "") -> list[FoundClip]:
    """Find the clips of a folder: every audio file below it, in the files' order.

    Speakers and transcripts come from `find_labels`. In any other tree the speaker is the first
    folder below the root, "" for files in the root itself; the transcript is the text of
    `<clip>.txt` beside the clip. If `language` (ISO 639-1, of all clips) is given, it is written as
    a column. Raises `UserError` if there is no audio.
    """
    labels = find_labels(data_root, files)
    paths = [file.path for file in files if _is_audio(file.path)]
    if any(clip.language for clip in labels.values()):
        # recordings of VoxPopuli that contain clips of its dev or test set
        paths = [path for path in paths if path in labels or path.split("/")[0] not in UNLABELLED]
    if not paths:
        raise UserError(
            f"{data_root}: no audio files ({', '.join(AUDIO_SUFFIXES)}); check the path"
        )
    known = {file.path for file in files}
    with_language = language or any(clip.language for clip in labels.values())
    clips = []
    for name, path in zip(path_ids(paths), paths, strict=True):
        found = labels.get(path) or Labels(*_labels_beside(data_root, path, known))
        extra = {"language": found.language or language} if with_language else {}
        spk_id, words = _readable(found.spk_id), found.wrd
        clip = FoundClip(_readable(name), path, spk_id, words, extra, own_set=found.own_set)
        clips.append(clip)
    return clips


def _labels_beside(data_root: Path, path: str, known: set[str]) -> tuple[str, str]:
    """Speaker and transcript of a clip in a tree that is not of a known corpus."""
    speaker, slash, _ = path.partition("/")
    text = os.path.splitext(path)[0] + ".txt"
    return speaker if slash else "", _read_text(data_root / text) if text in known else ""


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
