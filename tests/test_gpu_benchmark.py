"""benchmarks/gpu.py on the CPU with small codecs; this repository is the other package too."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def lines(*words: str) -> list[str]:
        monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
        monkeypatch.setattr("sys.argv", ["gpu.py", str(ROOT), *words])
        runpy.run_path(str(ROOT / "benchmarks/gpu.py"), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return lines


def test_every_row_is_measured_and_equal(benchmark) -> None:
    lines = benchmark("--device", "cpu", "--size", "small", "--repeats", "1")
    rows = [line.strip("| ").split(" | ") for line in lines[4:]]
    kinds = {"encode,", "decode,", "stream,", "training"}
    assert len(rows) == 8 and {row[0].split()[0] for row in rows} == kinds
    for row in rows:
        assert all(float(cell) > 0 for cell in row[1:4])
        assert float(row[-1]) == 100


def test_without_a_gpu_it_is_skipped_in_one_line(benchmark, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (line,) = benchmark()
    assert line.startswith("skipped: needs a GPU; ")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_rows_of_a_gpu(benchmark) -> None:
    lines = benchmark("--size", "small", "--repeats", "1")
    rows = [line.strip("| ").split(" | ") for line in lines[4:]]
    assert len(rows) == 8 and all(float(row[4]) > 0 for row in rows)
