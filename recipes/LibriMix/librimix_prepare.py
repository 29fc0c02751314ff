"""Manifests of noisy and overlapped speech: of LibriMix, or of LibriSpeech that is to be mixed.

Libri<N>Mix/wav16k/<mode>/<split>/{s1,s2,...,noise,mix_clean,mix_single,mix_both}/<id>.wav
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from focalcodec.audio import audio_info
from focalcodec.data.acoustics import WHAM_SPLITS
from focalcodec.data.corpus import FoundClip, FoundFile, PrepareOptions, SetSource, walk_files
from focalcodec.data.librispeech_tree import find_clips, librispeech_sets, named_sets
from focalcodec.data.manifest import DATA_ROOT, read_prepared
from focalcodec.data.mixture_files import (
    RATE_FOLDER,
    ToDisk,
    TreePart,
    split_name,
    write_mixtures,
)
from focalcodec.data.mixtures import check_mode, mixture_and_target
from focalcodec.data.prepare import prepare_sets
from focalcodec.errors import UserError


@dataclass(frozen=True)
class Wanted:
    """What is heard and aimed at; names are those of LibriMix's folders."""

    num_speakers: int
    mixture: str
    target: str
    mode: str

    @property
    def needed(self) -> list[str]:
        """Folders that a split must have."""
        return list(dict.fromkeys([self.target, self.mixture]))

    @property
    def sources(self) -> list[str]:
        """Folders that become further columns where they are there."""
        noise = [] if self.mixture == "mix_clean" else ["noise"]
        return [f"s{k}" for k in range(1, self.num_speakers + 1)] + noise

    def folder(self, split: str) -> str:
        """Folder of a split, below the tree's root."""
        return f"{RATE_FOLDER}/{self.mode}/{split}"


def prepare_librimix(
    data_folder: str | Path | None,
    save_folder: str | Path,
    num_speakers: int = 1,
    mixture: str | None = None,
    target: str | None = None,
    mode: str = "min",
    tr_splits: Sequence[str] = (),
    dev_splits: Sequence[str] = (),
    te_splits: Sequence[str] = (),
    extra_sets: Mapping[str, Sequence[str]] | None = None,
    librispeech_folder: str | Path | None = None,
    to_disk: ToDisk | None = None,
    skip_prep: bool = False,
    max_broken_share: float = 0.05,
) -> None:
    """Make `train.csv`, `valid.csv`, `test.csv` and one `<name>.csv` for each extra set.

    Of LibriMix a row is a mixture: `wav` is the target, `noisy` the mixture; s1, s2, ... and noise
    are columns where they are there. Of LibriSpeech it is a clean clip, to be mixed on the fly.

    Parameters
    ----------
    data_folder : str or path, optional
        LibriMix: `Libri<N>Mix` or the folder above it; or LibriSpeech. None: the embedded corpus.
    save_folder : str or path
        Where manifests go.
    num_speakers, mixture, target, mode
        See `focalcodec.data.mixtures.mixture_and_target` and `MixtureMaker`.
    tr_splits, dev_splits, te_splits, extra_sets
        Splits of each set by LibriSpeech's names: LibriMix's are those without "-clean".
    librispeech_folder : str or path, optional
        LibriSpeech, for the transcripts of LibriMix.
    to_disk : ToDisk, optional
        Write mixtures of LibriSpeech at once, and make manifests of those.
    skip_prep, max_broken_share
        See `prepare_sets` and `PrepareOptions`.

    Raises
    ------
    UserError
        A missing folder, an ID twice, or too many broken clips: a mixture without its sources or
        the other way round, sources that are not as long as their mixture, no audio.
    """
    if skip_prep:
        return
    check_mode(mode)
    wanted = Wanted(num_speakers, *mixture_and_target(num_speakers, mixture, target), mode)
    sets = named_sets(tr_splits, dev_splits, te_splits, extra_sets)
    save, options = Path(save_folder), PrepareOptions(max_broken_share=max_broken_share)
    tree = None if data_folder is None else librimix_root(data_folder, num_speakers)
    if tree is None:
        _prepare_clean(data_folder, save, sets, wanted, to_disk, options)
        return
    if to_disk is not None and to_disk.folder is not None:
        raise UserError(f"data_folder {tree}: is LibriMix already; give LibriSpeech, to mix it")
    words = {} if librispeech_folder is None else _transcripts(librispeech_folder, sets)
    sets = {name: [split_name(split) for split in splits] for name, splits in sets.items()}
    prepare_sets(tree, save, mixture_sets(tree, sets, wanted, words), options)


def _prepare_clean(
    data_folder: str | Path | None,
    save: Path,
    sets: Mapping[str, Sequence[str]],
    wanted: Wanted,
    to_disk: ToDisk | None,
    options: PrepareOptions,
) -> None:
    """Manifests of LibriSpeech, or of the mixtures that are made of it."""
    root, found = librispeech_sets(data_folder, save, sets)
    if to_disk is None:
        clean = {name: _clean_set(name, source.folders) for name, source in found.items()}
        prepare_sets(root, save, clean, options)
        return
    # Mixed within each split, as LibriMix is.
    clean = {
        split_name(split): _clean_set(name, [split])
        for name, source in found.items()
        for split in source.folders
    }
    prepare_sets(root, save / "clean", clean, options)
    rows = read_prepared(save / "clean")
    tree = Path(to_disk.folder or save / "mixtures") / f"Libri{wanted.num_speakers}Mix"
    mixtures = to_disk.mixtures or [name for name in wanted.needed if name.startswith("mix")]
    for split, some in rows.items():
        part = TreePart(tree, split, to_disk.modes or [wanted.mode], mixtures)
        write_mixtures(part, to_disk.mixer, some, to_disk.seed, to_disk.jobs)
    words = {row["ID"]: row["wrd"] for some in rows.values() for row in some}
    sets = {name: [split_name(x) for x in source.folders] for name, source in found.items()}
    prepare_sets(tree, save, mixture_sets(tree, sets, wanted, words), options)


def librimix_root(data_folder: str | Path, num_speakers: int) -> Path | None:
    """Root of LibriMix's tree, `Libri<N>Mix`; None where the folder holds something else.

    Parameters
    ----------
    data_folder : str or path
        It, or the folder above it.
    num_speakers : int
        Speakers of each mixture.

    Raises
    ------
    UserError
        A tree of other mixtures: of another number of speakers, or at 8 kHz alone.
    """
    folder, name = Path(data_folder).expanduser(), f"Libri{num_speakers}Mix"
    for tree in (folder / name, folder):
        if (tree / RATE_FOLDER).is_dir():
            if re.fullmatch(r"Libri\dMix", tree.name) and tree.name != name:
                raise UserError(f"data_folder {tree}: not {name}; set num_speakers={tree.name[5]}")
            return tree
        if (tree / "wav8k").is_dir():
            raise UserError(
                f"data_folder {tree}: has wav8k, but no {RATE_FOLDER}; generate LibriMix at 16 kHz"
            )
    others = sorted(path.name for path in folder.glob("Libri?Mix"))
    if others:
        raise UserError(f"data_folder {folder}: no folder {name}; there are: {', '.join(others)}")
    return None


def mixture_sets(
    root: Path,
    sets: Mapping[str, Sequence[str]],
    wanted: Wanted,
    words: Mapping[str, str],
) -> dict[str, SetSource]:
    """Where the files of each set are in LibriMix's tree.

    Parameters
    ----------
    root : Path
        Of the tree.
    sets : mapping of str to sequence of str
        LibriMix's splits of each set.
    wanted : Wanted
        What is heard and aimed at.
    words : mapping of str to str
        Transcript of each clip of LibriSpeech.

    Raises
    ------
    UserError
        A folder of the tree that is not there.
    """
    texts = repr(sorted(words.items())).encode()
    details = {**vars(wanted), "words": hashlib.sha256(texts).hexdigest()}
    found = {}
    for name, splits in sets.items():
        for split in splits:
            _check_folders(root, split, wanted)
        there = [
            kind
            for kind in wanted.sources
            if all((root / wanted.folder(split) / kind).is_dir() for split in splits)
        ]
        kinds = list(dict.fromkeys([*wanted.needed, *there]))
        folders = [f"{wanted.folder(split)}/{kind}" for split in splits for kind in kinds]
        find = partial(find_mixtures, wanted=wanted, kinds=kinds, words=words)
        found[name] = SetSource(folders, find, details)
    return found


def find_mixtures(
    data_root: Path,
    files: list[FoundFile],
    wanted: Wanted,
    kinds: Sequence[str],
    words: Mapping[str, str],
) -> list[FoundClip]:
    """Mixtures with their sources.

    Parameters
    ----------
    data_root : Path
        Root of the tree.
    files : list of FoundFile
        Files of the splits.
    wanted : Wanted
        What is heard and aimed at.
    kinds : sequence of str
        Folders of each split; the first is the target's.
    words : mapping of str to str
        Transcript of each clip of LibriSpeech.

    Returns
    -------
    list of FoundClip
        By split and ID, those with a missing signal or one of another length as broken. A
        transcript is given where the target is one whole clip of LibriSpeech.
    """
    mixtures: dict[tuple[str, str], dict[str, FoundFile]] = defaultdict(dict)
    for file in files:
        _, _, split, kind, name = file.path.split("/", 4)
        if name.lower().endswith(".wav"):
            mixtures[split, name].setdefault(kind, file)
    clips = []
    whole = wanted.target == "s1" and (wanted.num_speakers == 1 or wanted.mode == "max")
    for (split, name), signals in sorted(mixtures.items()):
        clip_id = name[: -len(".wav")]
        said = _clips_of(clip_id, wanted.num_speakers)
        speakers = [re.split("[-_]", clip)[0] for clip in said]
        paths = {kind: f"{wanted.folder(split)}/{kind}/{name}" for kind in kinds}
        extra = {"noisy": f"{DATA_ROOT}/{paths[wanted.mixture]}"}
        extra |= {kind: f"{DATA_ROOT}/{paths[kind]}" for kind in wanted.sources if kind in paths}
        clips.append(
            FoundClip(
                id=clip_id,
                wav=paths[wanted.target],
                spk_id=speakers[0] if wanted.target == "s1" else "_".join(speakers),
                wrd=words.get(said[0], "") if whole else "",
                extra=extra,
                problem=_problem(data_root, signals, paths),
            )
        )
    return clips


def _problem(data_root: Path, signals: Mapping[str, FoundFile], paths: Mapping[str, str]) -> str:
    """What is wrong with a mixture; nothing where it is whole."""
    missing = [kind for kind in paths if kind not in signals]
    if missing:
        return (
            f"{data_root / paths[missing[0]]}: not there, but its {next(iter(signals))} is;"
            " generate or copy the split again"
        )
    # Files of one writer are as large as each other if they are as long: no header is read.
    if len({signals[kind].size for kind in paths}) == 1:
        return ""
    try:
        samples = {kind: audio_info(data_root / path).num_samples for kind, path in paths.items()}
    except UserError as error:
        return str(error)
    (first, length), *others = samples.items()
    for kind, found in others:
        if found != length:
            return (
                f"{data_root / paths[kind]}: {found} samples, but its {first} has {length}; the"
                " signals of a mixture must be of one length: generate or copy it again"
            )
    return ""


def _check_folders(root: Path, split: str, wanted: Wanted) -> None:
    place = root
    for part in wanted.folder(split).split("/"):
        place = _below(place, part, root)
    for kind in wanted.needed:
        _below(place, kind, root)


def _below(folder: Path, name: str, root: Path) -> Path:
    if (folder / name).is_dir():
        return folder / name
    there = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    raise UserError(
        f"data_folder {root}: no folder {(folder / name).relative_to(root)}; there are:"
        f" {there or 'none'}"
    )


def _clips_of(mixture: str, num_speakers: int) -> list[str]:
    """IDs of the clips of a mixture, joined by underscores, which those of LibriTTS have too."""
    parts = mixture.split("_")
    each = max(len(parts) // num_speakers, 1)
    return ["_".join(parts[k : k + each]) for k in range(0, each * num_speakers, each)]


def _transcripts(librispeech: str | Path, sets: Mapping[str, Sequence[str]]) -> dict[str, str]:
    root = Path(librispeech).expanduser()
    if not root.is_dir():
        raise UserError(f"librispeech_folder {root}: no such folder; null does without transcripts")
    splits = {split for splits in sets.values() for split in splits}
    files = [file for split in sorted(splits) for file in walk_files(root, split)]
    return {clip.id: clip.wrd for clip in find_clips(root, files)}


def _clean_set(name: str, splits: Sequence[str]) -> SetSource:
    """Clips of LibriSpeech, with the part of WHAM!'s noise that is meant for the set."""
    noise = WHAM_SPLITS.get(name, "tt")
    return SetSource(splits, partial(_find_clean, noise=noise), {"noise": noise})


def _find_clean(data_root: Path, files: list[FoundFile], noise: str) -> list[FoundClip]:
    clips = find_clips(data_root, files)
    return [replace(clip, extra={**clip.extra, "noise_split": noise}) for clip in clips]
