"""Real speakers of two Debian packages: a Russian man, and readers of letters in many languages.

`festvox-ru` has 620 read sentences (BSD-like licence), `klettres-data` letters and syllables by one
reader a language (GPL-2+). They are for training only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import torch
from demo_tree import SAMPLE_RATE, DemoClip
from torch import Tensor

from focalcodec.audio import audio_info, read_audio
from focalcodec.errors import UserError
from focalcodec.files import read_text, split_lines

RUSSIAN = "105"
FIRST_READER = 201  # of letters; the readers follow in the order of their languages
_VOICE = "usr/share/festival/voices/russian/msu_ru_nsh_clunits"
_LETTERS = "usr/share/klettres"
_CLIP_SECONDS = 6.0  # letters and syllables are joined, because most are shorter than a second
_LEAST_SECONDS = 0.2
_LINE = re.compile(r'\(\s*(\S+)\s+"(.*)"\s*\)')


class Reader(NamedTuple):
    """A reader of letters: language, and files with their texts."""

    language: str
    sounds: list[tuple[Path, str]]


def find_russian(folder: str | Path) -> list[DemoClip]:
    """Sentences of `festvox-ru`, in `train-russian`; `source` is the path of a file.

    Parameters
    ----------
    folder : str or path
        Folder with `usr/share`, in which the package was unpacked; `/` if it is installed.

    Raises
    ------
    UserError
        The package is not there.
    """
    root = Path(folder).expanduser() / _VOICE
    texts = root / "etc" / "txt.done.data"
    if not texts.is_file():
        raise UserError(
            f"festvox_folder {folder}: no {_VOICE}/etc/txt.done.data; unpack Debian's festvox-ru"
            " there: dpkg-deb -x FILE.deb FOLDER"
        )
    found = [match.groups() for match in map(_LINE.search, split_lines(read_text(texts))) if match]
    files = [(root / "wav" / f"{name}.wav", text.replace("+", "")) for name, text in found]
    there = [(file, text) for file, text in files if file.is_file()]
    return [
        DemoClip("train-russian", RUSSIAN, "1", number, text, (file,))
        for number, (file, text) in enumerate(there)
    ]


def find_letters(readers: Sequence[Reader], most_seconds: float) -> list[DemoClip]:
    """Letters and syllables of `klettres-data`, in `train-letters`, joined to clips of 6 seconds.

    Parameters
    ----------
    readers : sequence of Reader
        Result of `read_letters`.
    most_seconds : float
        Of a reader; the rest is left out, because one of them has nearly half of the package.

    Returns
    -------
    list of DemoClip
        The field `source` has the paths of a clip's files.
    """
    clips = []
    for number, reader in enumerate(readers):
        place = ("train-letters", str(FIRST_READER + number), "1")
        for count, joined in enumerate(_joined(reader, most_seconds)):
            text = " ".join(text for _, text in joined)
            clips.append(DemoClip(*place, count, text, tuple(path for path, _ in joined)))
    return clips


def read_letters(folder: str | Path) -> list[Reader]:
    """Readers of `klettres-data`, in the order of their languages' codes.

    Parameters
    ----------
    folder : str or path
        As of `find_russian`.

    Raises
    ------
    UserError
        The package is not there.
    """
    root = Path(folder).expanduser() / _LETTERS
    tables = sorted(root.glob("*/sounds.xml"))
    if not tables:
        raise UserError(
            f"klettres_folder {folder}: no {_LETTERS}/*/sounds.xml; unpack Debian's klettres-data"
            " there: dpkg-deb -x FILE.deb FOLDER"
        )
    readers = []
    for table in tables:
        try:
            sounds = ElementTree.parse(table).iter("sound")
        except ElementTree.ParseError as error:
            raise UserError(f"{table}: {error}; unpack klettres-data again") from error
        texts = {root / sound.get("file", ""): sound.get("name", "") for sound in sounds}
        there = sorted((path, text) for path, text in texts.items() if path.is_file())
        if there:
            readers.append(Reader(table.parent.name, there))
    return readers


def _joined(reader: Reader, most_seconds: float) -> Iterator[list[tuple[Path, str]]]:
    """Files of each clip; what is too short for speech is left out."""
    clip: list[tuple[Path, str]] = []
    seconds = total = 0.0
    for path, text in reader.sounds:
        duration = _seconds(path)
        if duration < _LEAST_SECONDS or total + duration > most_seconds:
            continue
        clip, seconds, total = [*clip, (path, text)], seconds + duration, total + duration
        if seconds >= _CLIP_SECONDS:
            yield clip
            clip, seconds = [], 0.0
    if clip:
        yield clip


def _seconds(path: Path) -> float:
    try:
        return audio_info(path).seconds
    except UserError:  # one file of the package is joined from two formats
        return 0.0


def read_files(clip: DemoClip) -> tuple[Tensor, int]:
    """Signal (T,) of a clip's files, one after the other, and its rate, Hz.

    Raises
    ------
    UserError
        A file can't be read.
    """
    sigs = [read_audio(path, SAMPLE_RATE, channels="mix") for path in clip.source]
    return torch.cat(sigs), SAMPLE_RATE
