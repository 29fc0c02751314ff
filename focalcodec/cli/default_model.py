"""Which model a command takes when none is named."""

from __future__ import annotations

import argparse
import sys

from focalcodec.errors import UserError
from focalcodec.hub.locations import DEMO, has_demo, hub_folder, hub_problem

DEFAULT_MODEL = "lucadellalib/focalcodec_50hz"


def choose_model(args: argparse.Namespace) -> None:
    """Put a name into `args.model` where there is none.

    It is the published model where the hub's cache has it, or the hub can give it now. Else it is
    the codec that comes with the package, and a line on standard error says so. With --revision it
    is always the published one, for the other has none.

    Parameters
    ----------
    args : argparse.Namespace
        With `model` and `revision`.

    Example
    -------
    >>> args = argparse.Namespace(model=None, revision="main")
    >>> choose_model(args)
    >>> args.model
    'lucadellalib/focalcodec_50hz'
    """
    if args.model is None:
        args.model = DEFAULT_MODEL if args.revision is not None else _available_model()


def _available_model() -> str:
    if not has_demo() or _is_cached():
        return DEFAULT_MODEL
    problem = hub_problem(DEFAULT_MODEL)
    if not problem:
        return DEFAULT_MODEL
    print(
        f"focalcodec: the small codec of the package is used, --model {DEMO}: {DEFAULT_MODEL} is"
        f" not in the hub's cache, and the hub can't be reached ({problem}); with a network,"
        " focalcodec download fetches it",
        file=sys.stderr,
        flush=True,
    )
    return DEMO


def _is_cached() -> bool:
    from focalcodec.hub.checkpoints import CONFIG_NAME, WEIGHTS_NAME  # imports torch

    names = (CONFIG_NAME, WEIGHTS_NAME)
    try:
        folder = hub_folder(DEFAULT_MODEL, names, local_files_only=True)
    except UserError:
        return False
    return all((folder / name).is_file() for name in names)
