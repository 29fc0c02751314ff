"""`focalcodec download` and `export`, and the model that the options of a command name."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from focalcodec.choices import FLOAT_DTYPES
from focalcodec.cli.main import DONE, say
from focalcodec.errors import UserError
from focalcodec.files import write_errors
from focalcodec.hub import DEMO, hub_folder, hub_problem, is_shipped, shipped, shipped_text

if TYPE_CHECKING:
    from focalcodec.codec import FocalCodec

DEFAULT_MODEL = "lucadellalib/focalcodec_50hz"
DOWNLOAD_EXAMPLES = f"""examples:
  focalcodec download
  focalcodec download {DEFAULT_MODEL} --to focalcodec_50hz

The environment variable HF_TOKEN holds an access token, if one is needed.
"""
EXPORT_EXAMPLES = """examples:
  focalcodec export results/focalcodec_50hz/1986 results/vocos_16khz/1986 my_codec
  focalcodec resynth my.wav out.wav --model my_codec
  focalcodec export results/focalcodec_50hz/1986 lucadellalib/focalcodec_50hz my_codec

to publish it, with a model card:
  focalcodec eval talks/ results/eval --codecs my_codec
  focalcodec export results/focalcodec_50hz/1986 results/vocos_16khz/1986 my_codec --overwrite
      --results results/eval --license cc-by-4.0 --language en
      --training_data "LibriTTS, 585 hours, CC BY 4.0, by its authors"
  hf upload OWNER/NAME my_codec

for onnxruntime, without PyTorch:
  focalcodec export my_codec my_codec_onnx --format onnx

for apps, with ExecuTorch:
  focalcodec export my_codec my_codec_pte --format executorch
"""


def choose_model(args: argparse.Namespace) -> None:
    """Set `args.model` if it is None.

    The default is the published model if the hub's cache has it or the hub can be reached, else
    the codec in the package, with a line on standard error. With `args.revision` it is always the
    published model, because the codec in the package has no revisions.

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
    if DEMO not in shipped() or _is_cached():
        return DEFAULT_MODEL
    problem = hub_problem(DEFAULT_MODEL)
    if not problem:
        return DEFAULT_MODEL
    say(
        f"using the small codec in the package, --model {DEMO}: {DEFAULT_MODEL} is not"
        f" in the hub's cache, and the hub can't be reached ({problem}); with a network,"
        " focalcodec download fetches it"
    )
    return DEMO


def _is_cached() -> bool:
    from focalcodec.hub.checkpoints import CONFIG_NAME, WEIGHTS_NAME

    names = (CONFIG_NAME, WEIGHTS_NAME)
    try:
        folder = hub_folder(DEFAULT_MODEL, names, local_files_only=True)
    except UserError:
        return False
    return all((folder / name).is_file() for name in names)


def add_trust_option(parser: argparse._ActionsContainer) -> None:
    """Add --trust, for commands that load models."""
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="MODULE",
        help="run the code of this Python module, if a model or a run has classes of it; the module"
        " may lie in the model's folder. Without it no code of a model runs",
    )


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
    from focalcodec.codec import FocalCodec
    from focalcodec.long_audio.coding import check_window
    from focalcodec.precision import pick_device, set_precision

    device = pick_device(args.device)
    choose_model(args)
    codec = FocalCodec.from_pretrained(args.model, revision=args.revision, trust=args.trust)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        set_precision(codec.to(device), args.precision)
    for warning in raised:
        say(f"warning: {warning.message}")
    if hasattr(args, "window_seconds"):
        check_window(codec, args.window_seconds)
    return LoadedModel(codec, codec.name, codec.weights_sha256)


# -- download --------------------------------------------------------------------------------------


def add_download_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `focalcodec download`."""
    parser.epilog = DOWNLOAD_EXAMPLES
    parser.add_argument(
        "name",
        nargs="?",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help="name of a repository on the hub, or codec of the package"
        f" ({shipped_text()}; default: {DEFAULT_MODEL})",
    )
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    parser.add_argument(
        "--to",
        type=Path,
        metavar="FOLDER",
        help="copy the model to this folder, which --model accepts on any machine"
        " (default: only the hub's cache)",
    )


def run_download(args: argparse.Namespace) -> int:
    """Download a model to the hub's cache, and copy it to a folder."""
    from focalcodec.hub.checkpoints import find_checkpoint

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
    from focalcodec.hub.checkpoints import CONFIG_NAME, PUBLISHED, WEIGHTS_NAME

    # Copy all files before replacing any: a mix of two models would load without an error.
    others = {path.name for pattern in PUBLISHED for path in cached.glob(pattern)}
    names = (*sorted(others), WEIGHTS_NAME, CONFIG_NAME)
    with write_errors(folder / WEIGHTS_NAME):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as staging:
            for name in names:
                shutil.copyfile(cached / name, Path(staging, name))
            for name in names:
                os.replace(Path(staging, name), folder / name)


# -- export ----------------------------------------------------------------------------------------


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `focalcodec export`."""
    parser.epilog = EXPORT_EXAMPLES
    source = f"model folder, repository on the hub, or codec of the package ({shipped_text()})"
    parser.add_argument(
        "quantizer", metavar="QUANTIZER", help=f"run folder of stage 1, {source}: all but decoder"
    )
    parser.add_argument(
        "decoder", metavar="DECODER", help=f"run folder of stage 2, {source}: the decoder"
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        help="output folder: config.json, model.safetensors, a model card, and a file for"
        " transformers",
    )
    parser.add_argument(
        "--format",
        choices=("torch", "onnx", "executorch"),
        default="torch",
        help="with onnx or executorch, give CODEC FOLDER: the folder gets graphs for onnxruntime,"
        " or programs for ExecuTorch, which are compared with the codec, and a JSON file about"
        " them (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype",
        choices=(*FLOAT_DTYPES, "int8"),
        default="float32",
        help="data type of the stored weights: float16 halves the file, is loaded as float32, and"
        " changes a few tokens; int8, with --format onnx, changes many (default: %(default)s)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the codec that is in FOLDER"
    )
    add_trust_option(parser)
    group = parser.add_argument_group("model card, README.md")
    group.add_argument(
        "--license", metavar="ID", help="licence of the weights, as the hub names it: cc-by-4.0"
    )
    group.add_argument(
        "--language", action="append", default=[], metavar="CODE", help="language, such as en"
    )
    group.add_argument(
        "--training_data",
        default="",
        metavar="TEXT",
        help="what the training data are, their licence and their authors; Markdown",
    )
    group.add_argument(
        "--results",
        action="append",
        default=[],
        metavar="FOLDER",
        help="output of focalcodec eval or evaluate.py of this codec, for the figures",
    )


def _export_graphs(args: argparse.Namespace) -> int:
    """Export a codec for another runtime: `quantizer` is the codec, `decoder` the folder."""
    if args.folder is not None:
        raise UserError(
            f"{args.folder}: one name too many; give CODEC FOLDER with --format {args.format}"
        )
    onnx = args.format == "onnx"
    if not onnx and args.dtype != "float32":
        raise UserError(f"--dtype {args.dtype}: not with --format executorch; give float32")
    name, folder = f"{args.format}.json", Path(args.decoder).expanduser()
    if (folder / name).exists() and not args.overwrite:
        raise UserError(f"{folder}: has {name} already; give --overwrite, or another folder")
    from focalcodec.codec import FocalCodec
    from focalcodec.executorch import export_executorch
    from focalcodec.onnx import export_onnx

    codec = FocalCodec.from_pretrained(args.quantizer, trust=args.trust)
    agreement = export_onnx(codec, folder, args.dtype) if onnx else export_executorch(codec, folder)
    suffix = "*.onnx" if onnx else "*.pte"
    size = sum(path.stat().st_size for path in folder.glob(suffix)) / 1e6
    print(f"{folder}: {size:.1f} MB, compared with {args.quantizer}: {agreement}")
    return DONE


def _refuse_existing(folder: Path, overwrite: bool) -> None:
    """Raise if an export would replace a codec, or land in a run's folder."""
    if (folder / "hyperparams.yaml").exists():
        raise UserError(f"{folder}: the folder of a run; name a new folder for the codec")
    names = [name for name in ("config.json", "model.safetensors") if (folder / name).exists()]
    if names and not overwrite:
        raise UserError(
            f"{folder}: has {names[0]} already; give --overwrite to replace it, or another folder"
        )


def run_export(args: argparse.Namespace) -> int:
    """Export a codec."""
    if args.format != "torch":
        return _export_graphs(args)
    if args.dtype == "int8":
        raise UserError("--dtype int8: only with --format onnx; give float32 or float16")
    if args.folder is None:
        raise UserError("FOLDER: missing; give QUANTIZER DECODER FOLDER, or --format onnx")
    try:
        from focalcodec.hub.fingerprint import weights_sha256
        from focalcodec.hub.publish import About
        from focalcodec.training.run.export import export
    except ImportError as error:
        raise UserError(
            f"export: needs {error.name}, which is installed for training;"
            " pip install -e '.[recipes]'"
        ) from error
    _refuse_existing(Path(args.folder).expanduser(), args.overwrite)
    with write_errors(Path(args.folder, "model.safetensors")):
        about = About(args.training_data, "", args.license, tuple(args.language))
        codec = export(
            *(args.quantizer, args.decoder, args.folder, args.dtype, args.trust),
            about=about,
            results=args.results,
        )
    rates = f"{codec.token_rate:g} Hz, {codec.bitrate / 1000:g} kbit/s"
    print(f"{args.folder}: {rates}, weights_sha256 {weights_sha256(codec)}")
    return DONE
