"""`focalcodec download`: a model from the hub, into the cache or a folder to carry away."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from focalcodec.cli.default_model import DEFAULT_MODEL
from focalcodec.cli.main import DONE
from focalcodec.errors import UserError
from focalcodec.hub.checkpoints import CONFIG_NAME, WEIGHTS_NAME, find_checkpoint
from focalcodec.hub.locations import is_shipped

EXAMPLES = f"""examples:
  focalcodec download
  focalcodec download {DEFAULT_MODEL} --to focalcodec_50hz

An access token is read from the environment, HF_TOKEN.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `run` reads."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "name",
        nargs="?",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help="repository on the hub, or demo, with --to a copy of it (default: %(default)s)",
    )
    parser.add_argument("--revision", help="branch, tag or commit")
    parser.add_argument(
        "--to", type=Path, metavar="FOLDER", help="copy it there, for --model on another machine"
    )


def run(args: argparse.Namespace) -> int:
    """Download."""
    if not is_shipped(args.name) and Path(args.name).expanduser().exists():
        raise UserError(f"{args.name}: a path on this machine, not a name on the hub")
    cached = find_checkpoint(args.name, args.revision)
    if args.to is None:
        place = "package" if is_shipped(args.name) else "cache"
        print(f"{args.name}: in the {place}, {cached}; --model {args.name} needs no network now")
    else:
        _copy(cached, args.to.expanduser())
        print(f"{args.name}: in {args.to}; --model {args.to} needs no network")
    return DONE


def _copy(cached: Path, folder: Path) -> None:
    """Both files or none: a folder with one of each model would load and be wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    names = (WEIGHTS_NAME, CONFIG_NAME)
    with tempfile.TemporaryDirectory(dir=folder) as staging:
        for name in names:
            shutil.copyfile(cached / name, Path(staging, name))
        for name in names:
            os.replace(Path(staging, name), folder / name)
