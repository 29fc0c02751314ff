"""`focalcodec tokenize` as a process: killed and resumed, under torchrun, and used for training."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from focalcodec.cli.main import main
from focalcodec.data.corpus import embedded_corpus
from focalcodec.tokenize import TokenStore
from tests.unit.small_codecs import GOLDEN, golden_codec
from tests.unit.tokenize.corpora import files_of

ROOT = Path(__file__).parents[1]
MODEL = str(GOLDEN["tiny_50hz"])
PYTHON = [sys.executable, "-m"]


def command(source: Path, out: Path, *options: str) -> list[str]:
    return ["focalcodec", "tokenize", str(source), str(out), "--model", MODEL, *options]


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*PYTHON, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def speech() -> Path:
    return embedded_corpus("LibriSpeech") / "train-mini"


@pytest.fixture(scope="module")
def whole(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of one undisturbed process."""
    out = tmp_path_factory.mktemp("tokens") / "whole"
    assert main(command(speech, out, "--part_clips", "4")[1:]) == 0
    return out


def test_killed_and_resumed_by_another_number_of_processes(speech, whole, tmp_path):
    out = tmp_path / "out"

    def start(shard: str) -> subprocess.Popen[bytes]:
        arguments = command(speech, out, "--part_clips", "4", "--shard", shard)
        return subprocess.Popen([*PYTHON, *arguments], cwd=ROOT)

    process = start("0/1")
    while len(list(out.glob(".parts*/*.part"))) < 3:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "meta.json").exists()
    assert [process.wait() for process in (start("0/2"), start("1/2"))] == [0, 0]
    assert files_of(out) == files_of(whole)
    assert {path.name for path in out.iterdir()} <= set(files_of(whole))


def test_torchrun_reports_failed_files(speech, tmp_path):
    folder, out = tmp_path / "speech", tmp_path / "out"
    shutil.copytree(speech / "11", folder)
    (folder / "broken.flac").write_bytes(b"noise")
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    result = run([*launcher, *command(folder, out, "--part_clips", "2", "--format", "both")])
    assert result.returncode == 1, result.stderr
    store = TokenStore(out).for_codec(golden_codec("tiny_50hz"))
    clips = sorted(path.relative_to(folder) for path in folder.rglob("*-*.flac"))
    assert store.ids == [str(path.with_suffix("")) for path in clips]
    assert (out / "failed.csv").read_text().splitlines()[1].startswith("broken,")
    assert "; 1 failed, see " in result.stderr


class TinyLanguageModel(nn.Module):
    """Embedding, GRU, and the embedding again."""

    def __init__(self, size: int, dim: int = 48) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, dim)
        self.gru = nn.GRU(dim, dim, batch_first=True)
        self.out = nn.Linear(dim, size)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.gru(self.embedding(ids))[0])


def test_language_model_learns_from_the_memmap(whole):
    torch.manual_seed(0)
    store = TokenStore(whole)
    model = TinyLanguageModel(store.vocabulary.size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    length, rows = 32, np.arange(16)
    starts = torch.randint(len(store.stream) - length - 1, (30, len(rows))).numpy()
    losses = []
    for start in starts:
        ids = store.stream[start[:, None] + np.arange(length + 1)].astype(np.int64)
        batch = torch.from_numpy(ids)
        logits = model(batch[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    uniform = math.log(store.vocabulary.size)
    assert losses[0] == pytest.approx(uniform, rel=0.05)
    assert np.mean(losses[-3:]) < 0.5 * uniform
