"""Entry point of `focalcodec`: picks the command, and makes its end one that a script can trust.

Exit codes: 0 all done; 1 some files failed, each with a line on standard error, and the others are
done; 2 nothing was done, for the model or the arguments are wrong; 130 or 143 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType

from focalcodec import __version__
from focalcodec.errors import UserError

COMMANDS = {
    "encode": "audio files, folders or standard input to token files (.fct)",
    "decode": "token files to audio",
    "resynth": "audio through the codec and back to audio",
    "convert": "the words of one recording in the voice of another",
    "tokenize": "a whole corpus to the tokens that a speech language model reads",
    "prepare": "any folder of audio to the training, validation and test sets of a recipe",
    "eval": "codecs side by side on the same clips, judged, or two results compared",
    "probes": "what probes found in the tokens of several codecs, as one table",
    "info": "what a model, a token file or a recording is",
    "export": "the runs of both training stages to one model folder",
    "download": "a model from the hub, for use without a network",
}
DONE, SOME_FAILED, NOTHING_DONE = 0, 1, 2
INTERRUPTED, TERMINATED = 128 + 2, 128 + 15


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments, default those of the process.

    Returns
    -------
    int
        Exit code.

    Example
    -------
    >>> main(["info", "no/such/folder"])
    2
    """
    try:
        args = parse(sys.argv[1:] if argv is None else argv)
        with _leaving_on_sigterm():
            code = import_module(f"focalcodec.cli.{args.command}").run(args)
        sys.stdout.flush()
        return code
    except UserError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        print("focalcodec: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader of our output has gone: the interpreter must not complain while it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SOME_FAILED
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        return _refuse(f"{where}{error.strerror or error}")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read a command line, and leave as argparse does when it is wrong.

    Parameters
    ----------
    words : sequence of str
        Arguments without the program's name.

    Returns
    -------
    argparse.Namespace
        What the command's `run` takes; `command` is its name.

    Example
    -------
    >>> args = parse(["encode", "a.wav", "--overwrite", "a.fct"])
    >>> args.command, args.sources, args.out, args.overwrite
    ('encode', ['a.wav'], 'a.fct', True)
    """
    listing = "\n".join(f"  {name:<10}{summary}" for name, summary in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="focalcodec",
        usage="focalcodec COMMAND ...",
        description="Low-bitrate speech coding with one stream of tokens.",
        epilog=f"commands:\n{listing}\n\nfocalcodec COMMAND --help tells more of each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"focalcodec {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    command = parser.parse_args(words[:1]).command
    # intermixed: options may stand between the sources and the output
    return command_parser(command).parse_intermixed_args(
        list(words[1:]), argparse.Namespace(command=command)
    )


def command_parser(command: str) -> argparse.ArgumentParser:
    """Parser of one command.

    Parameters
    ----------
    command : str
        One of `COMMANDS`; its module is imported, no other.

    Returns
    -------
    argparse.ArgumentParser
        Abbreviations of options are refused: a script would break with the next option.
    """
    parser = argparse.ArgumentParser(
        prog=f"focalcodec {command}",
        description=f"{COMMANDS[command]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    import_module(f"focalcodec.cli.{command}").add_arguments(parser)
    return parser


def _refuse(problem: str) -> int:
    print(f"focalcodec: error: {problem}", file=sys.stderr)
    return NOTHING_DONE


@contextmanager
def _leaving_on_sigterm() -> Iterator[None]:
    """Let a terminated process remove its half-written files."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(TERMINATED)
