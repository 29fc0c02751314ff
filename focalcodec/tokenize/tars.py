"""WebDataset: clips in tar files, which are read once from the beginning to the end."""

from __future__ import annotations

import json
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from focalcodec.audio_files.sound import AudioSource
from focalcodec.errors import UserError, one_line
from focalcodec.files import AUDIO_SUFFIXES
from focalcodec.tokenize.clips import (
    SPEAKER_COLUMNS,
    TEXT_COLUMNS,
    CorpusClip,
    FileSource,
    NamedBytes,
)
from focalcodec.tokenize.plan import PART_BYTES
from focalcodec.tokenize.urls import Stream, is_url

_LABELS = (".txt", ".json")
Audio = Callable[[], AudioSource]


class ReadClips:
    """Clips that were read from a tar file; their audio is in memory."""

    digest = ""

    def __init__(self, found: Sequence[tuple[CorpusClip, Audio]]) -> None:
        self.clips = [clip for clip, _ in found]
        self._audio = {clip.location: audio for clip, audio in found}

    def audio(self, clip: CorpusClip) -> AudioSource:
        """Bytes of a clip; `UserError` if the tar file is broken there."""
        return self._audio[clip.location]()


class TarSource(FileSource):
    """Tar files of WebDataset: `clips` are the files, and `read` gives the clips in them.

    The members of a sample have one name up to its first dot, and stand side by side: audio, and
    its transcript as `.txt` or in a `.json` with one of the usual names, which may have the speaker
    too. A clip's id is `<tar>/<sample>`, with the suffix if a sample has several clips.
    """

    def read(self, tars: Sequence[CorpusClip], part_clips: int) -> Iterator[ReadClips]:
        """Clips of some tar files, in groups of at most `part_clips` clips and `PART_BYTES`."""
        group: list[tuple[CorpusClip, Audio]] = []
        size = 0
        for tar in tars:
            for clip, audio in self._clips(tar):
                if group and (len(group) == part_clips or size + clip.size > PART_BYTES):
                    yield ReadClips(group)
                    group, size = [], 0
                group.append((clip, audio))
                size += clip.size
        if group:
            yield ReadClips(group)

    def _clips(self, tar: CorpusClip) -> Iterator[tuple[CorpusClip, Audio]]:
        location = self.locate(tar)
        seen: set[str] = set()
        last = "its beginning"
        try:
            for key, members in _samples(location):
                last = key
                for name, content, clip in _sample_clips(tar, key, members):
                    if name in seen:
                        yield _failed(clip, f"{location}: {name} is in it twice; make it again")
                    else:
                        yield clip, partial(NamedBytes, content, f"{location}: {name}")
                    seen.add(name)
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            reason = f"{location}: broken after {last} ({one_line(error)}); make or copy it again"
            yield _failed(CorpusClip(tar.id, tar.location), reason)
            return
        if not seen:
            reason = f"{location}: no audio files ({', '.join(AUDIO_SUFFIXES)}) in it"
            yield _failed(CorpusClip(tar.id, tar.location), reason)


def _failed(clip: CorpusClip, reason: str) -> tuple[CorpusClip, Audio]:
    def audio() -> AudioSource:
        raise UserError(reason)

    return clip._replace(location=f"{clip.location}#{clip.id}"), audio


def _samples(location: str) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Key of each sample, and name and content of its audio and labels."""
    file = cast(BinaryIO, Stream(location)) if is_url(location) else open(location, "rb")
    with closing(file), tarfile.open(fileobj=file, mode="r|*") as tar:
        for key, group in groupby(_members(tar), key=lambda member: _key(member[0])):
            yield key, list(group)


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in tar:
        path = PurePosixPath(member.name)
        wanted = path.suffix.lower() in (*AUDIO_SUFFIXES, *_LABELS)
        if member.isfile() and wanted and not path.name.startswith("."):
            content = tar.extractfile(member)
            assert content is not None  # a file has content
            yield member.name, content.read()


def _key(name: str) -> str:
    """Name of a member up to the first dot of its last part."""
    path = PurePosixPath(name)
    return str(path.with_name(path.name.partition(".")[0]))


def _sample_clips(
    tar: CorpusClip, key: str, members: Sequence[tuple[str, bytes]]
) -> list[tuple[str, bytes, CorpusClip]]:
    """Name, content and clip of each audio file of a sample."""
    spk_id, wrd = _labels(members)
    audio = [member for member in members if not member[0].lower().endswith(_LABELS)]
    found = []
    for name, content in audio:
        place = key if len(audio) == 1 else name
        clip = CorpusClip(f"{tar.id}/{place}", f"{tar.location}/{name}", len(content))
        found.append((name, content, clip._replace(spk_id=spk_id, wrd=wrd)))
    return found


def _labels(members: Iterable[tuple[str, bytes]]) -> tuple[str, str]:
    """Speaker and transcript of a sample; "" for what it does not have."""
    about: dict[str, Any] = {}
    text = ""
    for name, content in members:
        if name.lower().endswith(".txt"):
            text = text or " ".join(content.decode("utf-8", "replace").split())
        elif name.lower().endswith(".json"):
            try:
                read = json.loads(content)
            except ValueError:
                continue
            about |= read if isinstance(read, dict) else {}
    speaker = next((str(about[name]) for name in SPEAKER_COLUMNS if about.get(name)), "")
    return speaker, text or next((str(about[name]) for name in TEXT_COLUMNS if about.get(name)), "")


def is_tar(name: str) -> bool:
    """Whether a file's name is that of a tar file, compressed or not."""
    return re.search(r"\.(tar|tgz|tar\.\w+)$", name.lower()) is not None


def expand_numbers(pattern: str) -> list[str]:
    """Names that a pattern of WebDataset stands for.

    Example
    -------
    >>> expand_numbers("a-{08..10}.tar")
    ['a-08.tar', 'a-09.tar', 'a-10.tar']
    """
    match = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if match is None:
        return [pattern]
    numbers = range(int(match[1]), int(match[2]) + 1)
    names = (f"{pattern[: match.start()]}{n:0{len(match[1])}d}" for n in numbers)
    return [more for name in names for more in expand_numbers(name + pattern[match.end() :])]
