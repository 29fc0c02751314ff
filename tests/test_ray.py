"""Tokens by Ray Data: two workers, one of which is killed, give those of `focalcodec tokenize`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from focalcodec.cli.main import main
from focalcodec.data.corpus import embedded_corpus
from focalcodec.tokenize import TokenStore
from tests.unit.small_codecs import GOLDEN

MODEL = str(GOLDEN["tiny_50hz"])
ROOT = Path(__file__).parents[1]

# A worker writes its number; the first to encode a batch kills itself before it answers.
SCRIPT = """
import os, signal, sys
from pathlib import Path
import ray
from focalcodec.tokenize import ClipEncoder

model, speech, out = sys.argv[1:]

class Mortal(ClipEncoder):
    def __call__(self, batch):
        encoded = super().__call__(batch)
        Path(out, f"worker-{os.getpid()}").touch()
        try:
            Path(out, "killed").touch(exist_ok=False)
        except FileExistsError:
            return encoded
        os.kill(os.getpid(), signal.SIGKILL)

ray.init(num_cpus=4, include_dashboard=False, object_store_memory=80_000_000)
clips = ray.data.read_binary_files(speech, include_paths=True, file_extensions=["flac"])
clips = clips.repartition(8).map_batches(
    Mortal,
    fn_constructor_args=(model, "bytes"),
    batch_size=2,
    compute=ray.data.ActorPoolStrategy(size=2),
)
clips.write_parquet(f"{out}/tokens")
"""


def test_two_workers_of_which_one_is_killed(tmp_path):
    pytest.importorskip("ray")
    from pyarrow.parquet import read_table

    speech = embedded_corpus("LibriSpeech") / "dev-mini" / "11"
    assert main(["tokenize", str(speech), str(tmp_path / "expected"), "--model", MODEL]) == 0
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {
        **os.environ,
        **{"PYTHONPATH": str(ROOT), "RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0"},
        # a full machine is no reason to kill other workers here
        **{"RAY_memory_monitor_refresh_ms": "0", "RAY_local_fs_capacity_threshold": "1.0"},
    }
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", MODEL, speech, tmp_path],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "killed").exists() and len(list(tmp_path.glob("worker-*"))) >= 2
    store = TokenStore(tmp_path / "expected")
    expected = {
        f"{name.split('/')[-1]}.flac": store[k].tolist() for k, name in enumerate(store.ids)
    }
    rows = read_table(tmp_path / "tokens").to_pylist()
    assert {Path(row["path"]).name: row["toks"] for row in rows} == expected
    assert len(rows) == len(expected) and not any(row["reason"] for row in rows)
