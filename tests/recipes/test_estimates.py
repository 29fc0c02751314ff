"""Estimates of LibriMix's probes: each clip has its own files."""

from __future__ import annotations

import csv
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import torch

RECIPE = Path(__file__).parents[2] / "recipes" / "LibriMix"
RATE = 16000


def test_ids_with_one_file_name_do_not_share_an_estimate(tmp_path: Path) -> None:
    made = runpy.run_path(str(RECIPE / "estimates.py"))["Estimates"]
    codec = SimpleNamespace(
        streams=1,
        decode=lambda toks: torch.full((RATE // 10,), float(toks[0]) / 10),
        coder=SimpleNamespace(sample_rate_output=RATE),
    )
    rows = []
    for name in ("a/1", "a_1", "A_1"):
        wav = tmp_path / f"{len(rows)}.wav"
        soundfile.write(wav, torch.zeros(RATE // 10).numpy(), RATE)
        rows.append({"ID": name, "duration": 0.1, "wav": str(wav), "spk_id": "", "wrd": ""})
    estimates = made(codec, "wav", ["wav"], "none", "en")
    estimates.start_set(tmp_path / "out", rows, None, "cpu")
    batch = SimpleNamespace(
        id=[row["ID"] for row in rows], rows=rows, lengths=torch.tensor([1, 1, 1])
    )
    estimates.add(batch, torch.tensor([1, 2, 3]).view(3, 1, 1, 1), lambda name: {"scores": {}})
    estimates.write_manifest(rows, batch.id)
    with (tmp_path / "out" / "manifest.csv").open(encoding="utf-8") as file:
        paths = [
            row["estimate"].replace("$data_root", str(tmp_path / "out"))
            for row in csv.DictReader(file)
        ]
    values = [soundfile.read(path)[0].mean() for path in paths]
    assert values == pytest.approx([0.1, 0.2, 0.3], abs=1e-3)
