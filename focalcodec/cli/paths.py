"""Sources and output of a command: `focalcodec COMMAND SOURCE... OUT`, as with cp.

The rules are the same for `encode`, `decode`, `resynth` and `convert`:

* SOURCE is a file, a folder (all files below it), a pattern in quotes (`"talks/**/*.flac"`), or `-`
  for standard input. A file that is named is read with any suffix. Folders and patterns give only
  files with a known suffix, in order, and no files with a name that begins with a dot.
* OUT is the last argument. It is a file if there is one SOURCE, this is a file or `-`, and OUT is
  not a folder and does not end in a slash. It may be `-`, standard output, for one such SOURCE.
  Otherwise it is a folder, which keeps the tree below each SOURCE folder, or below the part of a
  pattern before its first `*`.
* Files in an OUT folder inside a SOURCE folder are not sources, so a command can be repeated.
* Before any work, the command checks that every SOURCE exists and gives files, that no two sources
  have the same output, and that no output is a source.
"""

from __future__ import annotations

import argparse
import glob
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO, NamedTuple

from focalcodec.cli.main import check_open_output
from focalcodec.data.corpus import walk_files
from focalcodec.errors import UserError
from focalcodec.files import AUDIO_SUFFIXES

STANDARD = "-"
TOKEN_SUFFIX = ".fct"


class SourceFile(NamedTuple):
    """A file of a SOURCE."""

    path: Path
    below: Path  # its path relative to the SOURCE folder


class Job(NamedTuple):
    """One source and its output."""

    source: Path | None  # None: standard input
    target: Path | None  # None: standard output

    @property
    def name(self) -> str:
        """Name of the source in messages."""
        return "standard input" if self.source is None else str(self.source)


def add_path_arguments(parser: argparse.ArgumentParser, reads: str, writes: str) -> None:
    """Add SOURCE... and OUT, as `args.sources` and `args.out`.

    `reads` and `writes` name the kinds of files, such as "audio" and "token".
    """
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help=f"{reads} file, folder, pattern in quotes, or - for standard input",
    )
    parser.add_argument(
        "out",
        metavar="OUT",
        help=f"{writes} file for one SOURCE file; folder for several, with the same tree;"
        " or - for standard output",
    )


def find_sources(
    sources: Sequence[str], suffixes: Sequence[str] = AUDIO_SUFFIXES, without: Path | None = None
) -> list[SourceFile]:
    """List the files of the sources, each once, sorted within each source.

    Parameters
    ----------
    sources : sequence of str
        Files, folders and patterns, which may contain `**`. If a file is named like a pattern, the
        file is used.
    suffixes : sequence of str
        Suffixes of the files in folders and patterns, in lower case; upper case matches too.
    without : Path, optional
        Folder inside a source; its files are left out.

    Raises
    ------
    UserError
        A source does not exist, or gives no files.
    """
    found: dict[SourceFile, None] = {}
    for source in sources:
        path = Path(source).expanduser()
        if path.is_file():
            files = [SourceFile(path, Path(path.name))]
        elif path.is_dir():
            files = _outside(_within(path, suffixes), path, without)
        elif glob.has_magic(source):
            fixed = _fixed_part(path)
            files = _outside(_matching(path, suffixes), fixed, without)
        elif path.exists():
            raise UserError(f"{source}: a pipe or device; send it to standard input, and give -")
        else:
            raise UserError(f"{source}: no such file or folder; check the path")
        if not files:
            raise UserError(f"{source}: gives no files that end in {', '.join(suffixes)}")
        found.update(dict.fromkeys(files))
    return list(found)


def plan_jobs(
    sources: Sequence[str],
    out: str,
    reads: Sequence[str] = AUDIO_SUFFIXES,
    writes: Sequence[str] = (".wav", ".flac"),
) -> list[Job]:
    """Pair each source file with its output by the rules of this module; write nothing.

    `reads` are the suffixes of files in folders and patterns. `writes` are the suffixes that an OUT
    file may have; the first one is that of files in an OUT folder.

    Raises
    ------
    UserError
        A source does not exist, OUT does not fit the sources, or two outputs are the same.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "a.wav").touch()
    ...     (job,) = plan_jobs([folder], "tokens", writes=[".fct"])
    ...     job.target.as_posix()
    'tokens/a.fct'
    """
    folder = Path(out).expanduser()
    if STANDARD in sources and len(sources) > 1:
        raise UserError("-: standard input must be the only source; leave out the others")
    one_file = sources[0] == STANDARD or Path(sources[0]).expanduser().is_file()
    ends_in_slash = out.endswith(tuple(filter(None, (os.sep, os.altsep))))
    if len(sources) == 1 and one_file and not (folder.is_dir() or ends_in_slash):
        source = None if sources[0] == STANDARD else Path(sources[0]).expanduser()
        target = None if out == STANDARD else folder
        if target is not None and target.suffix.lower() not in writes:
            raise UserError(f"{out}: give OUT a name that ends in {' or '.join(writes)}, or in /")
        jobs = [Job(source, target)]
    elif sources[0] == STANDARD:
        raise UserError(f"{out}: standard input has no name; give a file as OUT, or -")
    elif out == STANDARD:
        raise UserError("-: standard output takes one file; give one SOURCE, or a folder as OUT")
    elif folder.exists() and not folder.is_dir():
        raise UserError(f"{out}: a file, but there are several sources; give a folder as OUT")
    else:
        found = find_sources(sources, reads, without=folder)
        pairs = (Job(file.path, folder / file.below.with_suffix(writes[0])) for file in found)
        jobs = list(dict.fromkeys(pairs))
    _check_collisions(jobs)
    return jobs


@contextmanager
def open_source(source: Path | None) -> Iterator[Path | BinaryIO]:
    """Yield the path unchanged, or for standard input (None) a seekable copy of it in memory."""
    if source is not None:
        yield source
        return
    with _StandardInput(sys.stdin.buffer.read()) as file:
        yield file


@contextmanager
def open_target(target: Path | None) -> Iterator[Path | BinaryIO]:
    """Yield the path unchanged, or for standard output (None) a file in memory, sent at the end.

    `UserError` if standard output is a terminal or closed.
    """
    if target is not None:
        yield target
        return
    check_open_output()
    buffer = io.BytesIO()  # a header may need a length that is known only at the end
    yield buffer
    sys.stdout.buffer.write(buffer.getvalue())
    sys.stdout.buffer.flush()


class _StandardInput(io.BytesIO):
    name = "standard input"


def _within(folder: Path, suffixes: Sequence[str]) -> list[SourceFile]:
    found = [folder / file.path for file in walk_files(folder, "")]
    return _sorted_below([path for path in found if path.suffix.lower() in suffixes], folder)


def _fixed_part(pattern: Path) -> Path:
    parts = pattern.parts
    return Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])


def _matching(pattern: Path, suffixes: Sequence[str]) -> list[SourceFile]:
    parts = pattern.parts
    place = parts.index("**") if "**" in parts else len(parts)
    after = parts[place:]  # `walk_files` finds these: it follows links, each folder once
    fixed, found = _fixed_part(pattern), dict[Path, None]()
    for name in glob.glob(str(Path(*parts[:place]))):
        if after and os.path.isdir(name):
            below = (file.below for file in _within(Path(name), suffixes))
            found.update((Path(name, x), None) for x in below if _fits(x.parts, after))
        elif not after and Path(name).suffix.lower() in suffixes and not os.path.isdir(name):
            found[Path(name)] = None
    return _sorted_below(list(found), fixed)


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path fit those of a pattern; `**` fits any number of parts."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatch(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _sorted_below(paths: Sequence[Path], folder: Path) -> list[SourceFile]:
    found = [SourceFile(path, path.relative_to(folder)) for path in paths]
    return sorted(found, key=lambda file: file.below.parts)


def _outside(found: list[SourceFile], folder: Path, without: Path | None) -> list[SourceFile]:
    if without is None or _real(folder) not in _real(without).parents:
        return found
    return [file for file in found if _real(without) not in _real(file.path).parents]


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # `Path.resolve` fails at a link to itself


def _check_collisions(jobs: Sequence[Job]) -> None:
    sources: dict[str, Path] = {}
    for source, target in jobs:
        if source is None or target is None:
            continue
        # a file system may ignore upper and lower case
        other = sources.setdefault(os.path.normcase(_real(target)), source)
        if other != source:
            raise UserError(
                f"{other}, {source}: both have the output {target}; give each its own OUT"
            )
    read = {_real(source) for source, _ in jobs if source is not None}
    for _, target in jobs:
        if target is not None and _real(target) in read:
            raise UserError(f"{target}: both a source and an output; give another OUT")
