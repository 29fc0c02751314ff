"""`python -m focalcodec` as a process: pipes, exit codes, and the files after a signal."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import soundfile
import torch

from focalcodec.audio import audio_info, write_audio
from focalcodec.cli.main import main

ROOT = Path(__file__).parents[1]
MODEL = str(ROOT / "tests" / "data" / "golden" / "tiny_50hz")
COMMAND = [sys.executable, "-m", "focalcodec"]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}
CLIPS = 80


@pytest.fixture(autouse=True)
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stereo recording, and a folder of many."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", torch.rand(22050, 2).numpy() - 0.5, 44100)
    write_audio("in/0.wav", 0.1 * torch.randn(32000), 16000)
    for index in range(1, CLIPS):
        os.link("in/0.wav", f"in/{index}.wav")


def start(*words: str, **options: object) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, *words],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,  # type: ignore[call-overload]
    )


def test_encode_into_decode() -> None:
    """encode - - < a.wav | decode - - > b.wav."""
    with open("a.wav", "rb") as sound:
        encode = start("encode", "-", "-", "--model", MODEL, stdin=sound)
    words = ("decode", "-", "-", "--model", MODEL, "--sample_rate", "original")
    decode = start(*words, stdin=encode.stdout)
    rec_audio, problems = decode.communicate()
    assert (encode.wait(), decode.returncode) == (0, 0)
    assert problems.startswith(b"focalcodec: standard output: 0.50 s of audio, 0.624 kbit/s, ")
    assert encode.stderr is not None
    assert encode.stderr.read().count(b"\n") == 1, "no bar in a pipe"
    info = soundfile.info(io.BytesIO(rec_audio))
    assert (info.frames, info.samplerate, info.channels) == (22050, 44100, 1)
    assert main(["resynth", "a.wav", "c.wav", "--model", MODEL, "--sample_rate", "original"]) == 0
    assert Path("c.wav").read_bytes() == rec_audio


def test_the_reader_of_the_pipe_has_ended() -> None:
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [*COMMAND, "resynth", "a.wav", "-", "--model", MODEL],
        env=ENVIRONMENT,
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    assert (process.returncode, process.stderr) == (1, b"")


@pytest.mark.skipif(os.name == "nt", reason="platform: signals of POSIX")
@pytest.mark.parametrize("number, jobs", [(signal.SIGTERM, "1"), (signal.SIGINT, "2")])
def test_a_run_that_is_stopped_leaves_whole_files(number: int, jobs: str) -> None:
    words = ["resynth", "in", "out", "--model", MODEL, "--jobs", jobs]
    # a shell starts background jobs, such as these tests, with Ctrl-C ignored
    obey = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = start(*words, start_new_session=True, preexec_fn=obey)
    while not list(Path().glob("out/[!.]*.wav")) and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, number)  # as a terminal or a scheduler does
    _, err = process.communicate()
    assert process.returncode == 128 + number, err
    assert b"Traceback" not in err
    left = [path.name for path in Path("out").iterdir()]
    assert 0 < len(left) < CLIPS and not any(name.startswith(".") for name in left)
    assert all(audio_info(Path("out", name)).num_samples == 32000 for name in left)
    assert main(words[:-2]) == 0, "the same command resumes"
    assert len(list(Path("out").iterdir())) == CLIPS
