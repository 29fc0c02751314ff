"""`focalcodec info`: descriptions of models, token files and recordings."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focalcodec.cli.main import DONE, NOTHING_DONE, SOME_FAILED, say
from focalcodec.cli.models import DEFAULT_MODEL, add_trust_option, choose_model
from focalcodec.cli.paths import TOKEN_SUFFIX
from focalcodec.errors import UserError
from focalcodec.files import AUDIO_SUFFIXES
from focalcodec.hub import DEMO, is_shipped, shipped_text

if TYPE_CHECKING:
    from focalcodec.codec import FocalCodec
    from focalcodec.fct import TokenTable

# of what the hash is: the same in cards of eval, in token files and in the line of export
HASHED = "configuration and tensors of the codec"
EXAMPLES = """examples:
  focalcodec info my_codec
  focalcodec info talk.fct talk.wav --json
"""


def add_info_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `focalcodec info`."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "things",
        nargs="*",
        metavar="THING",
        help=f"model folder, repository on the hub, codec of the package ({shipped_text()}), token"
        f" file or audio file (default: {DEFAULT_MODEL}; {DEMO} if that is not available)",
    )
    parser.add_argument("--revision", help="branch, tag or commit of a repository on the hub")
    add_trust_option(parser)
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="file of token frequencies (.fcf), if encode had one; without it, such a token file"
        " is not checked to its end",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per line, for programs"
    )


def run_info(args: argparse.Namespace) -> int:
    """Describe each thing; an error in one does not stop the others."""
    from focalcodec.fct import TokenTable

    table = None if args.table is None else TokenTable.load(args.table)
    failed = 0
    for thing in args.things or [_default(args.revision)]:
        try:
            description = describe(thing, args.revision, table, args.trust)
        except (UserError, OSError) as error:
            failed += 1
            problem = f"{thing}: {error.strerror}" if isinstance(error, OSError) else error
            say(f"error: {problem}")
        else:
            _show(description, args.json)
    return NOTHING_DONE if failed >= max(1, len(args.things)) else SOME_FAILED if failed else DONE


def describe(
    thing: str,
    revision: str | None = None,
    table: TokenTable | None = None,
    trust: Collection[str] = (),
) -> dict[str, Any]:
    """Describe a model, a token file or a recording, ready for JSON.

    `kind` is "model", "tokens" or "audio"; `trust` is for models. `UserError` if the thing can't
    be read, or a token file is truncated or corrupted.

    Example
    -------
    >>> import tempfile
    >>> from focalcodec.audio import write_audio
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_audio(f"{folder}/a.wav", torch.zeros(8000), 16000)
    ...     described = describe(f"{folder}/a.wav")
    >>> described["kind"], described["seconds"], described["sample_rate_hz"]
    ('audio', 0.5, 16000)
    """
    path = Path(thing).expanduser()
    suffix = path.suffix.lower()
    if suffix == TOKEN_SUFFIX and not path.is_dir():
        return {"kind": "tokens", "path": thing, **_describe_tokens(path, table)}
    if (path.is_file() and not is_shipped(thing)) or (
        suffix in AUDIO_SUFFIXES and not path.is_dir()
    ):
        # torch takes a second to import, and token files do not need it
        from focalcodec.audio import audio_info

        info = audio_info(path)
        return {
            "kind": "audio",
            "path": thing,
            "seconds": info.seconds,
            "num_samples": info.num_samples,
            "sample_rate_hz": info.sample_rate,
            "channels": info.channels,
            "bytes": path.stat().st_size,
        }
    from focalcodec.codec import FocalCodec

    codec = FocalCodec.from_pretrained(thing, revision=revision, trust=trust)
    return {"kind": "model", "path": thing, **_describe_model(codec)}


def _default(revision: str | None) -> str:
    chosen = argparse.Namespace(model=None, revision=revision)
    choose_model(chosen)
    return chosen.model


def _describe_tokens(path: Path, table: TokenTable | None) -> dict[str, Any]:
    from focalcodec.fct import TokenReader
    from focalcodec.fct.header import HASH_DIGITS

    with TokenReader(path, table) as reader:
        checked = reader.body != "table" or table is not None
        if checked:
            reader.check()
        size = path.stat().st_size
        return {
            **asdict(reader.header),
            "weights_sha256_of": f"{HASHED}, first {HASH_DIGITS} digits",
            "seconds": reader.header.seconds,
            "token_rate_hz": reader.header.token_rate,
            "num_tokens": reader.num_tokens,
            "voice_tokens": None if reader.voice is None else len(reader.voice),
            "body": reader.body,
            "crc_checked": checked,
            "bytes": size,
            "kbit_per_second": 8 * size / 1000 / reader.header.seconds,
        }


def _describe_model(codec: FocalCodec) -> dict[str, Any]:
    from focalcodec.hub.checkpoints import PART_NAMES
    from focalcodec.hub.fingerprint import weights_sha256

    parts = {name: getattr(codec, name) for name in PART_NAMES}
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    return {
        "sample_rate_input_hz": codec.sample_rate_input,
        "sample_rate_output_hz": codec.sample_rate_output,
        "token_rate_hz": codec.token_rate,
        "bits_per_token": codec.bits_per_token,
        "voice_tokens": codec.voice_tokens or None,  # of 12 bits, once for an utterance
        "vocabulary": codec.vocab_size,
        "kbit_per_second": codec.bitrate / 1000,
        "latency_ms": codec.latency,  # None: not causal
        "parameters": sum(counts.values()),
        "parts": {
            name: {"name": type(part).__name__, "parameters": counts[name]}
            for name, part in parts.items()
        },
        "weights_sha256": weights_sha256(codec),
        "weights_sha256_of": HASHED,
    }


def _show(description: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(description))
        return
    rows = dict(description)
    print(f"{rows.pop('path')}: {rows.pop('kind')}")
    for name, part in rows.pop("parts", {}).items():
        rows[name] = f"{part['name']}, {part['parameters']:,} parameters"
    for key, value in rows.items():
        if isinstance(value, float):
            value = f"{value:.6g}"
        elif key in ("parameters", "bytes"):
            value = f"{value:,}"
        if value not in ("", None):
            print(f"  {key:<22}{value}")
