"""Manifests of LibriSpeech, or of a corpus in its tree or in LibriTTS's.

LibriSpeech: `<split>/<speaker>/<chapter>/<clip>.flac` with `<speaker>-<chapter>.trans.txt`.
LibriTTS: `<split>/<speaker>/<chapter>/<clip>.wav` with `<clip>.normalized.txt`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from focalcodec.audio import Channels
from focalcodec.data.prepare import (
    AUDIO_SUFFIXES,
    FoundClip,
    FoundFile,
    PrepareOptions,
    build_manifest,
    check_data_folder,
)
from focalcodec.errors import UserError

_TREE = "<split>/<speaker>/<chapter>/<clip>.flac"
_CLIP_TEXTS = (".normalized.txt", ".original.txt")


def prepare_librispeech(
    data_folder: str | Path,
    save_folder: str | Path,
    tr_splits: Sequence[str] = (),
    dev_splits: Sequence[str] = (),
    te_splits: Sequence[str] = (),
    extra_sets: Mapping[str, Sequence[str]] | None = None,
    skip_prep: bool = False,
    channels: Channels = "error",
    min_seconds: float = 0.05,
    max_broken_share: float = 0.05,
    num_threads: int = 8,
) -> None:
    """Make `train.csv`, `valid.csv`, `test.csv` and one `<name>.csv` for each extra set.

    Does nothing for a set that was made from the same files with the same options. The data
    folder is only read.

    Parameters
    ----------
    data_folder : str or path
        Folder that holds the splits.
    save_folder : str or path
        Where manifests go.
    tr_splits, dev_splits, te_splits : sequence of str
        Splits of each set, e.g. `["train-clean-100", "train-clean-360"]`.
    extra_sets : mapping of str to sequence of str, optional
        Further sets by name, e.g. `{"test-real": ["test-real"]}`.
    skip_prep : bool
        Return at once: the manifests are there.
    channels, min_seconds, max_broken_share
        See `focalcodec.data.prepare.PrepareOptions`.
    num_threads : int
        Threads that read headers.

    Raises
    ------
    UserError
        A missing folder or split, no clips, an ID twice, or too many broken clips.
    """
    if skip_prep:
        return
    root = check_data_folder(data_folder, save_folder)
    sets = {"train": tr_splits, "valid": dev_splits, "test": te_splits}
    taken = sorted(sets.keys() & (extra_sets or {}).keys())
    if taken:
        raise UserError(f"extra_sets: {taken[0]!r} is the name of a standard set; rename it")
    sets = {name: splits for name, splits in {**sets, **(extra_sets or {})}.items() if splits}
    if not sets:
        raise UserError("tr_splits, dev_splits, te_splits: all empty; name at least one split")
    for name, splits in sets.items():
        _check_splits(root, name, splits)
    options = PrepareOptions(channels, min_seconds, max_broken_share)
    for name, splits in sets.items():
        manifest = Path(save_folder).expanduser() / f"{name}.csv"
        build_manifest(manifest, root, splits, find_clips, options, num_threads)


def find_clips(data_root: Path, files: list[FoundFile]) -> list[FoundClip]:
    """Clips of either tree with their speakers and transcripts.

    Parameters
    ----------
    data_root : Path
        Folder that holds the splits.
    files : list of FoundFile
        Files of the splits.

    Returns
    -------
    list of FoundClip
        In the files' order; those without a transcript have an empty `wrd`.
    """
    paths = [PurePosixPath(file.path) for file in files]
    texts: dict[PurePosixPath, str] = {}
    for path in paths:
        if path.name.endswith(".trans.txt"):
            for line in _read_text(data_root / path).splitlines():
                clip_id, _, words = line.strip().partition(" ")
                texts[path.parent / clip_id] = words.strip()
    known = set(paths)
    clips = []
    for path in paths:
        if len(path.parts) != 4 or path.suffix.lower() not in AUDIO_SUFFIXES:
            continue
        words = texts.get(path.with_suffix(""), "")
        beside = [p for s in _CLIP_TEXTS if (p := path.with_name(path.stem + s)) in known]
        if not words and beside:
            words = " ".join(_read_text(data_root / beside[0]).split())
        clips.append(FoundClip(id=path.stem, wav=str(path), spk_id=path.parts[1], wrd=words))
    return clips


def _check_splits(root: Path, name: str, splits: Sequence[str]) -> None:
    if isinstance(splits, str):
        raise UserError(f"splits of {name!r}: {splits!r} is not a list; write [{splits}]")
    for split in splits:
        if splits.count(split) > 1:
            raise UserError(f"splits of {name!r}: {split!r} twice; name each split once")
        if not (root / split).is_dir():
            there = sorted(p.name for p in root.iterdir() if p.is_dir())
            nested = next((p for p in there if (root / p / split).is_dir()), None)
            hint = f"did you mean {root / nested}" if nested else f"there are: {', '.join(there)}"
            raise UserError(
                f"data_folder {root}: no folder {split!r} (split of {name!r});"
                f" expected {root}/{_TREE}; {hint or 'nothing'}"
            )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: transcript is not UTF-8 ({error}); convert it") from error
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); copy it again") from error
