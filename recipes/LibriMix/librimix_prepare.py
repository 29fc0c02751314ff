"""Manifests of noisy and overlapped speech: of LibriMix, or of LibriSpeech, which is mixed later.

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
class Pairing:
    """Input (a mixture) and target (a signal), by the names of LibriMix's folders."""

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
        """Folders that become further columns if they exist."""
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
    """Write `train.csv`, `valid.csv`, `test.csv` and one `<name>.csv` for each extra set.

    With LibriMix, a row is a mixture: `wav` is the target, `noisy` the mixture; s1, s2, ... and
    noise are columns if the corpus has them. With LibriSpeech, a row is a clean clip, which is
    mixed on the fly.

    Parameters
    ----------
    data_folder : str or path, optional
        `Libri<N>Mix` or the folder above it, or LibriSpeech. None: the embedded mini corpus.
    save_folder : str or path
        Folder for the manifests.
    num_speakers, mixture, target, mode
        See `focalcodec.data.mixtures.mixture_and_target` and `MixtureMaker`.
    tr_splits, dev_splits, te_splits, extra_sets
        Splits of each set, named as in LibriSpeech; LibriMix's names lack "-clean".
    librispeech_folder : str or path, optional
        Root of LibriSpeech, which has the transcripts of LibriMix's clips.
    to_disk : ToDisk, optional
        Write mixtures of LibriSpeech first; the manifests then list these.
    skip_prep, max_broken_share
        See `prepare_sets` and `PrepareOptions`.

    Raises
    ------
    UserError
        A folder is missing, two clips have one ID, or too many clips are broken: signals of a
        mixture are missing, differ in length, or can't be read.
    """
    if skip_prep:
        return
    check_mode(mode)
    pairing = Pairing(num_speakers, *mixture_and_target(num_speakers, mixture, target), mode)
    sets = named_sets(tr_splits, dev_splits, te_splits, extra_sets)
    save, options = Path(save_folder), PrepareOptions(max_broken_share=max_broken_share)
    tree = None if data_folder is None else librimix_root(data_folder, num_speakers)
    if tree is None:
        _prepare_clean(data_folder, save, sets, pairing, to_disk, options)
        return
    if to_disk is not None and to_disk.folder is not None:
        raise UserError(f"data_folder {tree}: this is LibriMix; give the root of LibriSpeech")
    words = {} if librispeech_folder is None else _transcripts(librispeech_folder, sets)
    sets = {name: [split_name(split) for split in splits] for name, splits in sets.items()}
    prepare_sets(tree, save, mixture_sets(tree, sets, pairing, words), options)


def _prepare_clean(
    data_folder: str | Path | None,
    save: Path,
    sets: Mapping[str, Sequence[str]],
    pairing: Pairing,
    to_disk: ToDisk | None,
    options: PrepareOptions,
) -> None:
    """Write manifests of LibriSpeech, or of mixtures that are written first."""
    root, found = librispeech_sets(data_folder, save, sets)
    if to_disk is None:
        clean = {name: _clean_set(name, source.folders) for name, source in found.items()}
        prepare_sets(root, save, clean, options)
        return
    # As in LibriMix, all speakers of a mixture are from one split.
    clean = {
        split_name(split): _clean_set(name, [split])
        for name, source in found.items()
        for split in source.folders
    }
    prepare_sets(root, save / "clean", clean, options)
    rows = read_prepared(save / "clean")
    tree = Path(to_disk.folder or save / "mixtures") / f"Libri{pairing.num_speakers}Mix"
    mixtures = to_disk.mixtures or [name for name in pairing.needed if name.startswith("mix")]
    for split, some in rows.items():
        part = TreePart(tree, split, to_disk.modes or [pairing.mode], mixtures)
        write_mixtures(part, to_disk.mixer, some, to_disk.seed, to_disk.jobs)
    words = {row["ID"]: row["wrd"] for some in rows.values() for row in some}
    sets = {name: [split_name(x) for x in source.folders] for name, source in found.items()}
    prepare_sets(tree, save, mixture_sets(tree, sets, pairing, words), options)


def librimix_root(data_folder: str | Path, num_speakers: int) -> Path | None:
    """Return the root of LibriMix's tree, `Libri<N>Mix`, or None for another corpus.

    Parameters
    ----------
    data_folder : str or path
        The tree, or the folder above it.
    num_speakers : int
        Speakers of each mixture.

    Raises
    ------
    UserError
        The tree has mixtures of another number of speakers, or only those at 8 kHz.
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
    pairing: Pairing,
    words: Mapping[str, str],
) -> dict[str, SetSource]:
    """Folders of each set in LibriMix's tree.

    Parameters
    ----------
    root : Path
        Root of the tree.
    sets : mapping of str to sequence of str
        LibriMix's splits in each set.
    pairing : Pairing
        Input and target.
    words : mapping of str to str
        Transcripts, by LibriSpeech's clip IDs.

    Raises
    ------
    UserError
        A folder of the tree is missing.
    """
    texts = repr(sorted(words.items())).encode()
    details = {**vars(pairing), "words": hashlib.sha256(texts).hexdigest()}
    found = {}
    for name, splits in sets.items():
        for split in splits:
            _check_folders(root, split, pairing)
        there = [
            kind
            for kind in pairing.sources
            if all((root / pairing.folder(split) / kind).is_dir() for split in splits)
        ]
        kinds = list(dict.fromkeys([*pairing.needed, *there]))
        folders = [f"{pairing.folder(split)}/{kind}" for split in splits for kind in kinds]
        find = partial(find_mixtures, pairing=pairing, kinds=kinds, words=words)
        found[name] = SetSource(folders, find, details)
    return found


def find_mixtures(
    data_root: Path,
    files: list[FoundFile],
    pairing: Pairing,
    kinds: Sequence[str],
    words: Mapping[str, str],
) -> list[FoundClip]:
    """Clips of a set: mixtures with their targets and sources.

    Parameters
    ----------
    data_root : Path
        Root of the tree.
    files : list of FoundFile
        Files of the splits.
    pairing : Pairing
        Input and target.
    kinds : sequence of str
        Folders of each split; the first holds the targets.
    words : mapping of str to str
        Transcripts, by LibriSpeech's clip IDs.

    Returns
    -------
    list of FoundClip
        Sorted by split and ID. A mixture is broken if a signal is missing or has another length.
        It has a transcript if the target is one whole clip of LibriSpeech.
    """
    mixtures: dict[tuple[str, str], dict[str, FoundFile]] = defaultdict(dict)
    for file in files:
        _, _, split, kind, name = file.path.split("/", 4)
        if name.lower().endswith(".wav"):
            mixtures[split, name].setdefault(kind, file)
    clips = []
    whole = pairing.target == "s1" and (pairing.num_speakers == 1 or pairing.mode == "max")
    for (split, name), signals in sorted(mixtures.items()):
        clip_id = name[: -len(".wav")]
        said = _clips_of(clip_id, pairing.num_speakers)
        speakers = [re.split("[-_]", clip)[0] for clip in said]
        paths = {kind: f"{pairing.folder(split)}/{kind}/{name}" for kind in kinds}
        extra = {"noisy": f"{DATA_ROOT}/{paths[pairing.mixture]}"}
        extra |= {kind: f"{DATA_ROOT}/{paths[kind]}" for kind in pairing.sources if kind in paths}
        clips.append(
            FoundClip(
                id=clip_id,
                wav=paths[pairing.target],
                spk_id=speakers[0] if pairing.target == "s1" else "_".join(speakers),
                wrd=words.get(said[0], "") if whole else "",
                extra=extra,
                problem=_problem(data_root, signals, paths),
            )
        )
    return clips


def _problem(data_root: Path, signals: Mapping[str, FoundFile], paths: Mapping[str, str]) -> str:
    """Describe the problem of a mixture; "" if it has none."""
    missing = [kind for kind in paths if kind not in signals]
    if missing:
        return (
            f"{data_root / paths[missing[0]]}: missing, although its {next(iter(signals))} exists;"
            " generate or copy the split again"
        )
    # Files of equal size by one program have equal lengths, so their headers are not read.
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
                " signals of a mixture must have one length: generate or copy it again"
            )
    return ""


def _check_folders(root: Path, split: str, pairing: Pairing) -> None:
    place = root
    for part in pairing.folder(split).split("/"):
        place = _below(place, part, root)
    for kind in pairing.needed:
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
    """Split a mixture's ID into the IDs of its clips, which in LibriTTS contain underscores too."""
    parts = mixture.split("_")
    each = max(len(parts) // num_speakers, 1)
    return ["_".join(parts[k : k + each]) for k in range(0, each * num_speakers, each)]


def _transcripts(librispeech: str | Path, sets: Mapping[str, Sequence[str]]) -> dict[str, str]:
    root = Path(librispeech).expanduser()
    if not root.is_dir():
        raise UserError(f"librispeech_folder {root}: no such folder; null: no transcripts")
    splits = {split for splits in sets.values() for split in splits}
    files = [file for split in sorted(splits) for file in walk_files(root, split)]
    return {clip.id: clip.wrd for clip in find_clips(root, files)}


def _clean_set(name: str, splits: Sequence[str]) -> SetSource:
    """Clips of LibriSpeech, with the split of WHAM!'s noise for their set."""
    noise = WHAM_SPLITS.get(name, "tt")
    return SetSource(splits, partial(_find_clean, noise=noise), {"noise": noise})


def _find_clean(data_root: Path, files: list[FoundFile], noise: str) -> list[FoundClip]:
    clips = find_clips(data_root, files)
    return [replace(clip, extra={**clip.extra, "noise_split": noise}) for clip in clips]
