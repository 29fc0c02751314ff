"""Open the corpus that a command line names: files, manifests, lists, tar files, datasets, URLs."""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from focalcodec.data.corpus import FoundFile, path_ids, walk_files
from focalcodec.data.manifest import DATA_ROOT, find_manifests, read_manifest, root_of_manifest
from focalcodec.data.trees import find_labels
from focalcodec.errors import UserError
from focalcodec.files import AUDIO_SUFFIXES, read_text, split_lines
from focalcodec.tokenize.clips import CorpusClip, CorpusSource, FileSource
from focalcodec.tokenize.dataset_source import HUB_NAME, has_audio, is_saved, open_dataset
from focalcodec.tokenize.tars import TarSource, expand_numbers, is_tar
from focalcodec.tokenize.urls import is_url, list_files, parent_of, read_bytes


def open_corpus(
    source: str, data_folder: str | None = None, split: str | None = None
) -> CorpusSource:
    """Open the corpus that a command line names; it has at least one clip.

    Parameters
    ----------
    source : str
        Folder of audio files; manifest (.csv), or a folder of manifests with `sets.json`; list of
        paths (.txt), one per line; tar files of WebDataset: a file, a folder, or a pattern with
        `*` or `{000..127}`; folder of `datasets.save_to_disk`; Parquet file or folder of them;
        dataset on the hub, owner/name or owner/name:configuration. All but lists and `save_to_disk`
        can be a URL too.
    data_folder : str, optional
        Replaces `$data_root` in a manifest; the paths of a list are relative to it.
    split : str, optional
        Split of a dataset, needed if there are several; set of a folder of manifests.

    Raises
    ------
    UserError
        No such source, no clips in it, or `datasets` is needed and not installed.

    Example
    -------
    >>> from focalcodec.data.corpus import embedded_corpus
    >>> source = open_corpus(str(embedded_corpus("LibriSpeech") / "test-real"))
    >>> source.clips[0].id, source.clips[0].location, source.clips[0].spk_id
    ('91/1/91-1-0000', '$data_root/91/1/91-1-0000.flac', '91')
    """
    source = source.removeprefix("file://")
    if is_url(source):
        return _open_url(source, data_folder, split)
    path = Path(source).expanduser()
    # A mistyped path inside an existing folder is not looked up on the hub.
    on_hub = re.fullmatch(HUB_NAME, source) and not path.exists() and not path.parent.exists()
    if _is_dataset(path) or on_hub:
        return open_dataset(source, split)
    manifests = find_manifests(path)
    if path.is_dir() and manifests:
        return _open_sets(source, manifests, data_folder, split)
    if split is not None:
        raise UserError(f"split={split}: {source} is not a dataset; only datasets have splits")
    if path.is_dir():
        return _open_files(walk_files(path, ""), str(path), source)
    if manifests:
        return _open_sets(source, manifests, data_folder, None)
    if is_tar(source):
        names = expand_numbers(path.name)
        if "*" in path.name:
            names = sorted(found.name for found in path.parent.glob(path.name))
        return _open_tars([_found(path.with_name(name)) for name in names], str(path.parent))
    if not path.is_file():
        raise UserError(f"{source}: no such file or folder; check the path")
    if path.suffix.lower() != ".txt":
        raise UserError(
            f"{source}: neither a folder, a manifest (.csv), a list of paths (.txt), tar files nor"
            " Parquet"
        )
    root = "." if data_folder is None else str(Path(data_folder).expanduser())
    return _with_clips(FileSource(list_clips(path, root), root), source)


def _open_files(files: Sequence[FoundFile], root: str, source: str) -> FileSource:
    """Audio files below a folder or URL, or its tar files if there are none."""
    clips = _file_clips(files, Path(root))
    tars = [file for file in files if is_tar(file.path)]
    return (
        _open_tars(tars, root)
        if tars and not clips
        else _with_clips(FileSource(clips, root), source)
    )


def _open_tars(files: Sequence[FoundFile], root: str) -> TarSource:
    return _with_clips(TarSource(_clips_of(files), root), root)  # type: ignore[return-value]


def _with_clips(source: FileSource, name: str) -> FileSource:
    if not source.clips:
        suffixes = ", ".join(AUDIO_SUFFIXES)
        raise UserError(f"{name}: no audio files ({suffixes}) and no tar files; check the path")
    return source


def _found(path: Path) -> FoundFile:
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path}: no such file; check the path") from error
    return FoundFile(path.name, status.st_size, status.st_mtime_ns)


def _open_url(url: str, data_folder: str | None, split: str | None) -> CorpusSource:
    """Open a corpus at a URL, by the suffix of the URL or of the files below it."""
    if url.lower().endswith(".csv"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, url.rpartition("/")[2])
            path.write_bytes(read_bytes(url))
            try:
                clips = manifest_clips(path, data_folder)
            except UserError as error:
                raise UserError(str(error).replace(str(path), url)) from error
        return FileSource(clips, data_folder or "")
    names = expand_numbers(url)
    files = [file for name in names for file in list_files(name)]
    alone = len(files) == 1 and names[0].endswith(f"/{files[0].path}")
    root = parent_of(names[0], alone or len(names) > 1)
    tables = [file.path for file in files if file.path.endswith(".parquet")]
    if tables and not _audio_files(files):
        return open_dataset(url, split, [f"{root}/{name}" for name in tables])
    if split is not None:
        raise UserError(f"split={split}: {url} has no Parquet files; only datasets have splits")
    return _open_files(files, root, url)


def _audio_files(files: Sequence[FoundFile]) -> list[FoundFile]:
    return [file for file in files if Path(file.path).suffix.lower() in AUDIO_SUFFIXES]


def _clips_of(files: Sequence[FoundFile]) -> list[CorpusClip]:
    return [
        CorpusClip(name, f"{DATA_ROOT}/{file.path}", file.size, file.modified_ns)
        for name, file in zip(path_ids([file.path for file in files]), files, strict=True)
    ]


def _file_clips(files: Sequence[FoundFile], folder: Path) -> list[CorpusClip]:
    clips = _clips_of(_audio_files(files))
    # the trees of corpora are known on disk only: their transcripts are many small files
    labels = find_labels(folder, files) if folder.is_dir() else {}
    paths = [clip.location.removeprefix(f"{DATA_ROOT}/") for clip in clips]
    return [
        clip._replace(spk_id=labels[path].spk_id, wrd=labels[path].wrd) if path in labels else clip
        for clip, path in zip(clips, paths, strict=True)
    ]


def folder_clips(folder: Path) -> list[CorpusClip]:
    """All audio files below a folder, sorted; the id is the relative path without its suffix.

    Speakers and transcripts are those of LibriSpeech, LibriTTS and VoxPopuli, else "".
    """
    return _file_clips(walk_files(folder, ""), folder)


def _open_sets(
    source: str, manifests: dict[str, Path], data_folder: str | None, split: str | None
) -> FileSource:
    """Clips of manifests, all or those of one set."""
    if split is not None and split not in manifests:
        raise UserError(f"split={split}: {source} has the sets {', '.join(manifests)}")
    chosen = [path for name, path in manifests.items() if split in (None, name)]
    at_url = data_folder is not None and is_url(data_folder)
    root = data_folder if at_url else root_of_manifest(chosen[0], data_folder)
    clips = [clip for path in chosen for clip in manifest_clips(path, root)]
    twice = [name for name, count in Counter(clip.id for clip in clips).items() if count > 1]
    if twice:
        raise UserError(f"{source}: ID {twice[0]!r} is in two sets; give one set with --split")
    return FileSource(clips, str(root or ""))


def manifest_clips(manifest: Path, root: str | Path | None) -> list[CorpusClip]:
    """Clips of a manifest, in its order. A missing file fails later, when its clip is read."""
    rows = read_manifest(manifest, DATA_ROOT, check_files=False)
    if root is None and any(row["wav"].startswith(DATA_ROOT) for row in rows):
        raise UserError(f"{manifest}: paths begin with {DATA_ROOT}; give --data_folder")
    return [
        CorpusClip(
            *(row["ID"], row["wav"], *_status(row["wav"], str(root or ""))),
            *(row["spk_id"], row["wrd"]),
            span=(row["start"], row["stop"]) if "start" in row else None,
        )
        for row in rows
    ]


def list_clips(listing: Path, root: str) -> list[CorpusClip]:
    """Clips of a list of paths or URLs, in its order; the id is the path without its suffix."""
    lines = split_lines(read_text(listing, errors="surrogateescape"))
    paths = [line for line in lines if line.strip()]
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise UserError(f"{listing}: {twice[0]} is listed twice; paths must differ")
    whole = [os.path.isabs(path) or is_url(path) for path in paths]
    locations = [
        path if is_whole else f"{DATA_ROOT}/{path}"
        for path, is_whole in zip(paths, whole, strict=True)
    ]
    return [
        CorpusClip(name, location, *_status(location, root))
        for name, location in zip(path_ids(paths), locations, strict=True)
    ]


def _status(location: str, root: str) -> tuple[int, int]:
    """Size and time of a file; 0 if it is missing, or at a URL, where asking takes long."""
    try:
        status = os.stat(location.replace(DATA_ROOT, root, 1))
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _is_dataset(path: Path) -> bool:
    if not path.is_dir():
        return path.suffix.lower() == ".parquet"
    if is_saved(path):
        return True
    tables = sorted([*path.glob("*.parquet"), *path.glob("*/*.parquet")])
    # beside files of audio, a table without audio has only their metadata
    return bool(tables) and (has_audio(tables[0]) or not _audio_files(walk_files(path, "")))
