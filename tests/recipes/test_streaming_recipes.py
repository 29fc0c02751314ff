"""The causal chain, recipes/LibriSpeech/hparams/streaming/: each step, and the codec at its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import soundfile
import torch
from speechbrain import Stage
from torch import Tensor

from focalcodec import FocalCodec
from focalcodec.cli.main import main
from focalcodec.data.dataset import AudioDataset, pad_collate
from focalcodec.errors import UserError
from focalcodec.streaming import DecoderSession, EncoderSession
from focalcodec.training.run.config import load_config, read_tree
from focalcodec.training.run.trained import load_student, load_trained
from tests.unit.training import tiny

HPARAMS = tiny.RECIPE / "hparams" / "streaming"
FULL_SIZE = sorted(path.stem for path in HPARAMS.glob("*.yaml") if "_mini" not in path.stem)
# Key of a YAML that names the run which it starts from -> the start of that run's name
SOURCES = {
    "causal_encoder": ("init_from", "causal_position"),
    "causal_50hz": ("distilled", "causal_encoder"),
    "joint_50hz": ("quantizer_source", "causal_50hz"),
}


def source_of(name: str) -> tuple[str, str] | None:
    """Key of a YAML for the run that it starts from, and the name of that run's YAML."""
    for start, (key, source) in SOURCES.items():
        if name.startswith(start):
            end = name.removeprefix(start)
            return key, source + (end if source == "causal_50hz" else "_mini" * ("_mini" in end))
    return None


def smaller(name: str) -> dict[str, object]:
    """Knobs that make a YAML of the chain small enough for a test, on a random WavLM."""
    narrow = {"hidden_dims": [8, 8, 8], "reversed_hidden_dims": [8, 8, 8], "window_size": 8}
    if name.startswith("wavenext"):
        narrow = {"modules": {"decoder": {"num_layers": 1, "dim": 8, "ffn_dim": 8}}}
        narrow |= {"discriminator_divisor": 32, "crop_frames": 20, "adversarial_start_step": 1}
    elif name.startswith("scratch"):
        narrow |= {"modules": {"student": {"num_layers": 1, "dim": 8, "ffn_dim": 8}}}
    elif not name.startswith("causal_50hz"):
        narrow |= {"modules": {"student": tiny.WAVLM}}
    if name.startswith(("causal_position", "causal_encoder")):
        del narrow["hidden_dims"], narrow["reversed_hidden_dims"]
        narrow |= {"layer_weights": [1.0] * (1 if "position" in name else 2)}
    teacher = {} if name.startswith("causal_50hz") else tiny.TEACHER
    return {"feature_dim": 8, **teacher, **narrow}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of several lengths; the teacher has one frame less than the student in most of them."""
    return tiny.write_corpus(tmp_path_factory.mktemp("data") / "corpus")


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Train a YAML, and first the YAMLs that it starts from, once; return the run's folder."""
    folder = tmp_path_factory.mktemp("chain")

    @cache
    def make(name: str) -> Path:
        train(name, folder / name, data, make)
        return folder / name

    return make


def train(
    name: str, output: Path, data: Path, make: Callable[[str], Path], **changes: object
) -> Path:
    """Train a YAML for some steps, in this process, from its source."""
    knobs = {"number_of_epochs": 1, "batch_size": 2, "num_workers": 0, "sample_clips": 0}
    knobs |= {"tr_splits": ["train"], "dev_splits": ["dev"], "te_splits": ["test"]}
    knobs |= {"extra_sets": {}, "min_seconds": 0.5, "passes_per_epoch": 1, **smaller(name)}
    if name.startswith("causal_encoder"):  # so few steps may not improve the weights before
        knobs["best_checkpoint"] = {"min_key": None}
    source = source_of(name)
    if source is not None:
        knobs[source[0]] = make(source[1])
    knobs |= changes
    argv = [f"hparams/streaming/{name}.yaml", f"--output_folder={output}", f"--data_folder={data}"]
    tiny.train([*argv, *(f"--{key}={tiny.flow(value)}" for key, value in knobs.items())])
    return output


# -- each YAML -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FULL_SIZE)
def test_each_has_a_mini_that_needs_no_download(name: str) -> None:
    mini = HPARAMS / f"{name}_mini.yaml"
    assert "wavlm_from_transformers" not in str(read_tree(mini)["encoder"].tag)


# Those of the other codebooks change one number, so only their minis are trained.
TRAINED = [name for name in FULL_SIZE if not name.endswith(("2k", "65k"))]


@pytest.mark.parametrize("name", [*TRAINED, *(f"{name}_mini" for name in FULL_SIZE)])
def test_trains_from_the_step_before(made: Callable[[str], Path], name: str) -> None:
    folder = made(name)
    log = (folder / "train_log.txt").read_text().splitlines()
    assert len(log) == 1 and "nan" not in log[0]
    results = json.loads((folder / "results.json").read_text())
    assert ("test before" in results) == name.startswith("causal_encoder")


PARAMETERS = {"2k": 249_036_441, "4k": 249_038_490, "65k": 249_046_686}


def parameters(name: str) -> int:
    """Parameters of the modules of a YAML, but those of the discriminator, in the full size."""
    path, nothing = HPARAMS / f"{name}.yaml", "prepare: null\nbrain: null\nencoder: null"
    nothing += "\nmel_loss: null" if "mel_loss" in read_tree(path) else ""
    with torch.device("meta"), tiny.recipe_modules():
        modules = load_config(path, nothing)["modules"]
    parts = (module for part, module in modules.items() if part != "discriminator")
    return sum(tensor.numel() for part in parts for tensor in part.state_dict().values())


def test_sizes_are_the_published_ones() -> None:
    decoder, encoder = parameters("wavenext_24khz"), parameters("causal_encoder")
    assert parameters("causal_position") == encoder
    for size, expected in PARAMETERS.items():
        joint = parameters(f"joint_50hz_{size}")
        assert joint + decoder == expected
        refiner = 2 * (4096 * 4096 + 4096)
        assert parameters(f"causal_50hz_{size}") + encoder + refiner == joint


# -- what each step trains -------------------------------------------------------------------------


def weights(run: Path) -> dict[str, Tensor]:
    return load_trained(run, parts=["student"]).part("student").state_dict()


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Parts of the encoder with other weights."""
    names = {name for name in after if not torch.equal(before[name], after[name])}
    return {
        name.split(".")[1] if name.startswith("encoder.") else name.split(".")[0] for name in names
    }


def test_each_step_trains_its_own_weights(made: Callable[[str], Path]) -> None:
    with tiny.recipe_modules():
        import causal_brains

        teacher = causal_brains.random_wavlm(**tiny.WAVLM, dim=8).state_dict()
    position, encoder = weights(made("causal_position_mini")), weights(made("causal_encoder_mini"))
    joint = weights(made("joint_50hz_4k_mini"))
    assert changed(teacher, position) == {"positional_embedding"}
    assert changed(position, encoder) == {"feature_extractor", "norm", "feature_proj", "layers"}
    assert changed(encoder, joint) == {"feature_extractor", "norm", "feature_proj", "layers"}
    before = load_trained(made("causal_50hz_4k_mini")).part("decompressor").state_dict()
    after = load_trained(made("joint_50hz_4k_mini")).part("decompressor").state_dict()
    new = {name for name in after if name not in before}
    assert new and all(name.startswith("refiner.") for name in new)


def test_a_resumed_run_ends_at_the_same_weights(
    made: Callable[[str], Path], data: Path, tmp_path: Path
) -> None:
    train("joint_50hz_4k", tmp_path / "whole", data, made, number_of_epochs=2)
    for epochs in (1, 2):
        train("joint_50hz_4k", tmp_path / "parts", data, made, number_of_epochs=epochs)
    whole, parts = (load_trained(tmp_path / folder).parts for folder in ("whole", "parts"))
    assert "student" in whole
    for role in whole:
        assert tiny.same(whole[role].state_dict(), parts[role].state_dict()), role


# -- the losses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["position", "student", "joint"])
def test_padding_and_frames_without_a_target_do_not_count(
    data: Path, tmp_path: Path, stage: str
) -> None:
    without = {"entropy_weight": 0.0} if stage == "joint" else {}  # it is not a mean over frames
    brain, *_ = tiny.make_brain(stage, tmp_path, data, **without)
    rows = tiny.clips(data, "train")
    total, count = 0.0, 0
    with torch.no_grad():
        for row in rows:
            batch = tiny.batch_of([row])
            out = brain.compute_forward(batch, Stage.VALID)
            loss = brain.compute_objectives(out, batch, Stage.VALID)
            frames = int(brain.encoder.output_lengths(batch.lengths))
            assert out.frames.tolist() == [frames]
            assert frames < int(brain.modules.student.output_lengths(batch.lengths))
            total, count = total + float(loss) * frames, count + frames
        batch = tiny.batch_of(rows)
        batch.sig[0, int(batch.lengths[0]) :] = 100.0  # not silence: padding has no influence
        loss = brain.compute_objectives(
            brain.compute_forward(batch, Stage.VALID), batch, Stage.VALID
        )
    assert float(loss) == pytest.approx(total / count, rel=1e-4)


def test_the_loss_is_the_weighted_error_of_each_layer(data: Path, tmp_path: Path) -> None:
    brain, *_ = tiny.make_brain("student", tmp_path, data)
    batch = tiny.batch_of(tiny.clips(data, "train")[:1])
    brain.modules.student.encoder.layers[0].feed_forward.out_proj.weight.data.zero_()
    with torch.no_grad():
        out = brain.compute_forward(batch, Stage.VALID)
        loss = brain.compute_objectives(out, batch, Stage.VALID)
        feats, _ = brain.modules.student(batch.sig, lengths=batch.lengths)
    assert torch.equal(out.outputs[-1], feats[:, : out.outputs[-1].shape[1]])
    first, last = ((a - b).square().mean() for a, b in zip(out.outputs, out.targets, strict=True))
    assert float(loss) == pytest.approx(float(0.9 * first + 1.0 * last) / 2, rel=1e-5)
    assert brain.meters.averages()["feature_loss"] == pytest.approx(float(last), rel=1e-5)


def test_position_biases_are_those_of_the_present_table(data: Path, tmp_path: Path) -> None:
    brain, *_ = tiny.make_brain("student", tmp_path, data)
    student, batch = brain.modules.student, tiny.batch_of(tiny.clips(data, "train")[:1])
    with torch.no_grad():
        before, _ = student(batch.sig, lengths=batch.lengths)
        student.encoder.relative_embedding.weight.add_(torch.randn(8, 2))
        after, _ = student(batch.sig, lengths=batch.lengths)
        again = type(student)(**student.config)
        again.load_state_dict(student.state_dict())
        expected, _ = again.eval()(batch.sig, lengths=batch.lengths)
    assert not torch.equal(before, after) and torch.equal(after, expected)


def test_digital_silence_has_no_huge_gradient(data: Path, tmp_path: Path) -> None:
    """The norms of the minis' teacher have biases, so frames of silence have a variance."""
    brain, *_ = tiny.make_brain("student", tmp_path, data)
    batch = tiny.batch_of(tiny.clips(data, "train"))
    batch.sig[:, 4000:12000] = 0.0
    brain.compute_objectives(
        brain.compute_forward(batch, Stage.TRAIN), batch, Stage.TRAIN
    ).backward()
    parameters = [p for p in brain.modules.student.parameters() if p.grad is not None]
    assert torch.nn.utils.get_total_norm([p.grad for p in parameters]) < 1000.0


# -- 24 kHz ----------------------------------------------------------------------------------------


def test_the_encoder_gets_what_it_would_get_from_the_file(data: Path, tmp_path: Path) -> None:
    """Clips of 24 kHz, read at that rate: feats as of the same files read at 16 kHz."""
    rows = tiny.clips(data, "train")
    for index, row in enumerate(rows):
        sig = torch.randn(round(row["duration"] * 24000)).mul(0.1).clamp(-1, 1).numpy()
        row["wav"] = str(tmp_path / f"{index}.wav")
        soundfile.write(row["wav"], sig, 24000, subtype="FLOAT")
    brain, *_ = tiny.make_brain("wavenext", tmp_path / "run", data)
    batch = pad_collate(list(AudioDataset(rows, brain.sample_rate)))
    feats, frames = brain.encode(batch)
    expected = tiny.batch_of(rows)
    direct, lengths = brain.encoder(expected.sig, lengths=expected.lengths)
    assert brain.sample_rate == 24000 and torch.equal(frames, lengths)
    torch.testing.assert_close(feats, direct, atol=1e-5, rtol=0.0)
    out = brain.compute_forward(batch, Stage.TRAIN)
    assert out.rec_sig.shape == out.sig.shape == (4, 20 * 480)


# -- the codec -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["causal_50hz_4k_mini", "joint_50hz_65k_mini", "scratch_50hz_4k_mini"]
)
def test_ends_in_a_codec_that_streams(
    made: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "codec"
    assert main(["export", str(made(name)), str(made("wavenext_24khz_mini")), str(folder)]) == 0
    codec = FocalCodec.from_pretrained(folder)
    assert codec.causal and codec.latency == 80.0
    assert (codec.sample_rate_input, codec.sample_rate_output) == (16000, 24000)
    student = load_student(made("causal_encoder_mini" if name.startswith("causal") else name))
    assert tiny.same(codec.encoder.state_dict(), student.state_dict())
    sig = 0.1 * torch.randn(1, 30_000)
    sender, receiver = EncoderSession(codec), DecoderSession(codec)
    toks = torch.cat([*(sender.push(piece) for piece in sig.split(7000, 1)), sender.flush()], dim=1)
    assert torch.equal(toks, codec.encode(sig, 16000)[0])
    rec_sig = receiver.flush(45_000, toks=toks)
    torch.testing.assert_close(rec_sig, codec.decode(toks)[:, :45_000], atol=1e-5, rtol=0.0)
    speech = next((tiny.RECIPES.parent / "corpus" / "LibriSpeech" / "test-real").rglob("*.flac"))
    out = tmp_path / "out.wav"
    assert main(["stream", str(speech), str(out), "--model", str(folder), "--quiet"]) == 0
    assert soundfile.info(out).samplerate == 24000


def test_a_joint_run_has_two_encoders(made: Callable[[str], Path]) -> None:
    """The codec's encoder is the student; a training of a student needs its teacher."""
    with tiny.recipe_modules():
        joint = load_trained(made("joint_50hz_4k_mini"), trust=["causal_brains"])
        assert joint.encoder_for(["student", "compressor"]) is joint.encoder
        assert not joint.encoder.causal
    assert joint.encoder_for(["compressor"]) is joint.encoder_for() is joint.part("student")


OTHER_TEACHER = {"encoder": tiny.TEACHER["encoder"].replace("{", "{seed: 1, ", 1)}


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "changes", "told"),
    [
        ("student", {"feature_dim": 16}, "student: dim is 16, the encoder's is 8; make them equal"),
        ("student", {"modules": {"student": {**tiny.WAVLM, "ffn_dim": 9}}}, "ffn_dim is 9"),
        ("student", {"encoder": "!name:focalcodec.encoders.logmel.LogMel {n_mels: 8}"}, "a WavLM"),
        (
            "wavenext",
            {"modules": {"decoder": {"num_layers": 1, "dim": 8, "ffn_dim": 8, "hop_length": 320}}},
            "decoder: 320 samples a frame at 24000 Hz, the encoder 320 at 16000 Hz; make",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    data: Path, tmp_path: Path, stage: str, changes: dict, told: str
) -> None:
    with pytest.raises(UserError, match=told):
        tiny.make_brain(stage, tmp_path, data, **changes)


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        (
            "causal_encoder",
            {"layer_weights": [1.0]},
            r"layer_weights=\[1.0\]: give one for each of 2",
        ),
        (
            "causal_encoder",
            {"feature_cache": "cache"},
            "feature_cache: it keeps the last layer only",
        ),
        (
            "joint_50hz_4k",
            {"hidden_dims": [9, 8, 8]},
            "compressor: hidden_dims is .*make them equal",
        ),
        ("joint_50hz_4k", {"code_dim": 11}, "compressor: output_dim is 12, here 11"),
        ("joint_50hz_4k", OTHER_TEACHER, "quantizer_source=.*: trained on another encoder"),
    ],
)
def test_runs_that_do_not_fit_are_refused(
    made: Callable[[str], Path], data: Path, tmp_path: Path, name: str, changes: dict, told: str
) -> None:
    changes = {k: tmp_path / "cache" if v == "cache" else v for k, v in changes.items()}
    with pytest.raises(UserError, match=told):
        train(name, tmp_path / "run", data, made, **changes)
