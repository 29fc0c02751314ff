"""What a command reads and where it writes: `focalcodec COMMAND SOURCE... OUT`, as with cp.

The rule, the same for every command (`encode`, `decode`, `resynth`, `convert`, `tokenize`):

* SOURCE is a file, a folder (all below it), a pattern in quotes (`"talks/**/*.flac"`) or `-`,
  standard input, alone. A file that is named is taken whatever it is called; folders and patterns
  give the files with a known suffix, in order, without those whose name begins with a dot.
* OUT is the last argument. It is a file when there is one SOURCE, itself a file or `-`, and OUT is
  no folder and does not end in a slash. It is `-`, standard output, for one such SOURCE. Else it is
  a folder, which keeps the tree below each folder, or below the fixed part of a pattern.
* What lies in an OUT folder inside a SOURCE folder is no source, so that a run can be repeated.
* Before any work these are refused: a SOURCE that is not there or gives no file, two sources for
  one output, an output that is a source.

In a command's module: `add_path_arguments` and `plan_jobs`, then `jobs.run_jobs`; in the work on
one job `open_source` and `open_target`. A command with other outputs uses `find_sources` alone.
"""

from __future__ import annotations

import argparse
import glob
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from focalcodec.audio import AUDIO_SUFFIXES
from focalcodec.errors import UserError

STANDARD = "-"
TOKEN_SUFFIX = ".fct"


class Found(NamedTuple):
    """A file that was found: `path`, and `below`, its place in the tree of its SOURCE."""

    path: Path
    below: Path


class Job(NamedTuple):
    """One file to make: None is standard input or output."""

    source: Path | None
    target: Path | None

    @property
    def name(self) -> str:
        """What messages call it."""
        return "standard input" if self.source is None else str(self.source)


def add_path_arguments(parser: argparse.ArgumentParser, reads: str, writes: str) -> None:
    """Add SOURCE... and OUT, as `args.sources` and `args.out`.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of the command.
    reads, writes : str
        What the sources and the output are, such as "audio" and "token".

    Example
    -------
    >>> parser = argparse.ArgumentParser()
    >>> add_path_arguments(parser, "audio", "token")
    >>> parser.parse_intermixed_args(["a.wav", "b.wav", "out"])
    Namespace(sources=['a.wav', 'b.wav'], out='out')
    """
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help=f"{reads} files, folders, patterns in quotes, or - for standard input",
    )
    parser.add_argument(
        "out",
        metavar="OUT",
        help=f"{writes} file for one file; else a folder, which keeps the tree; or - for"
        " standard output",
    )


def find_sources(
    sources: Sequence[str], suffixes: Sequence[str] = AUDIO_SUFFIXES, without: Path | None = None
) -> list[Found]:
    """List the files that the sources name, each once, in order.

    Parameters
    ----------
    sources : sequence of str
        Files, folders and patterns, `**` too; a file of that very name goes before a pattern.
    suffixes : sequence of str
        Of the files in folders and patterns, lower case; files of either case are taken.
    without : Path, optional
        A folder: what lies in it is left out of the sources that it lies in.

    Returns
    -------
    list of Found
        Not empty; sorted within each source.

    Raises
    ------
    UserError
        A source is not there, or gives no file.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "talks").mkdir()
    ...     for name in ("talks/a.WAV", "b.flac", "notes.txt"):
    ...         (Path(folder) / name).touch()
    ...     [found.below.as_posix() for found in find_sources([folder])]
    ['b.flac', 'talks/a.WAV']
    """
    found: dict[Found, None] = {}
    for source in sources:
        path = Path(source).expanduser()
        if path.is_file():
            files = [Found(path, Path(path.name))]
        elif path.is_dir():
            files = _outside(_within(path, suffixes), path, without)
        elif glob.has_magic(source):
            fixed = _fixed_part(path)
            files = _outside(_matching(path, fixed, suffixes), fixed, without)
        else:
            raise UserError(f"{source}: no such file or folder; check the path")
        if not files:
            raise UserError(f"{source}: no files there that end in {', '.join(suffixes)}")
        found.update(dict.fromkeys(files))
    return list(found)


def plan_jobs(
    sources: Sequence[str],
    out: str,
    reads: Sequence[str] = AUDIO_SUFFIXES,
    writes: Sequence[str] = (".wav", ".flac"),
) -> list[Job]:
    """Pair each source with its output by the rule of this module; nothing is made yet.

    Parameters
    ----------
    sources, out : sequence of str, str
        As given on the command line.
    reads : sequence of str
        Suffixes of the files in folders and patterns.
    writes : sequence of str
        Suffixes that an OUT file may have; the first is that of the files in an OUT folder.

    Returns
    -------
    list of Job
        No two with the same target. Targets may be there already, see `jobs.run_jobs`.

    Raises
    ------
    UserError
        Sources that are not there, an OUT that does not fit them, outputs that collide.

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
        raise UserError("-: standard input is one source alone; leave out the others")
    one_file = sources[0] == STANDARD or Path(sources[0]).expanduser().is_file()
    ends_in_slash = out.endswith(tuple(filter(None, (os.sep, os.altsep))))
    if len(sources) == 1 and one_file and not (folder.is_dir() or ends_in_slash):
        source = None if sources[0] == STANDARD else Path(sources[0]).expanduser()
        target = None if out == STANDARD else folder
        if target is not None and target.suffix.lower() not in writes:
            raise UserError(f"{out}: give OUT a name that ends in {' or '.join(writes)}, or a /")
        jobs = [Job(source, target)]
    elif sources[0] == STANDARD:
        raise UserError(f"{out}: standard input has no name; give OUT that of a file, or -")
    elif out == STANDARD:
        raise UserError("-: standard output takes one file; name one SOURCE, or an OUT folder")
    elif folder.exists() and not folder.is_dir():
        raise UserError(f"{out}: a file, and there are several sources; give OUT a folder")
    else:
        found = find_sources(sources, reads, without=folder)
        pairs = (Job(file.path, folder / file.below.with_suffix(writes[0])) for file in found)
        jobs = list(dict.fromkeys(pairs))
    _refuse_collisions(jobs)
    return jobs


@contextmanager
def open_source(source: Path | None) -> Iterator[Path | BinaryIO]:
    """Give a path as it is, and standard input as a file that can be searched, whole in memory."""
    if source is not None:
        yield source
        return
    with _StandardInput(sys.stdin.buffer.read()) as file:
        yield file


@contextmanager
def open_target(target: Path | None) -> Iterator[Path | BinaryIO]:
    """Give a path as it is; for standard output a file in memory that is sent when it is whole.

    Raises
    ------
    UserError
        Standard output is a terminal.
    """
    if target is not None:
        yield target
        return
    if sys.stdout.isatty():
        raise UserError("-: standard output is a terminal; send it to a file or a program")
    buffer = io.BytesIO()
    yield buffer
    sys.stdout.buffer.write(buffer.getvalue())
    sys.stdout.buffer.flush()


class _StandardInput(io.BytesIO):
    name = "standard input"


def _within(folder: Path, suffixes: Sequence[str]) -> list[Found]:
    def refuse(error: OSError) -> None:
        raise error

    found = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(place, name) for name in names if not name.startswith(".")]
        found += [path for path in paths if path.suffix.lower() in suffixes]
    return _sorted_below(found, folder)


def _fixed_part(pattern: Path) -> Path:
    parts = pattern.parts
    return Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])


def _matching(pattern: Path, fixed: Path, suffixes: Sequence[str]) -> list[Found]:
    paths = [Path(name) for name in glob.glob(str(pattern), recursive=True)]
    known = [path for path in paths if path.suffix.lower() in suffixes and path.is_file()]
    return _sorted_below(known, fixed)


def _sorted_below(paths: Sequence[Path], folder: Path) -> list[Found]:
    found = [Found(path, path.relative_to(folder)) for path in paths]
    return sorted(found, key=lambda file: file.below.parts)


def _outside(found: list[Found], folder: Path, without: Path | None) -> list[Found]:
    if without is None or folder.resolve() not in without.resolve().parents:
        return found
    return [file for file in found if without.resolve() not in file.path.resolve().parents]


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    sources: dict[str, Path] = {}
    for source, target in jobs:
        if source is None or target is None:
            continue
        other = sources.setdefault(os.path.normcase(target.resolve()), source)
        if other != source:
            raise UserError(
                f"{other}, {source}: both would be {target}; give each an OUT of its own"
            )
    read = {source.resolve() for source, _ in jobs if source is not None}
    for _, target in jobs:
        if target is not None and target.resolve() in read:
            raise UserError(f"{target}: both a source and an output; give another OUT")
