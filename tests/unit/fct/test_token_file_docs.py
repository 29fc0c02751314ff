"""docs/token_files.md and docs/read_fct.c agree with the code."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.fct import TokenReader, read_toks, write_toks
from tests.unit.fct.reference import EXAMPLE
from tests.unit.fct.test_token_file_mutations import correct_crcs, mutate, seeds

DOCS = Path(__file__).parents[3] / "docs"
TOKS = torch.tensor([1, 2, 8191])


def hexdump(data: bytes) -> Iterator[str]:
    """Lines as `hexdump -C` writes them."""
    for offset in range(0, len(data), 16):
        row = data[offset : offset + 16]
        octets = " ".join(f"{octet:02x}" for octet in row[:8]).ljust(23)
        octets += "  " + " ".join(f"{octet:02x}" for octet in row[8:])
        text = "".join(chr(octet) if 32 <= octet < 127 else "." for octet in row)
        yield f"{offset:08x}  {octets:<48}  |{text}|"
    yield f"{len(data):08x}"


def file_of(toks: Tensor, bits: int = 13, body: str = "packed") -> bytes:
    header = EXAMPLE if bits == 13 else type(EXAMPLE)("m", "0" * 16, bits, 1, 1, 1, 1, 1)
    stream = io.BytesIO()
    write_toks(stream, toks, header, body)  # type: ignore[arg-type]
    return stream.getvalue()


def test_example_in_the_docs() -> None:
    text = (DOCS / "token_files.md").read_text()
    assert "\n".join(hexdump(file_of(TOKS))) in text


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    program = tmp_path_factory.mktemp("c") / "read_fct"
    flags = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-O1"]
    subprocess.run([compiler, *flags, "-o", program, DOCS / "read_fct.c"], check=True)
    return program


def run(program: Path, data: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([program], input=data, capture_output=True, timeout=60)


def toks_of(output: bytes) -> list[int]:
    return [int(line) for line in output.splitlines() if not line.startswith(b"#")]


@pytest.mark.parametrize("bits", [1, 7, 8, 13, 16, 31, 32])
@pytest.mark.parametrize("num_tokens", [1, 3, 8, 9001])
def test_reader_in_c(reader: Path, bits: int, num_tokens: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    toks = torch.randint(0, 2**bits, (num_tokens,), generator=generator)
    done = run(reader, file_of(toks, bits))
    assert (done.returncode, done.stderr) == (0, b"")
    assert toks_of(done.stdout) == toks.tolist()


def test_reader_in_c_prints_the_header(reader: Path) -> None:
    lines = run(reader, file_of(TOKS)).stdout.decode().splitlines()
    assert lines[:7] == [
        "# model lucadellalib/focalcodec_50hz",
        "# weights 0123456789abcdef",
        "# id a-1",
        "# 13 bits a token, 320 samples a token",
        "# 16000 Hz in, 16000 Hz out",
        "# 2880 samples at 48000 Hz",
        "# 3 tokens",
    ]


def test_reader_in_c_decodes_own_frequencies(reader: Path) -> None:
    pytest.importorskip("constriction")
    toks = (torch.arange(9001) // 3).square() % 64
    data = file_of(toks, body="smallest")
    assert data[4] == 1
    assert toks_of(run(reader, data).stdout) == toks.tolist()


@pytest.mark.parametrize("runs", [False, True])
def test_reader_in_c_expands_runs_and_prints_the_voice(reader: Path, runs: bool) -> None:
    toks, stream = (torch.arange(9001) // 11) % 8192, io.BytesIO()
    voice = torch.tensor([0, 1, 4095] + [77] * 17)
    write_toks(stream, toks, EXAMPLE, "runs" if runs else "packed", voice=voice)
    done = run(reader, stream.getvalue())
    assert (done.returncode, done.stderr) == (0, b"")
    assert toks_of(done.stdout) == toks.tolist()
    assert f"# voice {' '.join(map(str, voice.tolist()))}\n".encode() in done.stdout
    with TokenReader(io.BytesIO(stream.getvalue())) as found:
        assert found.body == "voiced" and found.num_tokens == 9001
        assert found.voice.tolist() == voice.tolist()
        assert torch.cat(list(found)).equal(toks)


def test_voices_and_runs_that_do_not_fit_are_refused() -> None:
    for voice, message in (
        (torch.tensor([4096]), "toks: 4096..4096; 12 bits hold 0..4095"),
        (torch.zeros(256, dtype=torch.int64), "voice: 256 tokens; a file holds at most 255"),
    ):
        with pytest.raises(UserError, match=message):
            write_toks(io.BytesIO(), TOKS, EXAMPLE, voice=voice)
    with pytest.raises(UserError, match="body='smallest': has no place for a voice; take packed"):
        write_toks(io.BytesIO(), TOKS, EXAMPLE, "smallest", voice=TOKS)


@pytest.mark.parametrize("body", ["packed", "own", "voiced"])
def test_readers_agree_on_damaged_files(reader: Path, body: str) -> None:
    """Both give the same tokens; the C reader checks fewer fields of the header."""
    if body == "own":
        pytest.importorskip("constriction")
    (files, _), random = seeds(body), Random(3)
    read = 0
    for turn in range(300):
        data = mutate(random, files)
        if turn % 2:
            correct_crcs(data)
        done = run(reader, bytes(data))
        assert done.returncode in (0, 1)
        try:
            toks = read_toks(io.BytesIO(bytes(data)))[1].tolist()
        except UserError:
            continue
        assert done.returncode == 0
        assert toks_of(done.stdout) == toks
        read += 1
    assert read > 10
