"""Augmented copies of a corpus: other voices, made from its clips, and noisy partners.

Resampling by a random rate shifts pitch and formants with the tempo, as a shorter or longer vocal
tract does (speed perturbation, Ko et al., Interspeech 2015); a shift of pitch keeps the tempo.
Draws depend on the seed, the clip and the number of the copy only. Copies are further splits in
LibriSpeech's tree:

<root>/<split>-aug<k>/<speaker>a<k>/<chapter>/{<clip>.flac, <speaker>a<k>-<chapter>.trans.txt}
<root>/<split>-aug<k>-noisy/...: noisy partners of some of them, under the same names
"""

from __future__ import annotations

import json
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from focalcodec.audio import resample, write_audio
from focalcodec.data.acoustics import (
    ClipPool,
    NoiseSource,
    RoomPool,
    Signal,
    noise_source,
    reverberate,
)
from focalcodec.data.corpus import walk_files
from focalcodec.data.librispeech_tree import NOISY_SUFFIX, find_clips
from focalcodec.data.manifest import write_csv
from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.packages import need
from focalcodec.processes import Progress, in_processes
from focalcodec.progress import ProgressBar

SAMPLE_RATE = 16000  # Hz, of copies on disk
ABOUT_NAME = "augment.json"
SKIPPED_NAME = "skipped.csv"
PEAK = 0.99
# Window of the phase vocoder. Words that Whisper tiny.en gets wrong at -3 semitones: 31 % with
# 0.128 s (librosa's default at 16 kHz), 8 % with 0.064 s, 4 % with 0.032 s.
_WINDOW_SECONDS = 0.032
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Augmented:
    """A copy of a clip, (T,) float32 both: `noisy` is the copy in noise, or None."""

    clean: Tensor
    noisy: Tensor | None


@dataclass(frozen=True)
class Plan:
    """The changes to a clip, drawn without its audio."""

    semitones: float  # shift of the pitch at the same tempo; 0 for none
    new_rate: int  # Hz; the clip is resampled to this rate, but played at its old one
    peak_db: float | None  # highest sample, dB of full scale; None keeps the level
    noisy: bool  # whether the copy has a noisy partner


class Augmenter:
    """(row, copy) -> the same text in another voice, and for some clips a noisy partner.

    Raises `UserError` for a bad range or share.

    Parameters
    ----------
    rows : sequence of mapping
        The set: `ID`, `spk_id`, `wav` (full path). Babble comes from it.
    sample_rate : int
        Hz.
    seed : int
        Seed of all draws.
    speed : (float, float)
        Range of the speed, uniform; 1.1 is 10 % faster, with a pitch 10 % higher.
    semitones, pitch_share : (float, float), float
        Range of the shift of pitch, and the share of copies that get it instead of a speed.
    peak_db : (float, float) or None
        Range of a copy's highest sample, dB of full scale. None keeps the clip's level.
    noisy_share, snr_db : float, (float, float)
        Share of the copies with a noisy partner; range of its speech-to-noise power ratio.
    noise_folder, babble_share
        See `focalcodec.data.acoustics.noise_source`.
    reverb_share, rooms : float, int
        Share of the noisy partners that are also in a room; number of rooms to draw from.

    Example
    -------
    >>> from focalcodec.data.corpus import embedded_corpus
    >>> wav = str(next(embedded_corpus("LibriSpeech").glob("test-real/91/1/*-0000.flac")))
    >>> row = {"ID": "a", "spk_id": "91", "wav": wav}
    >>> made = Augmenter([row], sample_rate=16000, seed=0, noisy_share=1.0)(row, 1)
    >>> made.clean.shape == made.noisy.shape, bool(made.clean.abs().max() <= 1)
    (True, True)
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        sample_rate: int,
        seed: int,
        speed: Sequence[float] = (0.85, 1.15),
        semitones: Sequence[float] = (-3.0, 3.0),
        pitch_share: float = 0.15,
        peak_db: Sequence[float] | None = (-20.0, 0.0),
        noisy_share: float = 0.0,
        noise_folder: str | Path | None = None,
        babble_share: float = 0.5,
        snr_db: Sequence[float] = (5.0, 25.0),
        reverb_share: float = 0.5,
        rooms: int = 64,
    ) -> None:
        self.sample_rate, self.seed = sample_rate, seed
        self.speed = _range("speed", speed, lowest=0.25, highest=4.0)
        self.semitones = _range("semitones", semitones, lowest=-24.0, highest=24.0)
        self.peak_db = (
            None if peak_db is None else _range("peak_db", peak_db, lowest=-60.0, highest=0.0)
        )
        self.snr_db = _range("snr_db", snr_db, lowest=-60.0, highest=100.0)
        self.pitch_share = _share("pitch_share", pitch_share)
        self.noisy_share = _share("noisy_share", noisy_share)
        self.reverb_share = _share("reverb_share", reverb_share)
        self.pool = ClipPool(rows, sample_rate)
        self.content: dict[str, Any] = {
            "seed": seed,
            "sample_rate": sample_rate,
            "speed": list(self.speed),
            "semitones": list(self.semitones),
            "pitch_share": pitch_share,
            "peak_db": None if self.peak_db is None else list(self.peak_db),
            "noisy_share": noisy_share,
        }
        """Everything that shapes the copies except the clips, JSON-ready."""
        if noisy_share:
            # Only noisy partners need the packages of noise and rooms.
            self.noise: NoiseSource = noise_source(noise_folder, "", self.pool, babble_share)
            self.rooms = RoomPool(rooms, 1, sample_rate, seed) if reverb_share else None
            self.content |= {"noise": self.noise.content, "snr_db": list(self.snr_db)}
            self.content |= {"reverb_share": reverb_share, "rooms": rooms}

    def plan(self, row: Mapping[str, Any], copy: int) -> Plan:
        """Draw the changes to copy number `copy` of a clip; no audio is read."""
        rng = self._generator("plan", row, copy)
        by_pitch = rng.random() < self.pitch_share
        # All are always drawn, so that one option does not change the other draws.
        speed, semitones = rng.uniform(*self.speed), rng.uniform(*self.semitones)
        peak_db = rng.uniform(*(self.peak_db or (0.0, 0.0)))
        return Plan(
            semitones=float(semitones) if by_pitch else 0.0,
            new_rate=self.sample_rate if by_pitch else round(self.sample_rate / speed),
            peak_db=None if self.peak_db is None else float(peak_db),
            noisy=bool(rng.random() < self.noisy_share),
        )

    def __call__(self, row: Mapping[str, Any], copy: int) -> Augmented:
        """Make copy number `copy` of a clip; `UserError` if a file can't be read.

        Its length is the clip's, or `resampled_length` at the plan's rate. If the noisy partner
        would exceed full scale, both are scaled down.
        """
        plan = self.plan(row, copy)
        sig = change_voice(self.pool.read(row), self.sample_rate, plan)
        if not plan.noisy:
            return Augmented(torch.from_numpy(sig).float(), None)
        noisy = self._in_noise(sig, row["spk_id"], self._generator("noise", row, copy))
        highest = np.abs(noisy).max()
        scale = PEAK / highest if highest > PEAK else 1.0
        return Augmented(*(torch.from_numpy(scale * x).float() for x in (sig, noisy)))

    def _in_noise(self, sig: Signal, speaker: str, rng: np.random.Generator) -> Signal:
        in_room, snr_db = rng.random() < self.reverb_share, rng.uniform(*self.snr_db)
        if in_room and self.rooms is not None:
            (response,) = self.rooms.draw(rng)
            sig = reverberate(sig, response.whole, response.lead)
        noise = self.noise(len(sig), rng, [speaker])
        power = float(np.mean(noise**2))
        wanted = float(np.mean(sig**2)) / 10 ** (snr_db / 10)
        return sig + (math.sqrt(wanted / power) if power > 0 else 1.0) * noise

    def _generator(self, what: str, row: Mapping[str, Any], copy: int) -> np.random.Generator:
        seed = stable_seed(self.seed, "augment", what, row["ID"], copy)
        return np.random.default_rng(seed)


def change_voice(sig: Signal, sample_rate: int, plan: Plan) -> Signal:
    """Change speed or pitch, and the level, of sig (T,), T > 0: (T',) with the plan's peak.

    Without a peak in the plan the level stays.
    """
    if plan.new_rate != sample_rate:
        whole = torch.from_numpy(sig).float()[None]
        sig = resample(whole, sample_rate, plan.new_rate)[0][0].numpy().astype(np.float64)
    if plan.semitones:
        sig = _shift_pitch(sig, sample_rate, plan.semitones)
    if plan.peak_db is None:
        return sig
    peak = np.abs(sig).max()
    return sig * (10 ** (plan.peak_db / 20) / peak if peak > 0 else 1.0)


def _shift_pitch(sig: Signal, sample_rate: int, semitones: float) -> Signal:
    # Imported here because it takes seconds, and changes of speed do not need it.
    librosa = need("librosa", "pip install 'focalcodec[recipes]'")

    window = 2 ** round(math.log2(_WINDOW_SECONDS * sample_rate))
    # A window of zeros after the end, because short clips could not be transformed otherwise.
    padded = np.pad(sig, (0, window))
    shifted = librosa.effects.pitch_shift(
        padded, sr=sample_rate, n_steps=semitones, n_fft=window, hop_length=window // 4
    )
    return shifted[: len(sig)]


def _range(name: str, value: Sequence[float], lowest: float, highest: float) -> tuple[float, float]:
    if len(value) != 2 or not lowest <= value[0] <= value[1] <= highest:
        raise UserError(
            f"{name}={list(value)}: give [lowest, highest], within {lowest:g} and {highest:g}"
        )
    return float(value[0]), float(value[1])


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise UserError(f"{name}={value}: give 0 to 1")
    return value


# -- a corpus --------------------------------------------------------------------------------------


MakeAugmenter: TypeAlias = Callable[..., Augmenter]
"""An `Augmenter` with its options set, called with rows, sample_rate and seed."""


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
    bar = ProgressBar(done, part.name, len(rows), unit="clips")
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
                    f" {content.get(key)}; give another output_folder, or delete this split"
                )
    elif path.parent.exists():
        raise UserError(f"{path.parent}: clips of unknown origin; give another output_folder")
    else:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_clip(
    part: CopyPart, augmenter: Augmenter, row: Mapping[str, Any], progress: Progress
) -> str:
    """Write the copy of a clip; return the problem of the clip, or ""."""
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
