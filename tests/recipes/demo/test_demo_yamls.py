"""The demo codec's YAMLs in the order of its training, with a tiny teacher."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from focalcodec import FocalCodec
from focalcodec.cli.main import main
from focalcodec.encoders.logmel import MelEncoder
from focalcodec.training.run.config import load_config, read_tree
from focalcodec.training.run.trained import load_trained
from tests.recipes.demo import small
from tests.scripts import run_script
from tests.unit.training import tiny

HPARAMS = small.RECIPE / "hparams"
YAMLS = sorted(  # those of hparams/improvements: test_improvements.py
    path
    for path in HPARAMS.rglob("*.yaml")
    if path.parent.name != "improvements" and "brain" in read_tree(path)
)
COMMON = [
    "--number_of_epochs=1",
    "--batch_size=4",
    "--num_workers=0",
    "--sample_clips=0",
    "--feature_dim=16",
    "--tr_splits=[dev-mini]",
    "--dev_splits=[test-real]",
    "--te_splits=[test-real]",
    "--max_seconds=5",
]
TEACHER = ["--encoder=!name:focalcodec.encoders.logmel.LogMel {n_mels: 16}"]
STUDENT = "--modules={student: {num_layers: 1, dim: 8, ffn_dim: 8}}"
STAGE_2 = [
    "--modules={decoder: {num_layers: 1, dim: 8, ffn_dim: 8}}",
    "--adversarial_start_step=1",
]


def yaml_of(name: str) -> Path:
    """A YAML of the codec or of an experiment."""
    (found,) = HPARAMS.rglob(f"{name}.yaml")
    return found


def stage_1(levels: int = 3) -> list[str]:
    widths = [8] * levels
    return [f"--hidden_dims={widths}", f"--reversed_hidden_dims={widths}"]


TUNED = {"quantized": "demo_50hz_small", "init_from": "demo_vocos"}

# YAML -> options that make it small, and knobs that name the runs it starts from
CHAIN: dict[str, tuple[list[str], dict[str, str]]] = {
    "distill_encoder": ([*TEACHER, STUDENT], {}),
    "demo_50hz": (TEACHER + stage_1(), {}),
    "demo_25hz": (TEACHER + stage_1(), {}),
    "demo_50hz_wide": (TEACHER + stage_1(2), {}),
    "demo_50hz_deep": (TEACHER + stage_1(5), {}),
    "demo_50hz_mel": (TEACHER + stage_1(), {"decoder_source": "demo_vocos"}),
    "demo_50hz_small": (
        stage_1(2),
        {"distilled": "distill_encoder", "init_from": "demo_50hz_wide"},
    ),
    "demo_50hz_joint": (
        [*TEACHER, *stage_1(2), STUDENT],
        {"quantizer_source": "demo_50hz_small"},
    ),
    "demo_50hz_words": (
        [*TEACHER, *stage_1(2), STUDENT],
        {"quantizer_source": "demo_50hz_joint"},
    ),
    "demo_25hz_joint": (
        [*TEACHER, *stage_1(2), STUDENT],
        {"distilled": "demo_50hz_words"},
    ),
    "demo_25hz_words": (
        [*TEACHER, *stage_1(2), STUDENT],
        {"quantizer_source": "demo_25hz_joint"},
    ),
    "demo_vocos": (TEACHER + STAGE_2, {}),
    "demo_vocos_gan": (TEACHER + STAGE_2, {"init_from": "demo_vocos"}),
    "demo_vocos_codec": (
        TEACHER + STAGE_2,
        {"init_from": "demo_vocos_gan", "quantized": "demo_50hz_joint"},
    ),
    "demo_vocos_tuned": (STAGE_2, TUNED),
    "demo_vocos_periods": ([*STAGE_2, "--discriminator_divisor=32"], TUNED),
    "demo_vocos_speaker": (STAGE_2, {**TUNED, "speaker_source": "speaker_encoder"}),
    "stream_50hz_joint": (
        [*TEACHER, *stage_1(2), STUDENT, "--window_size=9"],
        {"quantizer_source": "demo_50hz_small"},  # not causal; as demo, its default
    ),
    "stream_50hz_words": (
        [*TEACHER, *stage_1(2), STUDENT, "--window_size=9"],
        {"quantizer_source": "stream_50hz_joint"},
    ),
    "stream_vocos": (TEACHER + STAGE_2, {}),
    "stream_vocos_codec": (
        TEACHER + STAGE_2,
        {"init_from": "stream_vocos", "quantized": "stream_50hz_joint"},
    ),
    "speaker_encoder": (
        ["--embedding_dim=8", "--modules={speaker: {num_layers: 1, dim: 8, ffn_dim: 8}}"],
        {},
    ),
}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Train a YAML, and first the YAMLs that it starts from, once; return the run's folder."""
    folder = tmp_path_factory.mktemp("demo")

    @cache
    def make(name: str) -> Path:
        options, sources = CHAIN[name]
        named = [f"--{knob}={make(source)}" for knob, source in sources.items()]
        common = [x for x in COMMON if name != "speaker_encoder" or "feature_dim" not in x]
        output = f"--output_folder={folder / name}"
        if name.endswith("_words"):
            reader = small.module("words").WordReader(input_dim=16)
            save_file(reader.state_dict(), folder / "words.safetensors")
            named.append(f"--word_reader_file={folder / 'words.safetensors'}")
        yaml = str(yaml_of(name).relative_to(small.RECIPE))
        done = run_script(small.RECIPE, "train.py", yaml, output, *common, *options, *named)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "embedded mini corpus is used" in done.stdout
        return folder / name

    return make


@pytest.mark.parametrize("yaml", YAMLS, ids=lambda path: path.stem)
def test_trains_as_a_user_runs_it(yaml: Path, made: Callable[[str], Path]) -> None:
    folder = made(yaml.stem)
    log = (folder / "train_log.txt").read_text().splitlines()
    assert len(log) == 1 and "nan" not in log[0]
    results = json.loads((folder / "results.json").read_text())
    assert "test" in results and ("test before" in results) == (
        read_tree(yaml).get("init_from") is not None
    )


@pytest.mark.parametrize("decoder", ["demo_vocos_gan", "demo_vocos_tuned"])
def test_ends_in_a_codec(made: Callable[[str], Path], tmp_path: Path, decoder: str) -> None:
    """With a decoder of the teacher's feats, and with one of quantised feats."""
    folder, runs = tmp_path / "codec", (made("demo_50hz_small"), made(decoder))
    assert main(["export", *map(str, runs), str(folder), "--dtype", "float16"]) == 0
    codec = FocalCodec.from_pretrained(folder)
    assert isinstance(codec.encoder, MelEncoder)
    assert (codec.token_rate, round(codec.bitrate)) == (50.0, 650)


@pytest.mark.parametrize(
    "names", [("demo_50hz_joint", "demo_vocos_gan"), ("demo_50hz_words", "demo_vocos_codec")]
)
def test_a_joint_training_ends_in_a_codec(
    made: Callable[[str], Path], tmp_path: Path, names: tuple[str, str]
) -> None:
    """Its own encoder is in the codec, with other weights than the one that it began with.

    The second decoder was trained on the feats of an earlier state of that encoder.
    """
    runs = [made(name) for name in names]
    assert main(["export", *map(str, runs), str(tmp_path / "codec")]) == 0
    codec = FocalCodec.from_pretrained(tmp_path / "codec")
    (before, after) = (
        next(encoder.parameters())
        for encoder in (load_trained(made("distill_encoder")).part("student"), codec.encoder)
    )
    assert before.shape == after.shape and not torch.equal(before, after)
    assert isinstance(codec.encoder, MelEncoder)


@pytest.mark.parametrize("stage_1", ["stream_50hz_joint", "stream_50hz_words"])
def test_ends_in_a_streaming_codec(
    made: Callable[[str], Path], tmp_path: Path, stage_1: str
) -> None:
    folder, runs = tmp_path / "codec", (made(stage_1), made("stream_vocos_codec"))
    assert main(["export", *map(str, runs), str(folder), "--dtype", "float16"]) == 0
    codec = FocalCodec.from_pretrained(folder)
    assert codec.causal and codec.latency == 80.0
    assert (codec.token_rate, round(codec.bitrate), codec.sample_rate) == (50.0, 650, 16000)


def parameters(name: str) -> dict[str, int]:
    """Parameters of each module of a YAML, in the full size."""
    yaml = yaml_of(name)
    nothing = "prepare: null\nbrain: null\nencoder: null"
    nothing += "\nmel_loss: null" if "mel_loss" in read_tree(yaml) else ""
    with torch.device("meta"), tiny.recipe_modules(small.RECIPE):
        modules = load_config(yaml, nothing)["modules"]
    return {
        part: sum(tensor.numel() for tensor in module.parameters())
        for part, module in modules.items()
    }


def test_the_codec_is_small() -> None:
    """At most 6 M parameters: 12 MB in float16."""
    encoder = parameters("distill_encoder")["student"]
    coder, decoder = parameters("demo_50hz_small"), parameters("demo_vocos")["decoder"]
    assert encoder <= 4_000_000
    assert encoder + sum(coder.values()) + decoder <= 6_000_000
    streaming = parameters("stream_50hz_joint")
    assert sum(streaming.values()) + parameters("stream_vocos")["decoder"] <= 6_000_000
    # what is built on these is of their sizes
    assert parameters("demo_50hz_joint") == {"student": encoder, **coder}
    assert parameters("demo_50hz_words") == {"student": encoder, **coder}
    assert parameters("stream_50hz_words") == streaming
    assert parameters("stream_vocos_codec")["decoder"] == parameters("stream_vocos")["decoder"]
    assert parameters("demo_50hz_wide") == coder
    assert parameters("demo_50hz_mel") == parameters("demo_50hz")
    for name in ("gan", "codec", "tuned", "periods", "speaker"):
        assert parameters(f"demo_vocos_{name}")["decoder"] == decoder
