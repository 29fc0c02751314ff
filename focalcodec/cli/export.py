"""`focalcodec export`: the runs of both training stages to one model folder."""

from __future__ import annotations

import argparse

from focalcodec.cli.main import DONE
from focalcodec.errors import UserError

EXAMPLES = """examples:
  focalcodec export results/focalcodec_50hz/1986 results/vocos_16khz/1986 my_codec
  focalcodec resynth my.wav out.wav --model my_codec
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `run` reads."""
    parser.epilog = EXAMPLES
    parser.add_argument("quantizer_run", metavar="QUANTIZER_RUN", help="folder of a stage-1 run")
    parser.add_argument("vocoder_run", metavar="VOCODER_RUN", help="folder of a stage-2 run")
    parser.add_argument("folder", metavar="FOLDER", help="gets config.json and model.safetensors")


def run(args: argparse.Namespace) -> int:
    """Export."""
    try:
        from focalcodec.training.export import export
    except ImportError as error:
        raise UserError(
            f"export: needs {error.name}, which training brings; pip install -e '.[recipes]'"
        ) from error
    codec = export(args.quantizer_run, args.vocoder_run, args.folder)
    print(f"{args.folder}: {codec.token_rate:g} Hz, {codec.bitrate / 1000:g} kbit/s")
    return DONE
