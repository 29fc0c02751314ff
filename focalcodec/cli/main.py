"""Entry point of `focalcodec`: the table of commands, the command line, and exit codes.

Exit codes: 0 all done; 1 some files failed, each with a line on standard error, and the others are
done; 2 nothing was done, because the model or the arguments are wrong; 130 or 143 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from types import FrameType
from typing import Any, NamedTuple, TextIO

from focalcodec import __version__
from focalcodec.errors import UserError


class Command(NamedTuple):
    """A command NAME is `add_NAME_arguments(parser)` and `run_NAME(args) -> exit code` in a module.

    The module is imported only when the command runs, so the others may import what they need.
    """

    module: str  # in focalcodec.cli
    summary: str
    takes_keys: bool = False  # unknown options are keys of a YAML: `args.keys`


COMMANDS = {
    "encode": Command("coding", "encode audio as token files (.fct)"),
    "decode": Command("coding", "decode token files to audio"),
    "resynth": Command("coding", "encode audio and decode it again, to listen to the codec"),
    "convert": Command("coding", "convert recordings to the voice of another speaker"),
    "say": Command("say", "read a text with a voice, by a model that was trained on tokens"),
    "stream": Command("stream", "audio through a codec while it arrives, also between machines"),
    "tokenize": Command("corpora", "tokenize a whole corpus for a speech language model"),
    "prepare": Command("corpora", "make the sets of a recipe from any folder of audio"),
    "eval": Command("evaluate", "evaluate codecs on the same clips, or compare two results"),
    "probes": Command("evaluate", "show the results of probes of several codecs as one table"),
    "ablations": Command("evaluate", "show codecs that differ in one thing as one table"),
    "info": Command("info", "describe models, token files and recordings"),
    "export": Command("models", "join the runs of both training stages into a model folder"),
    "download": Command("models", "download a model, for use without a network"),
    "verify": Command("verify", "compare a checkpoint with the official code"),
    "config": Command("recipe", "print the resolved YAML of a recipe", takes_keys=True),
    "recipe": Command("recipe", "list the training recipes, or copy one to edit and run"),
}
DONE, SOME_FAILED, NOTHING_DONE = 0, 1, 2
_MAY_BE_EMPTY = ("--special", "--language")
_MARK = "\0"  # no argument of a process contains it


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; without `argv`, the command of this process.

    Example
    -------
    >>> main(["info", "no/such/folder"])
    2
    """
    ready_streams()
    try:
        try:
            args = parse(sys.argv[1:] if argv is None else argv)
            with _end_on_signals():
                return _function("run_{}", args.command)(args)
        finally:
            flush_output()
            if argv is None and _in_main_thread():  # nothing is left: end without a traceback
                signal.signal(signal.SIGINT, signal.SIG_DFL)
    except UserError as error:
        return _print_error(str(error))
    except KeyboardInterrupt:
        return _print_end(signal.SIGINT)
    except _Terminated:
        return _print_end(signal.SIGTERM)
    except BrokenPipeError:
        return SOME_FAILED  # the program that reads our output has closed the pipe
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        return _print_error(f"{where}{error.strerror or error}")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Parse a command line without the program's name; exit as argparse does if it is wrong.

    Example
    -------
    >>> args = parse(["encode", "a.wav", "--overwrite", "a.fct"])
    >>> args.command, args.sources, args.out, args.overwrite
    ('encode', ['a.wav'], 'a.fct', True)
    >>> parse(["encode", "--overwrite", "--", "-a.wav", "a.fct"]).sources
    ['-a.wav']
    """
    listing = "\n".join(f"  {name:<10}{command.summary}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="focalcodec",
        usage="focalcodec COMMAND ...",
        description="Low-bitrate speech coding with one stream of tokens.",
        epilog=f"commands:\n{listing}\n\nfocalcodec COMMAND --help shows the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"focalcodec {__version__}")
    parser.add_argument(
        "command", choices=COMMANDS, metavar="COMMAND", help="a command of the list below"
    )
    if not words:
        parser.print_help(sys.stderr)
        parser.exit(NOTHING_DONE)
    command = parser.parse_args(words[:1]).command
    return _parse_command(command, list(words[1:]))


def _parse_command(command: str, words: list[str]) -> argparse.Namespace:
    args, parser = argparse.Namespace(command=command), command_parser(command)
    check_not_empty(words, COMMANDS[command].takes_keys)
    if COMMANDS[command].takes_keys:
        args, keys = parser.parse_known_args(words, args)
        return argparse.Namespace(**vars(args), keys=keys)
    # intermixed: options may stand between the sources and the output
    return plain_names(parser.parse_intermixed_args(mark_names(words), args))


def check_not_empty(words: Sequence[str], keys: bool = False) -> None:
    """Refuse an empty word: as a path it would be the current folder.

    With `keys`, unknown options are keys of a YAML, which may be empty.

    Example
    -------
    >>> check_not_empty(["--special", "", "a.wav"])
    >>> check_not_empty(["", "out"])
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: '': argument 1 is empty; give a name, or check the shell's variable
    """
    for number, (before, word) in enumerate(pairwise(["", *words]), start=1):
        option, equals, value = word.partition("=")
        if word and not (word.startswith("--") and equals and not value):
            continue
        name = option if word else before
        if not (name in _MAY_BE_EMPTY or (keys and name.startswith("--"))):
            after = f" (of {name})" if name.startswith("--") else ""
            raise UserError(
                f"'': argument {number}{after} is empty; give a name, or check the shell's variable"
            )


def mark_names(words: Sequence[str]) -> list[str]:
    """Mark the words after `--` that begin with a dash, so that argparse takes them for names."""
    end = words.index("--") if "--" in words else len(words)
    names = [_MARK + word if word.startswith("-") else word for word in words[end + 1 :]]
    return [*words[: end + 1], *names]


def plain_names(args: argparse.Namespace) -> argparse.Namespace:
    """Remove the marks of `mark_names` from the parsed arguments."""
    return argparse.Namespace(**{name: _plain(value) for name, value in vars(args).items()})


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value.removeprefix(_MARK) if isinstance(value, str) else value


def command_parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of one of `COMMANDS`; only its module is imported."""
    summary = COMMANDS[command].summary
    parser = argparse.ArgumentParser(
        prog=f"focalcodec {command}",
        description=f"{summary[0].upper()}{summary[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # a new option must not break scripts that use an abbreviation
    )
    _function("add_{}_arguments", command)(parser)
    return parser


def _function(name: str, command: str) -> Callable[..., int]:
    module = import_module(f"focalcodec.cli.{COMMANDS[command].module}")
    return getattr(module, name.format(command))


def _print_error(problem: str) -> int:
    say(f"error: {problem}")
    return NOTHING_DONE


def _print_end(number: int) -> int:
    say(f"{_ENDS[number]}; finished files are kept, half-written files removed")
    return 128 + number


class _Terminated(BaseException):
    """SIGTERM: not an `Exception`, so that it ends the work as Ctrl-C does."""


_ENDS: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


@contextmanager
def _end_on_signals() -> Iterator[None]:
    """Let a process that gets SIGINT or SIGTERM remove its half-written files."""
    if not _in_main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ENDS}
    for number in _ENDS:
        if before[number] != signal.SIG_IGN:  # a shell starts background work like this
            signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _end(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        # An exception through an import of torch ends in C++ with an abort; nothing is written yet.
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(_print_end(number))
        frame = frame.f_back
    raise KeyboardInterrupt if number == signal.SIGINT else _Terminated


# -- standard output and standard error ------------------------------------------------------------


def ready_streams() -> None:
    r"""Let `print` write any name, and let it write nothing where a stream is closed.

    A character that a stream can't encode is written as an escape, such as `\udcef`.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            # The file takes the stream's number, so no other file that is opened later gets it.
            file = open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8")
            os.set_inheritable(file.fileno(), True)
            setattr(sys, name, file)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Print a message on standard error; if this is full or closed, the work goes on."""
    try:
        print(f"focalcodec: {line}", file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def flush_output() -> None:
    """Write what is left; an error of standard output is raised here, not when Python ends."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _discard(sys.stdout)
        raise OSError(error.errno, error.strerror, "standard output") from error


def _discard(stream: TextIO) -> None:
    """Let a stream that failed succeed when Python flushes it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def check_open_output() -> None:
    """`UserError` if standard output can't take a file: it is closed, or a terminal."""
    if getattr(sys.stdout, "name", "") == os.devnull:
        raise UserError("-: standard output is closed; send it to a file or a program")
    if sys.stdout.isatty():
        raise UserError("-: standard output is a terminal; send it to a file or a program")
