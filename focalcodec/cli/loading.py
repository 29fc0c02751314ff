"""The model that the options of a command name."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

from focalcodec.cli.models import choose_model
from focalcodec.codec import FocalCodec
from focalcodec.device import pick_device
from focalcodec.hub.fingerprint import weights_sha256
from focalcodec.hub.locations import is_shipped
from focalcodec.long_audio.coding import check_window
from focalcodec.precision import set_precision


class LoadedModel(NamedTuple):
    """A codec that is ready for use, and its name and hash in token files."""

    codec: FocalCodec
    name: str
    weights_sha256: str


def load_model(args: argparse.Namespace) -> LoadedModel:
    """Load the model of `add_model_options`: in eval mode, on its device and in its precision.

    Raises
    ------
    UserError
        No such model or device, or a window that is too short for the model.
    """
    device = pick_device(args.device)
    choose_model(args)
    codec = FocalCodec.from_pretrained(args.model, revision=args.revision)
    sha256 = weights_sha256(codec)  # before the change of precision
    folder = Path(args.model).expanduser()
    is_folder = folder.is_dir() and not is_shipped(args.model)
    name = folder.resolve().name if is_folder else args.model
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        set_precision(codec.to(device), args.precision)
    for warning in raised:
        print(f"focalcodec: warning: {warning.message}", file=sys.stderr)
    if hasattr(args, "window_seconds"):
        check_window(codec, args.window_seconds)
    return LoadedModel(codec, name, sha256)
