"""`focalcodec stream`: audio through a codec while it arrives, here or between two machines."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from focalcodec.cli.options import add_channels_option, add_model_options, positive_int
from focalcodec.cli.paths import TOKEN_SUFFIX
from focalcodec.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from focalcodec.cli.connection import Received
    from focalcodec.cli.models import LoadedModel
    from focalcodec.fct import TokenHeader

EXAMPLES = """examples:
  focalcodec stream mic speaker                        # what a codec keeps, in headphones
  focalcodec stream talk.wav talk.fct                  # tokens that are valid at every moment
  focalcodec stream speaker --listen :5000             # on one machine
  focalcodec stream mic --send 127.0.0.1:5000          # on the other
  arecord -f S16_LE -r 16000 | focalcodec stream - - --pcm_rate 16000 | aplay -f S16_LE -r 16000

A connection has no encryption and no password: whoever reaches the port can listen and speak. By
default only this machine can. Speech of others is streamed with their consent only.
"""
_INTERVAL = 0.2  # s between two states of the live line


def add_stream_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `focalcodec stream`."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "ends",
        nargs="+",
        metavar="IN OUT",
        help="from where and where to: a file, mic and speaker, - for 16-bit mono PCM on standard"
        " input and output, or .fct for tokens; with --send only IN, with --listen only OUT",
    )
    group = parser.add_argument_group("stream")
    group.add_argument("--send", metavar="HOST:PORT", help="send the tokens of IN")
    group.add_argument(
        "--repeat",
        type=int,
        choices=range(9),
        default=0,
        metavar="N",
        help="with --send: each packet of 80 ms has the tokens of the N packets before it again, if"
        " packets are lost on the way (0 to 8, default 0)",
    )
    group.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help="wait for one sender, and write its audio to OUT; without HOST on 127.0.0.1 only",
    )
    group.add_argument(
        "--any_model", action="store_true", help="decode tokens of another model too"
    )
    group.add_argument(
        "--pcm_rate",
        type=positive_int,
        metavar="HZ",
        help="rate of - and of the devices (default: the rates of the model)",
    )
    group.add_argument(
        "--pack",
        metavar="PRECISION",
        help="store the weights in the CPU's fastest layout, as float32 (equal but for rounding),"
        " bfloat16 or int8",
    )
    group.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    group.add_argument("--quiet", action="store_true", help="no live line and no summary")
    add_channels_option(parser)
    add_model_options(parser)


def run_stream(args: argparse.Namespace) -> int:
    """Stream until IN ends, Ctrl-C, or the other side goes."""
    if args.send and args.listen:
        raise UserError("--send, --listen: give one of them; two processes make a connection")
    wanted = 1 if args.send or args.listen else 2
    if len(args.ends) != wanted:
        names = "IN and OUT" if wanted == 2 else "IN" if args.send else "OUT"
        raise UserError(f"{' '.join(args.ends)}: give {names}; see focalcodec stream --help")
    source, target = args.ends[0], args.ends[-1]
    if source.endswith(TOKEN_SUFFIX) and (args.send or target.endswith(TOKEN_SUFFIX)):
        if not args.listen:
            raise UserError(f"{source}: has tokens already; give audio as IN")
    if args.repeat and not args.send:
        raise UserError(f"--repeat {args.repeat}: only with --send; nothing is lost in a file")
    if not args.send and Path(target).is_file() and not args.overwrite:
        raise UserError(f"{target}: exists; give --overwrite or another name")
    from focalcodec.cli.connection import connect, read_connection, read_file

    if args.send:
        with connect(args.send, "--send", args.quiet) as stream:
            return _send(args, _load(args), source, stream, args.send)
    if args.listen:
        model = _load(args)  # before the sender comes
        with connect(args.listen, "--listen", args.quiet) as stream:
            return _receive(
                args, model, read_connection(stream, "the sender"), "the sender", target
            )
    if source.endswith(TOKEN_SUFFIX):
        return _receive(args, _load(args), read_file(source), source, target)
    if not target.endswith(TOKEN_SUFFIX):
        return _through(args, _load(args), source, target)
    model = _load(args)
    try:
        file = open(target, "wb")
    except OSError as error:
        raise UserError(f"{target}: can't be written ({error.strerror})") from error
    with file:
        return _send(args, model, source, file, target)


def _load(args: argparse.Namespace) -> LoadedModel:
    """The model, packed if asked for."""
    from focalcodec.cli.models import load_model
    from focalcodec.precision import pack_weights

    model = load_model(args)
    if args.pack is not None:
        pack_weights(model.codec, args.pack)
    return model


# -- the three kinds of a stream -------------------------------------------------------------------


def _through(args: argparse.Namespace, model: LoadedModel, name: str, target: str) -> int:
    """Audio to audio in one process."""
    from focalcodec.audio import resampled_length
    from focalcodec.cli.live import Sink, Source
    from focalcodec.streaming import DecoderSession, EncoderSession

    codec = model.codec
    source = Source(name, args.pcm_rate or codec.sample_rate_input, args.channels)
    rate = args.pcm_rate or codec.sample_rate_output
    encoder = EncoderSession(codec, sample_rate=source.sample_rate)
    decoder = DecoderSession(codec, sample_rate=rate)
    line = _Line(args.quiet, codec.bitrate, encoder.latency + decoder.latency)
    samples = 0
    with Sink(target, rate, held=0) as sink:
        for block in source:
            samples += len(block)
            with line.timed(len(block) / source.sample_rate):
                sig = decoder.push(encoder.push(block[None]))[0]
            line.show(sig)
            sink.put(sig)
        if not samples:
            raise UserError(f"{name}: no audio; nothing was written")
        total = resampled_length(samples, source.sample_rate, rate)
        sink.put(decoder.flush(total, toks=encoder.flush())[0])
        sink.close(None)
    line.end(source.dropped)
    return 0


def _send(
    args: argparse.Namespace, model: LoadedModel, name: str, stream: BinaryIO, target: str
) -> int:
    """Audio to packets of tokens, in a file or through a connection."""
    from focalcodec.cli.connection import packet_toks
    from focalcodec.cli.live import Source
    from focalcodec.fct import PacketWriter, header_for
    from focalcodec.streaming import EncoderSession

    codec = model.codec
    source = Source(name, args.pcm_rate or codec.sample_rate_input, args.channels)
    encoder = EncoderSession(codec, sample_rate=source.sample_rate)
    line = _Line(args.quiet, codec.bitrate * (1 + args.repeat), encoder.latency)
    samples = 0
    try:
        header = header_for(codec, model.name, model.weights_sha256, source.sample_rate, 1)
        writer = PacketWriter(stream, header, args.repeat)
        most = packet_toks(codec.token_rate) if args.send else None
        for block in source:
            samples += len(block)
            with line.timed(len(block) / source.sample_rate):
                toks = encoder.push(block[None])[0]
            line.show(block)
            writer.write(toks, most)
        writer.write(encoder.flush()[0], most)
        if samples:
            writer.finish(samples)
    except (BrokenPipeError, ConnectionError) as error:
        seconds = samples / source.sample_rate
        raise UserError(
            f"{target}: the receiver ended the connection after {seconds:.1f} s of audio; start"
            " both again"
        ) from error
    if not samples:
        raise UserError(f"{name}: no audio; give another input")
    line.end(source.dropped)
    return 0


def _receive(
    args: argparse.Namespace,
    model: LoadedModel,
    received: tuple[TokenHeader, Iterator[Received]],
    name: str,
    target: str,
) -> int:
    """Tokens of a connection or a file to audio."""
    from focalcodec.audio import resampled_length
    from focalcodec.cli.live import Sink
    from focalcodec.fct import check_model
    from focalcodec.streaming import DecoderSession

    codec = model.codec
    rate = args.pcm_rate or codec.sample_rate_output
    decoder = DecoderSession(codec, sample_rate=rate)
    line = _Line(args.quiet, codec.bitrate, decoder.latency)
    header, packets = received
    if not args.any_model:
        check_model(header, model.name, model.weights_sha256, name)
    total, lost = None, 0
    held = -(-rate * header.samples_per_token // header.sample_rate_input)
    with Sink(target, rate, held) as sink:
        for toks, missing, end in packets:
            total = end
            if missing:
                lost += missing
                sink.put(decoder.conceal(missing, following=toks[None])[0])
            with line.timed(len(toks) / header.token_rate):
                sig = decoder.push(toks[None])[0]
            line.show(sig)
            sink.put(sig)
        sink.put(decoder.flush()[0])
        sink.close(None if total is None else resampled_length(total, header.sample_rate, rate))
    line.end(lost=lost)
    if total is None:
        print(f"{name}: ended early; {target} has the audio before it", file=sys.stderr)
        return 1
    return 0


# -- the live line ------------------------------------------------------------------------


class _Line:
    """The state of a stream on one line of a terminal, and a summary at its end."""

    def __init__(self, quiet: bool, kbits: float, latency: float) -> None:
        self._quiet, self._kbits, self._latency = quiet, kbits / 1000, latency
        self._audio, self._busy, self._last, self._shown = 0.0, 0.0, 0.0, 0.0
        self._live = not quiet and sys.stderr.isatty()

    @contextmanager
    def timed(self, seconds: float) -> Iterator[None]:
        """Count the time that the codec takes for `seconds` of audio."""
        start = time.perf_counter()
        yield
        self._last = time.perf_counter() - start
        self._busy += self._last
        self._audio += seconds

    def show(self, sig: Tensor) -> None:
        """Write the line, with the level of sig (T,), at most a few times a second."""
        now = time.perf_counter()
        if not self._live or now - self._shown < _INTERVAL or not len(sig):
            return
        self._shown = now
        level = 20 * math.log10(max(float(sig.square().mean().sqrt()), 1e-5))
        print(
            f"\r{self._text()}, level {level:4.0f} dB \x1b[K", end="", file=sys.stderr, flush=True
        )

    def end(self, dropped: int = 0, lost: int = 0) -> None:
        """Write the summary."""
        if self._quiet:
            return
        text = self._text()
        text += f", {dropped} samples of the microphone dropped: too slow" if dropped else ""
        text += f", {lost} tokens lost" if lost else ""
        print(
            f"{chr(13) if self._live else ''}{text}\x1b[K" if self._live else text, file=sys.stderr
        )

    def _text(self) -> str:
        latency = self._latency + 1000 * self._last
        factor = self._busy / self._audio if self._audio else 0.0
        return (
            f"{self._audio:.1f} s, {self._kbits:.2f} kbit/s, latency {latency:.0f} ms,"
            f" real-time factor {factor:.2f}"
        )
