"""Augmented copies of a corpus on disk, as further splits in LibriSpeech's tree.

<root>/<split>-aug<k>/<speaker>a<k>/<chapter>/{<clip>.flac, <speaker>a<k>-<chapter>.trans.txt}
<root>/<split>-aug<k>-noisy/...: noisy partners of some of them, under the same names
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from tqdm import tqdm

from focalcodec.audio import write_audio
from focalcodec.data.augment import Augmenter
from focalcodec.data.corpus import walk_files
from focalcodec.data.librispeech_tree import NOISY_SUFFIX, find_clips
from focalcodec.data.manifest import write_csv
from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.processes import Progress, in_processes

SAMPLE_RATE = 16000
ABOUT_NAME = "augment.json"
SKIPPED_NAME = "skipped.csv"
MakeAugmenter: TypeAlias = Callable[..., Augmenter]
"""An `Augmenter` with its options set, called with rows, sample_rate and seed."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CopyPart:
    """One copy of one split."""

    data_root: Path  # root of the corpus
    root: Path  # root of the copy: the corpus, or another folder
    split: str  # split to copy
    copy: int  # number of the copy, from 1

    @property
    def name(self) -> str:
        """Name of the split that is written."""
        return f"{self.split}-aug{self.copy}"

    def rows(self) -> list[dict[str, Any]]:
        """Rows of the split's clips, with full paths, sorted by ID."""
        if not (self.data_root / self.split).is_dir():
            raise UserError(f"data_folder {self.data_root}: no folder {self.split!r}")
        clips = find_clips(self.data_root, walk_files(self.data_root, self.split))
        rows = [
            {
                "ID": clip.id,
                "spk_id": clip.spk_id,
                "wrd": clip.wrd,
                "wav": str(self.data_root / clip.wav),
                "chapter": PurePosixPath(clip.wav).parts[2],
            }
            for clip in clips
        ]
        if not rows or len({row["ID"] for row in rows}) < len(rows):
            raise UserError(f"{self.data_root / self.split}: no clips, or two of the same name")
        return sorted(rows, key=lambda row: row["ID"])

    def chapter(self, row: Mapping[str, Any], suffix: str = "") -> Path:
        """Folder of the copy of a clip; of a new speaker, because the voice is another one."""
        speaker = f"{row['spk_id']}a{self.copy}"
        return self.root / f"{self.name}{suffix}" / speaker / row["chapter"]

    def clip_id(self, row: Mapping[str, Any]) -> str:
        """ID of the copy of a clip; LibriSpeech's IDs begin with the speaker."""
        name, speaker = row["ID"], row["spk_id"]
        if name.startswith(speaker):
            return f"{speaker}a{self.copy}{name[len(speaker) :]}"
        return f"{name}a{self.copy}"

    def write(self, augmenter: Augmenter, row: Mapping[str, Any]) -> None:
        """Write the files of one clip, unless they exist."""
        file = f"{self.clip_id(row)}.flac"
        files = [self.chapter(row) / file]
        if augmenter.plan(row, self.copy).noisy:
            files.append(self.chapter(row, NOISY_SUFFIX) / file)
        if all(path.is_file() for path in files):
            return
        made = augmenter(row, self.copy)
        for path, sig in zip(files, (made.clean, made.noisy), strict=False):
            assert sig is not None
            write_audio(path, sig, augmenter.sample_rate)


def write_copy(
    part: CopyPart,
    make_augmenter: MakeAugmenter,
    seed: int,
    jobs: int = 1,
    max_broken_share: float = 0.05,
) -> None:
    """Write one copy of a split, with `jobs` processes; files that exist are kept.

    The same seed gives the same bytes for any number of processes. A clip that can't be read is
    left out, and listed in the copy's `skipped.csv`. Raises `UserError` if the copy on disk has
    other clips or options, or if more than `max_broken_share` of the clips are broken.
    """
    rows = part.rows()
    setup = partial(make_augmenter, rows=rows, sample_rate=SAMPLE_RATE, seed=seed)
    _claim(part, setup(), rows)
    done = in_processes(setup, partial(_write_clip, part), rows, jobs)
    bar = tqdm(done, part.name, len(rows), disable=None, unit="clip")
    problems = {row["ID"]: problem for row, problem in bar}
    broken = [row for row in rows if problems[row["ID"]]]
    report = part.root / part.name / SKIPPED_NAME
    report.unlink(missing_ok=True)
    if broken:
        lines = [{"path": row["wav"], "reason": problems[row["ID"]]} for row in broken]
        write_csv(report, ["path", "reason"], lines)
        problem = f"{len(broken)} of {len(rows)} clips are broken, listed in {report}"
        if len(broken) > max_broken_share * len(rows):
            raise UserError(
                f"{problem}; first: {lines[0]['reason']}; repair them, or raise"
                f" max_broken_share={max_broken_share}"
            )
        _logger.warning(f"{problem}; left out")
    _write_transcripts(part, [row for row in rows if not problems[row["ID"]]])


def _claim(part: CopyPart, augmenter: Augmenter, rows: Sequence[Mapping[str, Any]]) -> None:
    """Check that copies on disk were made from the same clips with the same options."""
    sizes = (f"{row['ID']} {Path(row['wav']).stat().st_size}" for row in rows)
    content = {**augmenter.content, "clips": f"{len(rows)}, {stable_seed(*sizes):016x}"}
    path = part.root / part.name / ABOUT_NAME
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        for key in [*content, *before]:
            if before.get(key) != content.get(key):
                raise UserError(
                    f"{path}: its clips were made with {key}={before.get(key)}, not"
                    f" {content.get(key)}; take another output_folder, or delete this split"
                )
    elif path.parent.exists():
        raise UserError(f"{path.parent}: clips of unknown origin; take another output_folder")
    else:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_clip(
    part: CopyPart, augmenter: Augmenter, row: Mapping[str, Any], progress: Progress
) -> str:
    """Write the copy of a clip; return what is wrong with the clip, or ""."""
    try:
        part.write(augmenter, row)
    except UserError as error:
        return str(error)
    return ""


def _write_transcripts(part: CopyPart, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write LibriSpeech's transcript file of each chapter."""
    chapters: dict[Path, list[str]] = defaultdict(list)
    for row in rows:
        for suffix in ("", NOISY_SUFFIX):
            folder, name = part.chapter(row, suffix), part.clip_id(row)
            if row["wrd"] and (folder / f"{name}.flac").is_file():
                chapters[folder].append(f"{name} {row['wrd']}\n")
    for folder, lines in chapters.items():
        path = folder / f"{folder.parent.name}-{folder.name}.trans.txt"
        with atomic_path(path) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
