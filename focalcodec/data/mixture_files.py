"""Mixtures on disk in LibriMix's tree, made by several processes; a stopped run can resume.

<root>/wav16k/<mode>/<split>/{s1,s2,...,noise,mix_clean,mix_single,mix_both}/<id>.wav
<root>/wav16k/<mode>/metadata/mixture_<split>_<mixture>.csv
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from focalcodec.audio import audio_info, write_audio
from focalcodec.data.manifest import write_csv
from focalcodec.data.mixtures import MIXTURES, MODES, MakeMixer, MixtureMaker, check_mode
from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.processes import Progress, in_processes
from focalcodec.progress import ProgressBar

RATE_FOLDER = "wav16k"
SAMPLE_RATE = 16000
Rows = Sequence[Mapping[str, Any]]


def split_name(split: str) -> str:
    """LibriMix's name of a split of LibriSpeech: "train-100" for "train-clean-100"."""
    return split.replace("-clean", "")


def mixture_id(ids: Sequence[str]) -> str:
    """LibriMix's name of a mixture of clips."""
    return "_".join(ids)


@dataclass(frozen=True)
class TreePart:
    """One split of the tree."""

    root: Path  # of the tree, e.g. `Libri2Mix`
    split: str  # LibriMix's name, e.g. "train-100"
    modes: Sequence[str] = MODES
    mixtures: Sequence[str] = MIXTURES  # written beside s1, s2, ... and noise

    def __post_init__(self) -> None:
        """Check the names of modes and mixtures."""
        for mode in self.modes:
            check_mode(mode)
        for name in self.mixtures:
            if name not in MIXTURES:
                raise UserError(f"mixtures: {name!r} is not one of {', '.join(MIXTURES)}")

    def mode_folder(self, mode: str) -> Path:
        """Folder of a mode."""
        return self.root / RATE_FOLDER / mode

    def file(self, mode: str, name: str, ids: Sequence[str]) -> Path:
        """File of one signal of a mixture."""
        return self.mode_folder(mode) / self.split / name / f"{mixture_id(ids)}.wav"

    def names(self, num_speakers: int) -> list[str]:
        """Names of the signals that are written for each mixture."""
        return [*(f"s{k + 1}" for k in range(num_speakers)), "noise", *self.mixtures]

    def write(self, maker: MixtureMaker, row: Mapping[str, Any]) -> dict[str, int]:
        """Write the files of one mixture unless they exist; return its samples in each mode."""
        ids = maker.ids(row, 0)
        names = self.names(maker.num_speakers)
        files = [self.file(mode, name, ids) for mode in self.modes for name in names]
        if all(file.is_file() for file in files):
            return {m: audio_info(self.file(m, names[0], ids)).num_samples for m in self.modes}
        sources, samples = maker.sources(row, 0), {}
        for mode in self.modes:
            cut = sources.cut(mode)
            for name in names:
                sig = torch.from_numpy(cut.signal(name))
                write_audio(self.file(mode, name, ids), sig, maker.sample_rate)
            samples[mode] = len(cut.noise)
        return samples


@dataclass(frozen=True)
class ToDisk:
    """Options of a preparation that writes its mixtures to disk."""

    mixer: MakeMixer  # (rows=, sample_rate=, seed=) -> MixtureMaker
    seed: int = 1986  # of the mixtures
    jobs: int = 1  # processes
    folder: str | Path | None = None  # parent of `Libri<N>Mix`; default: where the manifests are
    modes: Sequence[str] | None = None  # default: those that the preparation reads
    mixtures: Sequence[str] | None = None  # default: those that the preparation reads


def write_mixtures(
    part: TreePart, make_mixer: MakeMixer, rows: Rows, seed: int, jobs: int = 1
) -> None:
    """Write a mixture for each clip of a set, with `jobs` processes, unless its files exist.

    Each of the rows (from `read_manifest`) is the first speaker of one mixture. The same seed gives
    the same bytes for any number of processes. Raises `UserError` if the tree has mixtures of other
    clips or options, or if a clip or noise can't be read.
    """
    setup = partial(make_mixer, rows=rows, sample_rate=SAMPLE_RATE, seed=seed)
    maker = setup()
    _claim(part, maker, rows)
    done = in_processes(setup, partial(_write_mixture, part), rows, jobs)
    bar = ProgressBar(done, part.split, len(rows), unit="mixtures")
    samples = {row["ID"]: num_samples for row, num_samples in bar}
    for mode in part.modes:
        for mixture in part.mixtures:
            _write_metadata(part, maker, rows, mode, mixture, samples)


def _claim(part: TreePart, maker: MixtureMaker, rows: Rows) -> None:
    """Check that mixtures in the tree were made from the same clips with the same options."""
    clips = stable_seed(*sorted(f"{row['ID']} {row.get('num_samples')}" for row in rows))
    content = {**maker.content, "clips": f"{len(rows)}, {clips:016x}"}
    for mode in part.modes:
        path = part.mode_folder(mode) / "metadata" / f"{part.split}.json"
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            for key, value in content.items():
                if before.get(key) != value:
                    raise UserError(
                        f"{path}: its mixtures were made with {key}={before.get(key)}, not"
                        f" {value}; take another folder, or delete this tree"
                    )
        elif (part.mode_folder(mode) / part.split).exists():
            raise UserError(
                f"{part.mode_folder(mode) / part.split}: mixtures of unknown origin; take"
                " another folder"
            )
        else:
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_mixture(
    part: TreePart, maker: MixtureMaker, row: Mapping[str, Any], progress: Progress
) -> dict[str, int]:
    return part.write(maker, row)


def _write_metadata(
    part: TreePart,
    maker: MixtureMaker,
    rows: Rows,
    mode: str,
    mixture: str,
    samples: Mapping[str, Mapping[str, int]],
) -> None:
    """Write LibriMix's table of a mixture, with paths below the tree's root."""
    speakers = 1 if mixture == "mix_single" else maker.num_speakers
    columns = {mixture: "mixture_path"}
    columns |= {f"s{k}": f"source_{k}_path" for k in range(1, speakers + 1)}
    if mixture != "mix_clean":
        columns["noise"] = "noise_path"
    lines = []
    for row in rows:
        ids = maker.ids(row, 0)
        paths = {
            column: part.file(mode, name, ids).relative_to(part.root).as_posix()
            for name, column in columns.items()
        }
        length = samples[row["ID"]][mode]
        lines.append({"mixture_ID": mixture_id(ids), **paths, "length": length})
    path = part.mode_folder(mode) / "metadata" / f"mixture_{part.split}_{mixture}.csv"
    write_csv(path, list(lines[0]), lines)
