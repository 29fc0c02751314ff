"""`focalcodec verify`: the same checkpoint in this package and in the official one."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from focalcodec.cli.main import DONE, SOME_FAILED
from focalcodec.cli.options import positive_float
from focalcodec.errors import UserError, one_line

if TYPE_CHECKING:
    from torch import Tensor

    from focalcodec.codec import FocalCodec

EXAMPLES = """examples:
  git clone https://github.com/lucadellalib/focalcodec official
  focalcodec verify lucadellalib/focalcodec_50hz --against official
  focalcodec verify my_codec --against official --audio talk.wav other.flac

Exits with 0 if all are equal, 1 if something differs, 2 if nothing was compared.
"""
_MADE_UP = "made-up signal"
_SECONDS = 12  # of it; the causal models attend to 10 s


def add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `focalcodec verify`."""
    parser.epilog = EXAMPLES
    parser.add_argument("model", metavar="MODEL", help="model folder, or repository on the hub")
    parser.add_argument(
        "--against",
        required=True,
        metavar="FOLDER",
        help="a checkout of the official repository, with focalcodec/ in it; its code runs",
    )
    parser.add_argument(
        "--audio", nargs="+", default=[], metavar="FILE", help="recordings (default: made up)"
    )
    parser.add_argument(
        "--seconds",
        type=positive_float,
        default=12.0,
        help="the most of each recording (default: 12)",
    )
    parser.add_argument(
        "--tolerance",
        type=positive_float,
        default=1e-4,
        help="difference that counts as equal, over the largest value (default: %(default)s);"
        " tokens must be the same",
    )
    parser.add_argument("--revision", help="branch, tag or commit of a repository on the hub")


def run_verify(args: argparse.Namespace) -> int:
    """Print a line for each comparison."""
    import torch

    from focalcodec.codec import FocalCodec

    ours = FocalCodec.from_pretrained(args.model, revision=args.revision)
    theirs = load_official(official_package(args.against), args.model, args.revision)
    print(f"{args.model}, against {args.against}")
    print(f"{'signal':24} {'what':26} {'':8} difference")
    differing = compared = 0
    with torch.no_grad():
        for name, sig in signals(ours, args.audio, args.seconds):
            for item in compare(ours, theirs, sig, args.tolerance):
                verdict = "equal" if item.equal else "DIFFERS"
                print(f"{name[-24:]:24} {item.what:26} {verdict:8} {item.size}", flush=True)
                differing, compared = differing + (not item.equal), compared + 1
    print(f"{compared - differing} of {compared} equal")
    return SOME_FAILED if differing else DONE


# -- the official package --------------------------------------------------------------------------


def official_package(root: str | os.PathLike[str]) -> ModuleType:
    """The official package in the folder of its repository, imported as `official_focalcodec`.

    Raises a `UserError` if it is not there.
    """
    folder = Path(root).expanduser().resolve() / "focalcodec"
    spec = importlib.util.spec_from_file_location(
        "official_focalcodec", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not (folder / "codec.py").is_file():
        raise UserError(
            f"{root}: no focalcodec/codec.py in it; give the folder of the official repository"
        )
    for name in [name for name in sys.modules if name.partition(".")[0] == spec.name]:
        del sys.modules[name]  # of another folder
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        importlib.import_module(f"{spec.name}.codec")
    except ImportError as error:
        raise UserError(f"{root}: can't be imported ({one_line(error)}); install it") from error
    return module


def load_official(package: ModuleType, model: str, revision: str | None = None) -> Any:
    """The same files in the official package, by its own loader, in eval mode.

    Raises a `UserError` if it can't load them.
    """
    from focalcodec.files import read_json
    from focalcodec.hub.checkpoints import PART_NAMES, find_files

    config, weights = find_files(model, revision=revision)
    keys = [f"{part}_{kind}" for part in PART_NAMES for kind in ("name", "config")]
    parsed = read_json(config)
    # it refuses keys that others need
    known = {key: parsed[key] for key in keys if key in parsed}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "x.json").write_text(json.dumps(known), encoding="utf-8")
        assert weights is not None
        shutil.copyfile(weights, Path(folder, "x").with_suffix(weights.suffix))
        try:
            codec = sys.modules[f"{package.__name__}.codec"].FocalCodec
            return codec.from_pretrained(str(Path(folder, "x.json"))).eval()
        # whatever stops it is the answer
        except Exception as error:
            raise UserError(
                f"{model}: the official package can't load it ({type(error).__name__}:"
                f" {one_line(error)}); has it parts that only this package has?"
            ) from error


# -- the comparison --------------------------------------------------------------------------------


class Item(NamedTuple):
    """One result of both packages."""

    what: str
    equal: bool
    size: str  # of the difference


def signals(
    codec: FocalCodec, files: Sequence[str], seconds: float
) -> Iterator[tuple[str, Tensor]]:
    """Names and signals (1, T), whole chunks if the codec is causal."""
    from focalcodec.audio import read_audio

    rate = codec.sample_rate_input
    for name in files or [_MADE_UP]:
        if name == _MADE_UP:
            sig = _made_up(rate)
        else:
            sig = read_audio(name, sample_rate=rate, channels="mix")[: int(seconds * rate)][None]
        # in the last part of a chunk the official code differs from its own streams
        end = sig.shape[1] // codec.chunk_size * codec.chunk_size if codec.causal else sig.shape[1]
        if end == 0:
            raise UserError(f"{name}: shorter than a chunk, {codec.chunk_size} samples")
        yield Path(name).name, sig[:, :end]


def _made_up(rate: int) -> Tensor:
    """Harmonics of a changing pitch with pauses, and a little noise, (1, T)."""
    import torch

    time = torch.arange(_SECONDS * rate, dtype=torch.float64) / rate  # s
    pitch = 120 + 40 * (2 * torch.pi * 0.7 * time).sin()  # Hz
    phase = 2 * torch.pi * pitch.cumsum(0) / rate
    voice = sum((phase * k).sin() / k for k in range(1, 20))
    loud = (2 * torch.pi * 1.3 * time).sin().clamp(min=0)
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    return (0.1 * loud * voice + 0.003 * noise).float()[None]


def compare(ours: FocalCodec, theirs: Any, sig: Tensor, tolerance: float) -> Iterator[Item]:
    """Both packages on a signal (1, T): each step on the same input, the whole, and a stream.

    The input of a step is the official result of the step before, so that differences do not add.
    """
    feats, lats, toks = theirs.sig_to_feats(sig), theirs.sig_to_lats(sig), theirs.sig_to_toks(sig)
    qfeats, rec_sig = theirs.toks_to_qfeats(toks), theirs.toks_to_sig(toks)
    yield _close("feats of sig", ours.sig_to_feats(sig), feats, tolerance)
    yield _close("lats of feats", ours.feats_to_lats(feats), theirs.feats_to_lats(feats), tolerance)
    yield _same("toks of lats", ours.lats_to_toks(lats), theirs.lats_to_toks(lats), lats)
    yield _close("qfeats of toks", ours.toks_to_qfeats(toks), qfeats, tolerance)
    yield _close("rec_sig of qfeats", ours.feats_to_sig(qfeats), rec_sig, tolerance)
    yield _same("toks of sig", ours.sig_to_toks(sig), toks, lats)
    yield _close("rec_sig of toks", ours.toks_to_sig(toks), rec_sig, tolerance)
    if ours.causal:
        toks, rec_sig = _stream(theirs, sig, ours.chunk_size)
        our_toks, our_sig = _stream(ours, sig, ours.chunk_size)
        yield _same("toks of sig, stream", our_toks, toks, lats)
        if our_toks.equal(toks):
            yield _close("rec_sig of toks, stream", our_sig, rec_sig, tolerance)


def _stream(codec: Any, sig: Tensor, chunk_size: int) -> tuple[Tensor, Tensor]:
    """Tokens and audio, chunk by chunk."""
    import torch

    toks, audio, state = [], [], ()
    for chunk in sig.split(chunk_size, dim=1):
        some, _codes, rec_sig, *state = codec(chunk, *state, return_state=True)
        toks.append(some)
        audio.append(rec_sig)
    return torch.cat(toks, dim=1), torch.cat(audio, dim=1)


def _close(what: str, found: Tensor, expected: Tensor, tolerance: float) -> Item:
    if found.shape != expected.shape:
        return Item(what, False, f"shape {tuple(found.shape)}, officially {tuple(expected.shape)}")
    error = float((found - expected).abs().max()), float(expected.abs().max())
    relative = error[0] / error[1] if error[1] > 0 else error[0]
    # NaN is not within the tolerance
    return Item(what, relative <= tolerance, f"{error[0]:.1e} of {error[1]:.3g}")


def _same(what: str, found: Tensor, expected: Tensor, lats: Tensor) -> Item:
    if found.shape != expected.shape:
        return Item(what, False, f"shape {tuple(found.shape)}, officially {tuple(expected.shape)}")
    other = found != expected
    if not bool(other.any()):
        return Item(what, True, f"0 of {other.numel()} tokens")
    near = float(lats.abs().amin(dim=-1)[other].max())
    return Item(
        what,
        False,
        f"{int(other.sum())} of {other.numel()} tokens; there a value of the lats is within"
        f" {near:.1e} of zero",
    )
