"""Where `focalcodec stream` takes audio from, and where it puts it: files, pipes and devices."""

from __future__ import annotations

import os
import queue
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import soundfile
import torch
from torch import Tensor

from focalcodec.audio import from_pcm, to_pcm
from focalcodec.audio_files.sound import any_name
from focalcodec.audio_stream import AudioStream
from focalcodec.choices import Channels
from focalcodec.errors import UserError, one_line
from focalcodec.files import atomic_path

MICROPHONE, SPEAKER, PIPE = "mic", "speaker", "-"
BLOCK_SECONDS = 0.02
_BUFFER_SECONDS = 10.0  # of the microphone, if the codec is too slow; then samples are dropped


class _Stopped(Exception):
    """Ctrl-C while standard input is read."""


class Source:
    """Blocks (T,) float32 of audio; `sample_rate` in Hz.

    `name` is a path, `mic`, or `-`: 16-bit little-endian PCM, mono, on standard input, at
    `pcm_rate`. `dropped` counts samples of the microphone for which there was no time. While the
    blocks are read, Ctrl-C ends them; a second one ends the command.
    """

    def __init__(self, name: str, pcm_rate: int, channels: Channels) -> None:
        self.name, self.sample_rate, self.dropped = name, pcm_rate, 0
        self._file: AudioStream | None = None
        self._stopped, self._waits = False, False
        if name not in (MICROPHONE, PIPE):
            self._file = AudioStream(name, channels=channels, block_seconds=0.1)
            self.sample_rate = self._file.source_rate

    def __iter__(self) -> Iterator[Tensor]:
        before = signal.getsignal(signal.SIGINT)
        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, self._stop)
        try:
            yield from self._blocks()
        except _Stopped:
            return
        finally:
            with suppress(ValueError):
                signal.signal(signal.SIGINT, before)

    def _stop(self, *_: object) -> None:
        if self._stopped:
            raise KeyboardInterrupt
        self._stopped = True
        if self._waits:
            raise _Stopped

    def _blocks(self) -> Iterator[Tensor]:
        if self._file is not None:
            with self._file as blocks:
                for block in blocks:
                    yield block
                    if self._stopped:
                        return
        else:
            yield from self._recorded() if self.name == MICROPHONE else self._piped()

    def _piped(self) -> Iterator[Tensor]:
        kept, size = b"", 2 * int(BLOCK_SECONDS * self.sample_rate)  # kept: half a sample
        while not self._stopped:
            self._waits = True
            data = os.read(sys.stdin.fileno(), size)
            self._waits = False
            if not data:
                return
            data = kept + data
            even = len(data) // 2 * 2
            kept = data[even:]
            yield from_pcm(data[:even])

    def _recorded(self) -> Iterator[Tensor]:
        size = int(_BUFFER_SECONDS / BLOCK_SECONDS)
        blocks: queue.Queue[Tensor] = queue.Queue(size)

        def take(data: Any, *_: Any) -> None:
            try:
                blocks.put_nowait(torch.from_numpy(data[:, 0].copy()))
            except queue.Full:
                self.dropped += len(data)

        with ExitStack() as stack:
            stack.enter_context(_device("InputStream", self.sample_rate, callback=take))
            while not self._stopped or not blocks.empty():
                with suppress(queue.Empty):
                    yield blocks.get(timeout=0.1)


class Sink:
    """Takes blocks (T,) float32 of audio at `sample_rate`, Hz.

    `name` is a path (.wav or .flac, whole or not there at all), `speaker`, or `-`: PCM on standard
    output, as for `Source`. The last `held` samples of a file are kept until `close`, because they
    may be beyond the end.
    """

    def __init__(self, name: str, sample_rate: int, held: int) -> None:
        self._stack, self._held, self._written = ExitStack(), held, 0
        self._tail = torch.zeros(0)
        self._write: Any
        if name == SPEAKER:
            stream = self._stack.enter_context(_device("OutputStream", sample_rate))
            self._write, self._held = lambda sig: stream.write(sig.numpy()[:, None]), 0
        elif name == PIPE:
            self._write = self._to_pipe
        else:
            if Path(name).suffix.lower() not in (".wav", ".flac"):
                raise UserError(f"{name}: give a .wav, .flac or .fct file, {SPEAKER} or {PIPE}")
            temporary = self._stack.enter_context(atomic_path(name))
            file = soundfile.SoundFile(any_name(temporary), "w", sample_rate, 1)
            self._stack.enter_context(file)
            self._write = lambda sig: file.write(sig.clamp(-1.0, 1.0).numpy())

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def put(self, sig: Tensor) -> None:
        """Write a block."""
        sig = torch.cat([self._tail, sig])
        ready = max(0, len(sig) - self._held)
        self._tail = sig[ready:].clone()
        if ready:
            self._write(sig[:ready])
            self._written += ready

    def close(self, num_samples: int | None) -> None:
        """Write the samples that are left, up to `num_samples` in all, None: all."""
        left = None if num_samples is None else max(0, num_samples - self._written)
        self._held, tail = 0, self._tail[:left]
        self._tail = self._tail[:0]
        self.put(tail)

    def _to_pipe(self, sig: Tensor) -> None:
        sys.stdout.buffer.write(to_pcm(sig))
        sys.stdout.buffer.flush()


def _device(kind: str, sample_rate: int, **options: Any) -> Any:
    """A stream of sounddevice, mono."""
    sounddevice = _sounddevice()
    try:
        return getattr(sounddevice, kind)(
            samplerate=sample_rate,
            channels=1,
            dtype="float32",
            blocksize=int(BLOCK_SECONDS * sample_rate),
            **options,
        )
    # PortAudioError and ValueError: no device, or not at this rate
    except Exception as error:
        raise UserError(
            f"{MICROPHONE if kind == 'InputStream' else SPEAKER}: can't be opened at {sample_rate}"
            f" Hz ({one_line(error)}); check the device, or give a file or {PIPE}"
        ) from error


def _sounddevice() -> ModuleType:
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: PortAudio is missing
        raise UserError(
            f"{MICROPHONE}, {SPEAKER}: sounddevice is missing ({one_line(error)});"
            ' pip install "focalcodec[stream]"'
        ) from error
    return sounddevice
