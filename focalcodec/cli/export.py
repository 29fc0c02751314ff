"""`focalcodec export`: what both training stages left, or codecs, to one model folder."""

from __future__ import annotations

import argparse

from focalcodec.cli.main import DONE
from focalcodec.errors import UserError

EXAMPLES = """examples:
  focalcodec export results/focalcodec_50hz/1986 results/vocos_16khz/1986 my_codec
  focalcodec resynth my.wav out.wav --model my_codec
  focalcodec export results/focalcodec_50hz/1986 lucadellalib/focalcodec_50hz my_codec
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `run` reads."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "quantizer", metavar="QUANTIZER", help="stage-1 run, codec folder or hub repository"
    )
    parser.add_argument(
        "decoder", metavar="DECODER", help="stage-2 run, codec folder or hub repository"
    )
    parser.add_argument("folder", metavar="FOLDER", help="gets config.json and model.safetensors")


def run(args: argparse.Namespace) -> int:
    """Export."""
    try:
        from focalcodec.training.export import export
    except ImportError as error:
        raise UserError(
            f"export: needs {error.name}, which training brings; pip install -e '.[recipes]'"
        ) from error
    codec = export(args.quantizer, args.decoder, args.folder)
    print(f"{args.folder}: {codec.token_rate:g} Hz, {codec.bitrate / 1000:g} kbit/s")
    return DONE
