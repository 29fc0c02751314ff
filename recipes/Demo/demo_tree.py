"""Write synthesised clips and decoded prompts as splits in LibriSpeech's tree."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias

import soundfile
from torch import Tensor

from focalcodec.audio import audio_info, resample, write_audio
from focalcodec.data.manifest import write_csv
from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError
from focalcodec.files import atomic_path, read_text, split_lines
from focalcodec.processes import Progress, in_processes
from focalcodec.progress import ProgressBar

SAMPLE_RATE = 16000
SUFFIXES = (".flac", ".ogg")
ABOUT_NAME = "demo_corpus.json"
SPEAKERS_NAME = "SPEAKERS.TXT"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DemoClip:
    """A clip to be made: its place in the tree, its transcript, and its source."""

    split: str
    speaker: str
    chapter: str
    number: int
    text: str
    source: Any

    @property
    def source_key(self) -> Any:
        """The source as text; files are named without their folders."""
        if isinstance(self.source, tuple):
            return [path.name for path in self.source]
        return self.source.name if isinstance(self.source, Path) else self.source

    @property
    def id(self) -> str:
        """LibriSpeech's ID."""
        return f"{self.speaker}-{self.chapter}-{self.number:04}"

    def file(self, root: Path, suffix: str) -> Path:
        """Its file."""
        return root / self.split / self.speaker / self.chapter / f"{self.id}{suffix}"


Maker: TypeAlias = Callable[[DemoClip], tuple[Tensor, int]]
"""Clip -> signal (T,) and its rate, Hz; `UserError` if the clip can't be made."""


def write_clips(
    root: Path,
    suffix: str,
    clips: Sequence[DemoClip],
    new_maker: Callable[[], Maker],
    jobs: int = 1,
    max_broken_share: float = 0.05,
) -> None:
    """Write the clips that are missing, and the transcripts of their chapters.

    Parameters
    ----------
    root : Path
        Root of the corpus.
    suffix : str
        One of `SUFFIXES`; .ogg is Opus.
    clips : sequence of DemoClip
        All clips of some splits.
    new_maker : callable
        Returns the maker; called once in each process that has a clip to make.
    jobs : int
        Number of processes.
    max_broken_share : float
        Largest share of clips that can't be made and are left out; a larger share is an error.

    Raises
    ------
    UserError
        Too many clips can't be made, the suffix is another one, or existing chapters were made
        from other sources.
    """
    if suffix not in SUFFIXES:
        raise UserError(f"suffix={suffix!r}: not one of {', '.join(SUFFIXES)}")
    _claim(root, suffix, clips)
    done = in_processes(partial(_Making, root, suffix, new_maker), _write_clip, clips, jobs)
    bar = ProgressBar(done, "corpus", len(clips), unit="clips")
    problems = {clip.id: problem for clip, problem in bar}
    broken = [clip for clip in clips if problems[clip.id]]
    lines = [{"path": clip.file(root, suffix), "reason": problems[clip.id]} for clip in broken]
    if broken:
        problem = f"{len(broken)} of {len(clips)} clips could not be made"
        if len(broken) > max_broken_share * len(clips):
            raise UserError(
                f"{problem}; first: {lines[0]['reason']}; or raise"
                f" max_broken_share={max_broken_share}"
            )
        report = root / f"skipped-{clips[0].speaker}.csv"
        write_csv(report, ["path", "reason"], lines)
        _logger.warning(f"{problem}, listed in {report}; left out")
    _write_transcripts(root, [clip for clip in clips if not problems[clip.id]])


def _claim(root: Path, suffix: str, clips: Sequence[DemoClip]) -> None:
    """Raise if existing chapters were made with other options."""
    sources: dict[str, list[str]] = defaultdict(list)
    for clip in clips:
        sources[f"{clip.split}/{clip.speaker}/{clip.chapter}"] += [clip.text, repr(clip.source_key)]
    new = {chapter: f"{stable_seed(suffix, *texts):016x}" for chapter, texts in sources.items()}
    path = root / ABOUT_NAME
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for chapter, digest in new.items():
        if before.get(chapter, digest) != digest:
            raise UserError(
                f"{root / chapter}: made with other options, texts or voices; give another"
                " output_folder, or delete this one"
            )
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({**before, **new}, indent=1) + "\n", encoding="utf-8")


class _Making:
    """State of one process: the maker, which is loaded when the first clip is missing."""

    def __init__(self, root: Path, suffix: str, new_maker: Callable[[], Maker]) -> None:
        self.root, self.suffix, self.new_maker = root, suffix, new_maker

    @cached_property
    def make(self) -> Maker:
        return self.new_maker()


def _write_clip(making: _Making, clip: DemoClip, progress: Progress) -> str:
    """Write a clip unless its file exists; return what went wrong, or ""."""
    path = clip.file(making.root, making.suffix)
    if not path.is_file():
        try:
            _write(path, *making.make(clip))
        except UserError as error:
            return str(error)
    return ""


def _write(path: Path, sig: Tensor, rate: int) -> None:
    sig = resample(sig[None], rate, SAMPLE_RATE)[0][0]
    if path.suffix == ".flac":
        write_audio(path, sig, SAMPLE_RATE)
        return
    with atomic_path(path) as temporary:
        samples = sig.clamp(-1.0, 1.0).numpy()
        soundfile.write(temporary, samples, SAMPLE_RATE, format="OGG", subtype="OPUS")


def _write_transcripts(root: Path, clips: Sequence[DemoClip]) -> None:
    chapters: dict[Path, list[str]] = defaultdict(list)
    for clip in clips:
        folder = clip.file(root, "").parent
        chapters[folder].append(f"{clip.id} {clip.text.upper()}\n")
    for folder, lines in chapters.items():
        path = folder / f"{folder.parent.name}-{folder.name}.trans.txt"
        with atomic_path(path) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")


def write_speakers(root: Path, names: dict[str, tuple[str, str]]) -> None:
    """Write LibriSpeech's table of speakers; lines of other speakers are kept.

    Parameters
    ----------
    root : Path
        Root of the corpus.
    names : dict
        Speaker -> F, M or X (a blend), and name.
    """
    path, lines = root / SPEAKERS_NAME, {}
    if path.is_file():
        for line in split_lines(read_text(path)):
            lines[line.partition("|")[0].strip()] = line
    for speaker, (sex, name) in names.items():
        folders = sorted(root.glob(f"*/{speaker}"))
        files = [
            file for folder in folders for file in folder.rglob("*") if file.suffix in SUFFIXES
        ]
        minutes = sum(audio_info(file).seconds for file in files) / 60
        subset = ", ".join(folder.parent.name for folder in folders)
        lines[speaker] = f"{speaker} | {sex} | {subset} | {minutes:.1f} | {name}"
    lines.pop(";ID", None)
    text = "\n".join(
        [";ID |SEX| SUBSET |MINUTES| NAME", *(lines[key] for key in sorted(lines, key=_number))]
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _number(speaker: str) -> tuple[int, str]:
    return (int(speaker) if speaker.isdigit() else 0, speaker)
