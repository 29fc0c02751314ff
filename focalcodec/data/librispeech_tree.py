"""Clips in the trees of LibriSpeech and LibriTTS; corpora derived from these have the same trees.

LibriSpeech: `<split>/<speaker>/<chapter>/<clip>.flac` with `<speaker>-<chapter>.trans.txt`.
LibriTTS: `<split>/<speaker>/<chapter>/<clip>.wav` with `<clip>.normalized.txt`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from focalcodec.audio import audio_info
from focalcodec.data.corpus import (
    FoundClip,
    FoundFile,
    SetSource,
    check_data_folder,
    embedded_corpus,
)
from focalcodec.data.manifest import DATA_ROOT
from focalcodec.errors import UserError
from focalcodec.files import AUDIO_SUFFIXES, read_text, split_lines

TREE = "<split>/<speaker>/<chapter>/<clip>.flac"
EMBEDDED_SPLITS = {
    "train": ["train-mini"],
    "valid": ["dev-mini"],
    "test": ["test-mini"],
    "test-real": ["test-real"],
}
NOISY_SUFFIX = "-noisy"
"""Suffix of the split with the noisy partners of a split's clips, under the same names."""
_SPACES = " \t\u00a0"  # a tab or a no-break space comes from an editor
_CLIP_TEXTS = (".normalized.txt", ".original.txt")


def find_clips(data_root: Path, files: list[FoundFile]) -> list[FoundClip]:
    """Find the clips of either tree with speakers and transcripts, in the files' order.

    `data_root` is the folder that holds the splits, `files` are the files of the splits. `wrd` is
    empty for clips without a transcript; `UserError` if a transcript can't be read.
    """
    texts = clip_texts(data_root, files)
    clips = []
    for path in (PurePosixPath(file.path) for file in files):
        if len(path.parts) != 4 or path.suffix.lower() not in AUDIO_SUFFIXES:
            continue
        words = texts.get(path.with_suffix(""), "")
        clips.append(FoundClip(id=path.stem, wav=str(path), spk_id=path.parts[1], wrd=words))
    return clips


def clip_texts(data_root: Path, files: Sequence[FoundFile]) -> dict[PurePosixPath, str]:
    """Transcripts of either tree, by the clips' paths without suffix."""
    paths = [PurePosixPath(file.path) for file in files]
    texts: dict[PurePosixPath, str] = {}
    for path in paths:
        if path.name.endswith(".trans.txt"):
            for line in split_lines(read_text(data_root / path)):
                clip_id, *rest = re.split(f"[{_SPACES}]+", line.strip(_SPACES), maxsplit=1)
                texts[path.parent / clip_id] = "".join(rest)
    beside = {
        path.with_name(path.name.removesuffix(suffix)): path
        for suffix in reversed(_CLIP_TEXTS)  # the first one counts
        for path in paths
        if path.name.endswith(suffix)
    }
    for clip, path in beside.items():
        if not texts.get(clip):
            texts[clip] = " ".join(read_text(data_root / path).split())
    return texts


def with_noisy(data_root: Path, source: SetSource) -> SetSource:
    """Give the clips of a set the column `noisy`: the noisy partner, or the clip itself.

    The partner of `<split>/7/1/a.flac` is `<split>-noisy/7/1/a.flac`; a pair of different lengths
    counts as broken. `source` comes from `librispeech_sets`.
    """
    partners = [f"{split}{NOISY_SUFFIX}" for split in source.folders]
    found = [split for split in partners if (data_root / split).is_dir()]
    find = partial(_find_pairs, partners=found)
    return SetSource([*source.folders, *found], find, {**source.details, "noisy": True})


def _find_pairs(
    data_root: Path, files: list[FoundFile], partners: Sequence[str]
) -> list[FoundClip]:
    noisy = {file.path for file in files if file.path.split("/")[0] in partners}
    pairs = []
    for clip in find_clips(data_root, [file for file in files if file.path not in noisy]):
        split, _, rest = clip.wav.partition("/")
        partner, problem = f"{split}{NOISY_SUFFIX}/{rest}", ""
        if partner in noisy:
            problem = _other_length(data_root / clip.wav, data_root / partner)
        else:
            partner = clip.wav
        extra = {**clip.extra, "noisy": f"{DATA_ROOT}/{partner}"}
        pairs.append(replace(clip, extra=extra, problem=problem))
    return pairs


def _other_length(clean: Path, noisy: Path) -> str:
    """Problem of a pair of clips; "" if both have the same length."""
    try:
        lengths = [audio_info(path).num_samples for path in (clean, noisy)]
    except UserError as error:
        return str(error)
    if lengths[0] == lengths[1]:
        return ""
    return (
        f"{noisy}: {lengths[1]} samples, its clean clip has {lengths[0]}; both must have the"
        " same length: make it again"
    )


def named_sets(
    tr_splits: Sequence[str] = (),
    dev_splits: Sequence[str] = (),
    te_splits: Sequence[str] = (),
    extra_sets: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Sequence[str]]:
    """Return the splits of each set that is not empty, from the keys of a recipe's YAML.

    The splits are those of the sets train, valid and test; `extra_sets` has further sets by name.
    Raises `UserError` for no split at all, a split twice in a set, or a value that is not a list.

    Example
    -------
    >>> named_sets(["train-clean-100"], te_splits=["test-clean"])
    {'train': ['train-clean-100'], 'test': ['test-clean']}
    """
    standard = {"train": tr_splits, "valid": dev_splits, "test": te_splits}
    taken = sorted(standard.keys() & (extra_sets or {}).keys())
    if taken:
        raise UserError(f"extra_sets: {taken[0]!r} is the name of a standard set; rename it")
    sets = {name: splits for name, splits in {**standard, **(extra_sets or {})}.items() if splits}
    if not sets:
        raise UserError("tr_splits, dev_splits, te_splits: all empty; name at least one split")
    for name, splits in sets.items():
        if isinstance(splits, str):
            raise UserError(f"splits of {name!r}: {splits!r} is not a list; write [{splits}]")
        for split in splits:
            if splits.count(split) > 1:
                raise UserError(f"splits of {name!r}: {split!r} twice; name each split once")
    return sets


def librispeech_sets(
    data_folder: str | Path | None, save_folder: str | Path, sets: Mapping[str, Sequence[str]]
) -> tuple[Path, dict[str, SetSource]]:
    """Return the data root and the source of each set, for `prepare_sets`.

    `data_folder` holds the splits; None takes the embedded mini corpus, with its own splits if it
    does not have all of those named, and a line reports it. `sets` come from `named_sets`, and
    `save_folder` must not lie inside the data folder. `UserError` for a missing folder or split.
    """
    if data_folder is None:
        data_folder = embedded_corpus("LibriSpeech")
        if not all((data_folder / split).is_dir() for splits in sets.values() for split in splits):
            sets = EMBEDDED_SPLITS
        used = ", ".join(f"{name} {splits}" for name, splits in sets.items())
        print(f"no --data_folder: the embedded mini corpus is used, {used}", flush=True)
    root = check_data_folder(data_folder, save_folder)
    for name, splits in sets.items():
        for split in splits:
            _check_split(root, name, split)
    return root, {name: SetSource(splits, find_clips) for name, splits in sets.items()}


def _check_split(root: Path, name: str, split: str) -> None:
    if not (root / split).is_dir():
        folders = sorted(p.name for p in root.iterdir() if p.is_dir())
        nested = next((p for p in folders if (root / p / split).is_dir()), None)
        hint = (
            f"did you mean {root / nested}"
            if nested
            else f"there are: {', '.join(folders) or 'none'}"
        )
        raise UserError(
            f"data_folder {root}: no folder {split!r} (split of {name!r});"
            f" expected {root}/{TREE}; {hint}"
        )
