"""`focalcodec say`: read a text with a voice."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from focalcodec.cli.main import DONE, check_open_output, say
from focalcodec.cli.options import DEVICE_HELP, audio_suffixes
from focalcodec.cli.paths import STANDARD
from focalcodec.errors import UserError
from focalcodec.hub import TTS_FOLDER

if TYPE_CHECKING:
    from focalcodec.lm import Sampling, TextToSpeech

EXAMPLES = """examples:
  focalcodec say "good morning" out.wav
  focalcodec say "in 1984, 3 of 5" out.wav --voice george
  focalcodec say "good morning" out.wav --model my_tts --voice anna.wav --seed 7
  focalcodec say "good morning" - | aplay -r 16000 -f S16_LE
  focalcodec say - chapter.flac < chapter.txt

Speech in somebody's voice needs the consent of this person.
"""


def add_say_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `focalcodec say`."""
    parser.epilog = EXAMPLES
    parser.add_argument("text", metavar="TEXT", help="what to read; - for standard input")
    parser.add_argument(
        "out",
        metavar="OUT",
        help="audio file, .wav or .flac; - writes samples (16 bits, mono) while they are made",
    )
    parser.add_argument(
        "--model",
        metavar="RUN_OR_FOLDER",
        help="run of a recipe that trained text to speech, or its folder tts (default: the small"
        " model of the package)",
    )
    parser.add_argument(
        "--voice",
        metavar="PROMPT",
        help="recording or token file (.fct) of 0.5 s or more of one speaker, of which the first"
        " seconds are used, or a voice of the model (default: its first)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="the same seed gives the same speech (default: %(default)s)",
    )
    parser.add_argument("--temperature", type=float, help="0: no randomness (default: the model's)")
    parser.add_argument(
        "--top_p",
        type=float,
        help="share of the probability, of a language model (default: the model's)",
    )
    parser.add_argument("--device", default="cpu", help=DEVICE_HELP)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def run_say(args: argparse.Namespace) -> int:
    """Read the text."""
    _check_out(args)
    model = args.model or TTS_FOLDER
    if not Path(model).expanduser().exists():
        raise UserError(
            f"--model {model}: no such folder; name the run of a training (docs/generation.md), or"
            " leave it out: a small model comes with the package"
        )
    text = _standard_input() if args.text == STANDARD else args.text
    from focalcodec.audio import write_audio
    from focalcodec.cli.live import Sink
    from focalcodec.lm import load_text_to_speech
    from focalcodec.precision import pick_device

    tts = load_text_to_speech(model)
    tts.to(pick_device(args.device))
    tts.sampling = _sampling(args, tts)
    voice, start = tts.voice(args.voice), time.perf_counter()
    rate = tts.codec.sample_rate_output
    if args.out == STANDARD:
        with Sink(args.out, rate, held=0) as sink:
            for block in tts.stream(text, voice, args.seed):
                sink.put(block)
        return DONE
    (spoken,) = tts.toks([text], [voice], [args.seed])
    sig = tts.decode(spoken.toks)
    write_audio(args.out, sig, rate)
    took, seconds = time.perf_counter() - start, len(sig) / rate
    if not spoken.ended:
        say("warning: the model did not end the text in 0.5 s a character; try another --seed")
    if not args.quiet:
        say(f"{args.out}: {seconds:.1f} s, real-time factor {took / seconds:.2f}")
    return DONE


def _check_out(args: argparse.Namespace) -> None:
    if args.out == STANDARD:
        check_open_output()
    elif Path(args.out).suffix.lower() not in audio_suffixes(None):
        raise UserError(
            f"{args.out}: give a name that ends with {' or '.join(audio_suffixes(None))}"
        )
    elif Path(args.out).exists() and not args.overwrite:
        raise UserError(f"{args.out}: it exists; give another name, or --overwrite")


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"standard input: no text in UTF-8 ({error}); convert it") from error


def _sampling(args: argparse.Namespace, tts: TextToSpeech) -> Sampling:
    if args.top_p is not None and tts.kind == "aligned":
        raise UserError(
            f"--top_p {args.top_p}: this model is no language model; leave it out, or give"
            " --temperature"
        )
    given = {"temperature": args.temperature, "top_p": args.top_p}
    known = {name: value for name, value in given.items() if value is not None}
    return replace(tts.sampling, **known)
