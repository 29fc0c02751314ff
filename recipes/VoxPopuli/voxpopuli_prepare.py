"""Manifests of VoxPopuli: speech with transcripts, and for training also speech without.

`focalcodec/data/voxpopuli_tree.py` describes the tree.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from focalcodec.data.corpus import (
    PrepareOptions,
    SetSource,
    check_data_folder,
    embedded_corpus,
)
from focalcodec.data.prepare import prepare_sets
from focalcodec.data.voxpopuli_tree import TRANSCRIBED, UNLABELLED, find_clips, tsv_name
from focalcodec.errors import UserError

SETS = {"train": "train", "dev": "valid", "test": "test"}


def prepare_voxpopuli(
    data_folder: str | Path | None,
    save_folder: str | Path,
    languages: Sequence[str],
    splits: Sequence[str] = ("train", "dev", "test"),
    unlabelled: Sequence[str] = (),
    segment_seconds: float | None = 30.0,
    skip_prep: bool = False,
    max_broken_share: float = 0.05,
) -> None:
    """Write `train.csv`, `valid.csv` and `test.csv`, with a column `language`.

    A set that was made from the same files with the same options is kept. The data folder is only
    read.

    Parameters
    ----------
    data_folder : str or path, optional
        Folder with `transcribed_data`. None: the embedded mini corpus, which has five languages.
    save_folder : str or path
        Folder for the manifests.
    languages : sequence of str
        Languages of all sets, e.g. `["de", "fr"]`.
    splits : sequence of str
        Which of "train", "dev" and "test" to write.
    unlabelled : sequence of str
        Languages with speech without transcripts to add to the training set: segments, or whole
        recordings if segments are missing. Recordings with a clip of the language's dev or test
        set are left out.
    segment_seconds : float, optional
        Longer files are cut into equal segments of at most this length.
    skip_prep : bool
        Do nothing: the manifests exist.
    max_broken_share : float
        If the share of broken clips in a set is larger, the preparation stops.

    Raises
    ------
    UserError
        A folder, language, split or column is missing, a file is not UTF-8, or there are no clips
        or too many broken ones.
    """
    if skip_prep:
        return
    _check_lists(languages=languages, splits=splits, unlabelled=unlabelled)
    if data_folder is None:
        data_folder = embedded_corpus("VoxPopuli")
        languages = _embedded(data_folder, languages)
        there = ", ".join(languages)
        print(f"no --data_folder: the embedded mini corpus is used, {there}", flush=True)
    root = check_data_folder(data_folder, save_folder)
    _check_transcribed(root, languages, splits)
    folders = [f"{TRANSCRIBED}/{language}" for language in languages]
    sources = {SETS[split]: _source(root, folders, split, ()) for split in splits}
    if unlabelled and "train" in splits:
        more = _unlabelled(root, unlabelled, segment_seconds)
        sources["train"] = _source(root, folders, "train", more)
    options = PrepareOptions(max_broken_share=max_broken_share, segment_seconds=segment_seconds)
    prepare_sets(root, save_folder, sources, options)


def _source(root: Path, transcribed: Sequence[str], split: str, more: Sequence[str]) -> SetSource:
    find = partial(find_clips, split=split, transcribed=transcribed)
    return SetSource([*transcribed, *more], find, {"split": split})


def _check_lists(**lists: Sequence[str]) -> None:
    for name, words in lists.items():
        if isinstance(words, str):
            raise UserError(f"{name}: {words!r} is not a list; write [{words}]")
        for word in words:
            if words.count(word) > 1:
                raise UserError(f"{name}: {word!r} twice; name each once")
        if not words and name != "unlabelled":
            raise UserError(f"{name}: none; name at least one")
    for split in lists["splits"]:
        if split not in SETS:
            raise UserError(f"splits: no {split!r}; there are: {', '.join(SETS)}")


def _embedded(root: Path, languages: Sequence[str]) -> list[str]:
    there = _folders(root / TRANSCRIBED)
    kept = [language for language in languages if language in there]
    if not kept:
        raise UserError(
            f"languages: {', '.join(languages)}; the embedded corpus has {', '.join(there)}: name"
            " some of them, or a corpus with --data_folder"
        )
    return kept


def _check_transcribed(root: Path, languages: Sequence[str], splits: Sequence[str]) -> None:
    if not (root / TRANSCRIBED).is_dir():
        raise UserError(
            f"data_folder {root}: no folder {TRANSCRIBED}; expected"
            f" {root}/{TRANSCRIBED}/<language>/{tsv_name('train')}"
        )
    for language in languages:
        folder = root / TRANSCRIBED / language
        if not folder.is_dir():
            raise UserError(_no_language("languages", language, [root / TRANSCRIBED]))
        for split in splits:
            if not (folder / tsv_name(split)).is_file():
                raise UserError(
                    f"{folder}: no {tsv_name(split)}; make it with VoxPopuli's get_asr_data, or"
                    f" leave {language!r} out of languages"
                )


def _unlabelled(root: Path, languages: Sequence[str], segment_seconds: float | None) -> list[str]:
    """Folder of each language's speech without transcripts."""
    folders = []
    for language in languages:
        found = [f"{kind}/{language}" for kind in UNLABELLED if (root / kind / language).is_dir()]
        if not found:
            raise UserError(_no_language("unlabelled", language, [root / k for k in UNLABELLED]))
        folders.append(found[0])
        if segment_seconds is None and found[0].startswith(UNLABELLED[1]):
            raise UserError(
                f"segment_seconds: null, but {root / found[0]} has whole sittings; give a length"
                " such as 30, or cut them with VoxPopuli's get_unlabelled_data"
            )
    return folders


def _no_language(name: str, language: str, places: Sequence[Path]) -> str:
    there = sorted({folder for place in places for folder in _folders(place)})
    near = difflib.get_close_matches(language, there, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return (
        f"{name}: no folder {language!r} in {' or '.join(map(str, places))};"
        f" {hint}there are: {', '.join(there) or 'none'}"
    )


def _folders(place: Path) -> list[str]:
    return sorted(path.name for path in place.glob("*") if path.is_dir())
