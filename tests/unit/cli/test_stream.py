"""`focalcodec stream`: files, pipes, devices and connections, with the tiny causal codec."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from focalcodec.audio import audio_info
from focalcodec.cli.main import main
from focalcodec.fct import PacketWriter, header_for, read_toks
from focalcodec.hub.fingerprint import weights_sha256
from focalcodec.streaming import DecoderSession, EncoderSession
from tests.unit.small_codecs import GOLDEN, golden_codec

NAME = "tiny_50hz_causal"
MODEL = str(GOLDEN[NAME])
RATE = 44100
SAMPLES = 36000


def run(*words: str | Path) -> int:
    return main(["stream", *[str(word) for word in words], "--model", MODEL])


@pytest.fixture
def talk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The file talk.wav in the current folder, and its samples."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLES)
    soundfile.write("talk.wav", noise, RATE)
    return soundfile.read("talk.wav", dtype="float32")[0]


def tokens(sig: np.ndarray, rate: int = RATE) -> torch.Tensor:
    """Tokens of a session, (N,)."""
    session = EncoderSession(golden_codec(NAME), sample_rate=rate)
    return torch.cat([session.push(sig[None]), session.flush()], dim=1)[0]


def audio(toks: torch.Tensor, num_samples: int) -> np.ndarray:
    """What a session decodes."""
    return DecoderSession(golden_codec(NAME)).flush(num_samples, toks=toks[None])[0].numpy()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Listener(threading.Thread):
    """`focalcodec stream OUT --listen` beside the test; `code` is its exit code."""

    def __init__(self, out: str) -> None:
        super().__init__(daemon=True)
        self.out, self.port, self.code = out, free_port(), -1
        self.start()

    def run(self) -> None:
        self.code = run(self.out, "--listen", f":{self.port}")

    def connect(self) -> socket.socket:
        for _ in range(600):
            try:
                return socket.create_connection(("127.0.0.1", self.port))
            except ConnectionRefusedError:
                time.sleep(0.05)
        raise AssertionError("nobody listens")


def test_audio_to_audio_has_the_length_of_the_input(talk):
    assert run("talk.wav", "out.wav") == 0
    expected = 13061  # 36000 samples at 16 kHz, the rate of this codec's output
    assert audio_info("out.wav").num_samples == expected
    written = soundfile.read("out.wav", dtype="float32")[0]
    np.testing.assert_allclose(written, audio(tokens(talk), expected), atol=1e-4)


def test_tokens_to_a_file_and_back(talk, capsys):
    assert run("talk.wav", "talk.fct") == 0
    header, toks = read_toks("talk.fct")
    assert header.num_samples == SAMPLES and header.sample_rate == RATE
    assert torch.equal(toks, tokens(talk))
    assert run("talk.fct", "out.wav") == 0
    assert main(["decode", "talk.fct", "whole.wav", "--model", MODEL]) == 0
    assert main(["info", "talk.fct"]) == 0
    assert "packets" in capsys.readouterr().out
    written, whole = (soundfile.read(name)[0] for name in ("out.wav", "whole.wav"))
    np.testing.assert_allclose(written, whole, atol=1e-3)


def test_a_file_of_a_killed_process_is_read_up_to_its_last_packet(talk):
    assert run("talk.wav", "talk.fct") == 0
    data = Path("talk.fct").read_bytes()
    Path("killed.fct").write_bytes(data[: len(data) * 2 // 3])
    _, toks = read_toks("killed.fct")
    assert 0 < len(toks) < len(tokens(talk)) and torch.equal(toks, tokens(talk)[: len(toks)])
    assert run("killed.fct", "out.wav") == 0
    assert audio_info("out.wav").num_samples == 320 * len(toks)


def test_two_processes_through_a_connection(talk, capsys):
    listener = Listener("out.wav")
    time.sleep(0.5)
    for _ in range(100):
        if run("talk.wav", "--send", f"127.0.0.1:{listener.port}") == 0:
            break
        time.sleep(0.1)
    listener.join(60)
    assert listener.code == 0
    assert audio_info("out.wav").num_samples == 13061
    assert "real-time factor" in capsys.readouterr().err


def test_packed_weights_give_the_same_tokens_and_are_named_as_the_codec(talk, capsys):
    assert run("talk.wav", "packed.fct", "--pack", "float32") == 0
    header, toks = read_toks("packed.fct")
    assert weights_sha256(golden_codec(NAME)).startswith(header.weights_sha256)
    assert (toks == tokens(talk)).float().mean() > 0.98
    assert run("talk.wav", "out.wav", "--pack", "int3") == 2
    assert "int3" in capsys.readouterr().err and not Path("out.wav").exists()


@pytest.mark.parametrize("end", ["closes", "loses"])
def test_a_sender_that_goes_or_loses_tokens(talk, capsys, end):
    codec, listener = golden_codec(NAME), Listener("out.wav")
    header = header_for(codec, "tiny", weights_sha256(codec), 16000, 1)
    with listener.connect() as connection, connection.makefile("wb") as file:
        writer = PacketWriter(file, header)
        writer.write(tokens(talk)[:8])
        if end == "loses":
            writer.num_tokens += 4
            writer.write(tokens(talk)[12:20])
            writer.finish(20 * 320)
    listener.join(60)
    message = capsys.readouterr().err
    if end == "closes":
        assert listener.code == 1 and "the sender: ended early; out.wav has the audio" in message
        assert audio_info("out.wav").num_samples == 8 * 320
    else:
        assert listener.code == 0 and "4 tokens lost" in message
        assert audio_info("out.wav").num_samples == 20 * 320


def split(data: bytes, bits: int) -> list[bytes]:
    """Packets of a stream after its header, and its end."""
    parts, start = [], 0
    while start < len(data):
        count = int.from_bytes(data[start + 4 : start + 6], "little")
        parts.append(data[start : (start := start + 10 + (-(-count * bits // 8) or 5))])
    return parts


@pytest.mark.parametrize("repeat", ["0", "1"])
def test_repeats_repair_what_a_relay_loses(talk, capsys, repeat):
    """Every second packet is lost, of 80 ms each, but not the last one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port, taken = server.getsockname()[1], bytearray()

        def listen() -> None:
            with server.accept()[0] as connection:
                while data := connection.recv(4096):
                    taken.extend(data)

        relay = threading.Thread(target=listen)
        relay.start()
        assert run("talk.wav", "--send", f"127.0.0.1:{port}", "--repeat", repeat) == 0
        relay.join(60)
    codec, listener = golden_codec(NAME), Listener("out.wav")
    head = 40 + taken[6] + taken[7]
    *packets, end = split(bytes(taken[head:]), codec.bits_per_token)
    toks = tokens(talk)
    assert len(packets) == -(-len(toks) // 4)
    with listener.connect() as connection:
        kept = packets[:-1][::2] + packets[-1:]
        connection.sendall(b"".join([bytes(taken[:head]), *kept, end]))
        listener.join(60)
    assert listener.code == 0
    written = soundfile.read("out.wav", dtype="float32")[0]
    message, expected = capsys.readouterr().err, audio(toks, 13061)
    assert ("tokens lost" in message) == (repeat == "0")
    assert np.allclose(written, expected, atol=1e-4) == (repeat == "1")


def test_a_receiver_that_goes_ends_the_sender_with_one_line(talk, capsys):
    soundfile.write("long.wav", np.zeros(16000 * 60), 16000)
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: server.accept()[0].close())
        thread.start()
        assert run("long.wav", "--send", f"127.0.0.1:{server.getsockname()[1]}") == 2
        thread.join(10)
    assert "the receiver ended the connection after" in capsys.readouterr().err


def test_tokens_of_another_model_are_refused(talk, capsys):
    listener = Listener("out.wav")
    header = header_for(golden_codec(NAME), "other", "f" * 64, 16000, 1)
    with listener.connect() as connection, connection.makefile("wb") as file:
        PacketWriter(file, header).write(tokens(talk)[:8])
        listener.join(60)
    assert listener.code == 2 and "tokens of other" in capsys.readouterr().err
    assert not Path("out.wav").exists()


def test_pipes_carry_pcm(talk):
    pcm = (talk * 32767).astype("<i2")
    command = [sys.executable, "-m", "focalcodec", "stream", "-", "-", "--pcm_rate", str(RATE)]
    done = subprocess.run(
        [*command, "--model", MODEL], input=pcm.tobytes(), capture_output=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) == 2 * SAMPLES
    assert b"real-time factor" in done.stderr


class FakeDevices:
    """sounddevice with a microphone that plays `sig` once, then waits for Ctrl-C."""

    def __init__(self, sig: np.ndarray) -> None:
        self.sig, self.played = sig, []

    def InputStream(self, *, callback, blocksize, samplerate, **options):  # noqa: N802
        for start in range(0, len(self.sig), blocksize):
            callback(self.sig[start : start + blocksize, None], None, None, None)
        return self.stream(None)

    def OutputStream(self, *, samplerate, **options):  # noqa: N802
        return self.stream(lambda data: self.played.append(data[:, 0].copy()))

    def stream(self, write):
        return contextlib.nullcontext(SimpleNamespace(write=write))


def test_microphone_and_speaker_until_ctrl_c(talk, monkeypatch):
    sig = talk[:24000]
    devices = FakeDevices(sig)
    monkeypatch.setitem(sys.modules, "sounddevice", devices)
    timer = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    assert run("mic", "speaker") == 0
    timer.cancel()
    played = np.concatenate(devices.played)
    assert len(played) == len(sig)
    np.testing.assert_allclose(played, audio(tokens(sig, 16000), len(sig)), atol=1e-4)


def test_without_devices_the_line_names_the_extra(talk, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert run("mic", "out.wav") == 2
    assert 'pip install "focalcodec[stream]"' in capsys.readouterr().err
    assert not Path("out.wav").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["talk.wav"], "give IN and OUT"),
        (["talk.wav", "a.wav", "--send", ":1"], "give IN;"),
        (["a.wav", "b.wav", "--listen", ":1"], "give OUT;"),
        (["talk.wav", "--send", ":1", "--listen", ":2"], "give one of them"),
        (["talk.wav", "--send", "nowhere"], "--send nowhere: give HOST:PORT"),
        (["talk.wav", "a.fct", "--repeat", "1"], "--repeat 1: only with --send"),
        (["talk.wav", "talk.wav"], "talk.wav: exists"),
        (["none.wav", "out.wav"], "none.wav"),
        (["talk.wav", "out.mp3"], "give a .wav, .flac or .fct"),
        (["talk.fct", "other.fct"], "has tokens already"),
    ],
)
def test_wrong_words_are_one_line(talk, capsys, words, message):
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_nobody_at_the_address(talk, capsys):
    assert run("talk.wav", "--send", f"127.0.0.1:{free_port()}") == 2
    assert "no connection" in capsys.readouterr().err
