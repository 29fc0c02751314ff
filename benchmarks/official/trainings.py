"""SpeechBrain's seven trainings of FocalCodec, with small models, on clips of corpus/.

Each is run for one epoch and a step, killed, resumed, and tested.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import soundfile
import torch

CLIENT = Path(__file__).with_name("client.py")
CORPUS = Path(__file__).parents[2] / "corpus" / "LibriSpeech"
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}

_WAVLM = {
    "hidden_dims": [8] * 7,
    "num_layers": 6,
    "dim": 16,
    "ffn_dim": 32,
    "num_heads": 2,
    "conv_pos_groups": 2,
}
_CONVNEXT = {"num_layers": 2, "dim": 12, "ffn_dim": 20}
_FOCAL = {"compressor_hidden_dims": [16, 12, 8], "decompressor_hidden_dims": [8, 12, 16]}
_CAUSAL = {"compressor_hidden_dims": [16] * 3, "decompressor_hidden_dims": [16] * 3}
_ENCODER = {f"encoder_{key}": value for key, value in _WAVLM.items()}
_DECODER = {f"decoder_{key}": value for key, value in _CONVNEXT.items()}
_GENERATOR = {f"generator_{key}": value for key, value in _CONVNEXT.items()}
_ALL = {
    "sorting": "ascending",
    "train_batch_size": 2,
    "valid_batch_size": 1,
    "test_batch_size": 1,
    "dataloader_workers": 0,
    "num_epochs": 2,
    "skip_prep": True,
    "augment": False,
    **_ENCODER,
}
_AUDIO = {**_ALL, "compute_metrics": False, "save_audios": True}
_NO_CHECKPOINT = {
    f"{part}_checkpoint": None for part in ("compressor", "quantizer", "decompressor")
}
_TEACHER = {"encoder_checkpoint": "CACHE/encoder.pt"}
# name: script, configuration, and options that replace those of the configuration
TRAININGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "quantizer": ("focalcodec/train_quantizer.py", "bsq", _AUDIO | _FOCAL | _DECODER),
    "decoder": ("focalcodec/train_decoder.py", "vocos", _AUDIO | _GENERATOR),
    "stream, posemb": ("focalcodec-stream/train_posemb.py", "conv_posemb", _ALL),
    "stream, encoder": (
        "focalcodec-stream/train_encoder.py",
        "wavlm",
        _ALL | {"student_encoder_posemb_checkpoint": "CACHE/posemb.pt"},
    ),
    "stream, quantizer": (
        "focalcodec-stream/train_quantizer.py",
        "bsq",
        _AUDIO | _CAUSAL | _DECODER | _TEACHER,
    ),
    "stream, joint": (
        "focalcodec-stream/train_joint.py",
        "joint",
        _AUDIO | _CAUSAL | _DECODER | _TEACHER | _NO_CHECKPOINT,
    ),
    "stream, decoder": (
        "focalcodec-stream/train_decoder.py",
        "wavenext",
        _AUDIO | _GENERATOR | {"segment_size_feats": 20},
    ),
}
# set: folder of LibriTTS, clips of the corpus, and samples of each
_SETS = {
    "train": ("train-clean-100", "train-mini", [56000, 41000, 30007, 52345, 47000, 64000]),
    "valid": ("dev-clean", "dev-mini", [30720, 40960]),
    "test": ("test-clean", "test-mini", [32000, 51200]),
}

Losses = list[tuple[str, float]]  # stage and value, in order


def prepare(folder: Path) -> None:
    """Write a small LibriTTS, its lists, and checkpoints of a random encoder."""
    from focalcodec.wavlm import WavLM

    for name, (split, source, sizes) in _SETS.items():
        entries = {}
        clips = sorted((CORPUS / source).rglob("*.flac"))
        for number, (size, clip) in enumerate(zip(sizes, clips, strict=False)):
            sig = soundfile.read(clip, dtype="float32")[0][:size]
            key = f"{number}_1_000"
            path = Path(split, str(number), "1", f"{key}.wav")
            (folder / "LibriTTS" / path).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / "LibriTTS" / path, sig, 16000)
            entries[key] = {
                "uttid": key,
                "wav": f"{{data_root}}/{path.as_posix()}",
                "duration": len(sig) / 16000,
                "spk_id": str(number),
                "label": "x",
                "segment": True,
            }
        (folder / f"{name}.json").write_text(json.dumps(entries), encoding="utf-8")
    torch.manual_seed(0)
    encoder = WavLM(**_WAVLM)
    (folder / "cache").mkdir()
    for name in ("encoder.pt", "wavlm6.pt", "wavlm6_posemb.pt"):
        torch.save(encoder.state_dict(), folder / "cache" / name)
    posemb = encoder.encoder.positional_embedding.state_dict()
    torch.save(posemb, folder / "cache" / "posemb.pt")


def _command(name: str, recipes: Path, folder: Path, output: Path) -> list[str]:
    script, yaml, options = TRAININGS[name]
    options = options | {
        "data_folder": folder / "LibriTTS",
        "cache_folder": folder / "cache",
        "output_folder": output,
        **{f"{set_}_json": folder / f"{set_}.json" for set_ in _SETS},
    }
    program = recipes / script
    words = [str(program), str(program.parent / "hparams" / f"{yaml}.yaml"), "--device", "cpu"]
    for key, value in options.items():
        text = str(value) if isinstance(value, (Path, str)) else json.dumps(value)
        words += [f"--{key}", text.replace("CACHE", str(folder / "cache"))]
    return words


def _read(path: Path) -> Losses:
    rows = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [(stage, float(value)) for stage, value in (row.split("\t") for row in rows)]


def train(
    name: str,
    recipes: Path,
    folder: Path,
    roots: tuple[Path, Path],
    environment: dict[str, str],
) -> Losses:
    """Losses of a training whose second epoch is killed, and resumed with another package.

    `roots` are the folders of the packages before and after. A `RuntimeError` with the last line
    of a run that fails.
    """
    output = folder / "runs" / f"{len(list(folder.glob('runs/*')))}"
    output.mkdir(parents=True)
    words = _command(name, recipes, folder, output / "run")
    losses: Losses = []
    for number, root in enumerate(roots):
        path, log = output / f"{number}.losses", output / f"{number}.log"
        killed = False
        command = [sys.executable, "-W", "ignore", str(CLIENT), str(root), str(path), *words]
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
            while process.poll() is None:
                time.sleep(0.05)
                if number == 0 and any(stage == "train 2" for stage, _ in _read(path)):
                    process.kill()
                    process.wait()
                    killed = True
        if process.returncode and not killed:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise RuntimeError(f"{log}: {(lines or ['no output'])[-1]}")
        losses += [(stage, x) for stage, x in _read(path) if number or stage.endswith(" 1")]
    return losses


def difference(expected: Losses, actual: Losses) -> float:
    """Largest relative difference of two lists of losses; infinity if their stages differ."""
    if [stage for stage, _ in expected] != [stage for stage, _ in actual]:
        return float("inf")
    pairs = zip(expected, actual, strict=True)
    return max(abs(a - b) / max(1e-12, abs(a)) for (_, a), (_, b) in pairs)
