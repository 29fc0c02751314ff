"""`focalcodec export`: what both training stages left, or codecs, to one model folder."""

from __future__ import annotations

import argparse

from focalcodec.cli.main import DONE
from focalcodec.errors import UserError
from focalcodec.hub.checkpoints import STORED_DTYPES

EXAMPLES = """examples:
  focalcodec export results/focalcodec_50hz/1986 results/vocos_16khz/1986 my_codec
  focalcodec resynth my.wav out.wav --model my_codec
  focalcodec export results/focalcodec_50hz/1986 lucadellalib/focalcodec_50hz my_codec
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `run` reads."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "quantizer", metavar="QUANTIZER", help="stage-1 run, codec folder, hub repository or demo"
    )
    parser.add_argument(
        "decoder", metavar="DECODER", help="stage-2 run, codec folder, hub repository or demo"
    )
    parser.add_argument("folder", metavar="FOLDER", help="gets config.json and model.safetensors")
    parser.add_argument(
        "--dtype",
        choices=list(STORED_DTYPES),
        default="float32",
        help="of the weights in the file: float16 takes half the space, is float32 again when it is"
        " loaded, and changes a few tokens (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Export."""
    try:
        from focalcodec.training.export import export
    except ImportError as error:
        raise UserError(
            f"export: needs {error.name}, which training brings; pip install -e '.[recipes]'"
        ) from error
    codec = export(args.quantizer, args.decoder, args.folder, args.dtype)
    print(f"{args.folder}: {codec.token_rate:g} Hz, {codec.bitrate / 1000:g} kbit/s")
    return DONE
