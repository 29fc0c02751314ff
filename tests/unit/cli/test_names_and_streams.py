"""Names on the command line, and streams that are closed, full or can't encode a name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from focalcodec.cli import info
from focalcodec.cli.main import main, parse
from focalcodec.errors import UserError
from focalcodec.fct import TokenHeader, write_toks

ROOT = Path(__file__).parents[3]
posix_only = pytest.mark.skipif(os.name != "posix", reason="platform: no POSIX shell")


@pytest.fixture(autouse=True)
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    header = TokenHeader("me/codec", "0123456789abcdef", 13, 320, 16000, 16000, 16000, 160000)
    write_toks("a.fct", torch.arange(500), header)  # `info` of it runs without torch


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell's line, in which `fc` is the command."""
    return subprocess.run(
        ["sh", "-c", line.replace("fc ", f"{sys.executable} -m focalcodec ")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "", **environment},
        capture_output=True,
        text=True,
        errors="surrogateescape",
    )


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, names",
    [
        ("encode --model demo -- -a.wav d.fct", {"sources": ["-a.wav"], "out": "d.fct"}),
        ("decode a -- --jobs -b", {"sources": ["a", "--jobs"], "out": "-b"}),
        ("resynth a --jobs 2 -- -b c", {"sources": ["a", "-b"], "out": "c", "jobs": 2}),
        ("convert --reference x -- -a -b", {"sources": ["-a"], "out": "-b", "reference": ["x"]}),
        ("tokenize -- -a -b", {"source": "-a", "out": "-b"}),
        ("prepare -- -a -b", {"folder": "-a", "out": "-b"}),
        ("eval --codecs x -- -a -b", {"paths": ["-a", "-b"], "codecs": ["x"]}),
        ("probes -- -a", {"folders": ["-a"]}),
        ("info -- -a.wav --", {"things": ["-a.wav", "--"]}),
        ("export -- -a -b -c", {"quantizer": "-a", "decoder": "-b", "folder": "-c"}),
        ("download -- -a", {"name": "-a"}),
        ("config -- -a.yaml", {"file": "-a.yaml"}),
        ("recipe -- copy LibriSpeech -a", {"action": "copy", "folder": "-a"}),
    ],
)
def test_two_dashes_end_the_options(line: str, names: dict[str, object]) -> None:
    args = vars(parse(line.split()))
    assert {name: args[name] for name in names} == names


@pytest.mark.parametrize(
    "words, place",
    [
        (["encode", "", "out"], "argument 1 is"),
        (["encode", "a.wav", ""], "argument 2 is"),
        (["encode", "a.wav", "out", "--table="], r"argument 3 \(of --table\)"),
        (["download", "demo", "--to", ""], r"argument 3 \(of --to\)"),
        (["tokenize", "", "out"], "argument 1 is"),
        (["prepare", "", "out"], "argument 1 is"),
        (["eval", "a", "", "--codecs", "original"], "argument 2 is"),
        (["convert", "a", "b", "--reference", "x", ""], "argument 5 is"),
        (["info", ""], "argument 1 is"),
        (["config", ""], "argument 1 is"),
    ],
)
def test_an_empty_name_is_no_folder(words: list[str], place: str) -> None:
    with pytest.raises(UserError, match=f"^'': {place}"):
        parse(words)
    assert main(words) == 2 and list(Path().iterdir()) == [Path("a.fct")]


def test_values_that_may_be_empty() -> None:
    assert parse(["tokenize", "a", "b", "--special", ""]).special == ""
    assert parse(["config", "a.yaml", "--language", ""]).keys == ["--language", ""]


# -- streams ---------------------------------------------------------------------------------------


@posix_only
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "utf-8:strict"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_any_name_is_printed(environment: dict[str, str]) -> None:
    name = os.fsdecode(b"na\xefve\xe2\x80\xa8.fct")
    try:
        os.rename("a.fct", name)
    except OSError:
        pytest.skip("platform: this file system takes no such name")
    done = shell("fc info na*.fct x$(echo na*.fct)", **environment)
    assert done.returncode == 1 and r"xna\udcefve" in done.stderr.splitlines()[0]
    assert r"na\udcefve" in done.stdout.splitlines()[0] and "Traceback" not in done.stderr


@posix_only
@pytest.mark.parametrize(
    "line, code",
    [
        *[("fc info a.fct >&-", 0), ("fc info gone.fct >&-", 2), ("fc info gone.fct 2>&-", 2)],
        *[("fc info gone.fct <&- >&- 2>&-", 2), ("fc --help >&-", 0), ("fc encode 2>&-", 2)],
    ],
)
def test_closed_streams(line: str, code: int) -> None:
    done = shell(line)
    assert done.returncode == code and "Traceback" not in done.stderr
    assert done.stdout == "" or code == 0, "an error is not written to standard output"


@posix_only
@pytest.mark.parametrize("line", ["fc info a.fct", "fc --help", "fc info --help"])
def test_output_that_nobody_reads(line: str) -> None:
    code = "; echo $? >&2"
    done = shell(f"({line} {code}) | true")
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert done.stderr.strip() in ("0", "1")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="platform: no /dev/full")
def test_full_streams() -> None:
    done = shell("fc info a.fct >/dev/full")
    assert done.returncode == 2
    assert done.stderr == "focalcodec: error: standard output: No space left on device\n"
    assert shell("fc info gone.fct 2>/dev/full").returncode == 2


# -- signals ---------------------------------------------------------------------------------------


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """A shell starts background jobs, such as these tests, with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@posix_only
@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(
    "number, code, word",
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_is_one_line(number, code, word, monkeypatch, capsys) -> None:
    def work(args: object) -> int:
        os.kill(os.getpid(), number)
        raise AssertionError("the signal came before this line")

    monkeypatch.setattr(info, "run_info", work)
    before = signal.getsignal(number)
    assert main(["info"]) == code and signal.getsignal(number) == before
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"focalcodec: {word}; finished files are kept")


@posix_only
@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_an_import_ends_at_once(number: int, code: int, tmp_path: Path) -> None:
    text = f"""import atexit, os
atexit.register(print, 'an exception went through the import')
os.kill(os.getpid(), {int(number)})
"""
    (tmp_path / "focalcodec_signal_test.py").write_text(text)
    script = "from focalcodec.cli import info, main; import sys\n"
    script += "info.run_info = lambda args: __import__('focalcodec_signal_test')\n"
    script += "sys.exit(main.main(['info']))\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (code, "") and done.stderr.count("\n") == 1
