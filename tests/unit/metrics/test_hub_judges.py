"""The papers' judges, with small random models laid out as on the hub."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.metrics.judge import JudgedClip, judge_folder
from focalcodec.metrics.mos import UTMOS_WEIGHTS, UtmosJudge, UtmosModel
from focalcodec.metrics.similarity import WavlmSvJudge
from focalcodec.metrics.whisper import WhisperSmallJudge
from focalcodec.packages import ensure_torchaudio

pytest.importorskip("transformers", reason="pip install transformers")
ensure_torchaudio()

RATE = 16000
SPECIAL = (
    "<|endoftext|> <|startoftranscript|> <|en|> <|fr|> <|translate|> <|transcribe|> <|startoflm|>"
    " <|startofprev|> <|nospeech|> <|notimestamps|>"
).split()
SMALL_WAV2VEC2 = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embedding_groups": 4,
}


@pytest.fixture(scope="module")
def whisper_folder(tmp_path_factory) -> Path:
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    letters = sorted(ByteLevel.alphabet())
    tokenizer = WhisperTokenizer(vocab={t: i for i, t in enumerate(letters)}, merges=[])
    tokenizer.add_tokens(SPECIAL, special_tokens=True)
    tokenizer.add_tokens([f"<|{step / 50:.2f}|>" for step in range(1501)])
    ids = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(SPECIAL), strict=True))
    ends = {"eos_token_id": ids["<|endoftext|>"], "pad_token_id": ids["<|endoftext|>"]}
    start = {"decoder_start_token_id": ids["<|startoftranscript|>"], **ends}
    sizes = {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_target_positions": 24}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    layers = {"encoder_layers": 1, "decoder_layers": 1}
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(tokenizer),
            d_model=16,
            bos_token_id=ids["<|endoftext|>"],
            suppress_tokens=None,
            begin_suppress_tokens=None,
            **sizes,
            **heads,
            **layers,
            **start,
        )
    )
    model.generation_config = GenerationConfig(
        max_length=12,
        is_multilingual=True,
        lang_to_id={name: ids[name] for name in ("<|en|>", "<|fr|>")},
        task_to_id={name: ids[f"<|{name}|>"] for name in ("transcribe", "translate")},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        **start,
    )
    folder = tmp_path_factory.mktemp("whisper")
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder


def _noise(seconds: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(round(RATE * seconds), generator=generator)


def test_whisper_small_transcribes_short_and_long_clips(
    whisper_folder: Path,
) -> None:
    judge = WhisperSmallJudge(source=str(whisper_folder))
    assert judge.supports("fr") and not judge.supports("de")
    short = judge.transcribe(_noise(1), RATE, "en")
    assert judge.transcribe(_noise(1), RATE, "en") == short
    assert isinstance(judge.transcribe(_noise(31), RATE, "fr"), str)
    assert "<|" not in short
    model = hashlib.sha256((whisper_folder / "model.safetensors").read_bytes()).hexdigest()
    assert judge.describe()["weights_sha256"] == model
    verdict = judge.score([JudgedClip("a", _noise(1), _noise(1, seed=1), RATE)])[0]
    assert verdict.scores.keys() <= {"dwer_whisper_small", "dcer_whisper_small"}


@pytest.mark.parametrize("pickled", [False, True])
def test_wavlm_sv_embeds_from_either_format(pickled, tmp_path: Path) -> None:
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

    torch.manual_seed(0)
    config = WavLMConfig(
        **SMALL_WAV2VEC2, tdnn_dim=(8, 8, 8, 8, 16), xvector_output_dim=12, num_buckets=8
    )
    model = WavLMForXVector(config).eval()
    model.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path)
    if pickled:
        (tmp_path / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    judge = WavlmSvJudge(source=str(tmp_path))
    voice = judge.embed(_noise(1))
    with torch.no_grad():
        expected = nn.functional.normalize(model(_noise(1)[None]).embeddings[0], dim=0)
    torch.testing.assert_close(voice, expected)
    same, other = judge.score(
        [JudgedClip("a", _noise(1), _noise(1, seed=seed), RATE) for seed in (0, 1)]
    )
    assert same.scores["sim_wavlm_base_sv"].value == pytest.approx(100, abs=1e-3)
    assert other.scores["sim_wavlm_base_sv"].value < 100


def _published(model: UtmosModel) -> dict[str, Tensor]:
    """The model's tensors under the names of the published file: fairseq's wav2vec 2.0."""
    ours = model.wav2vec2
    state = {
        "domain_emb": model.domain_emb,
        "judge_emb": model.judge_emb,
        "wav2vec2.mask_emb": torch.zeros(16),
        **_part("blstm", model.blstm),
        **_part("projection", model.projection),
        **_part("wav2vec2.layer_norm", ours.feature_projection.layer_norm),
        **_part("wav2vec2.post_extract_proj", ours.feature_projection.projection),
        **_part("wav2vec2.encoder.layer_norm", ours.encoder.layer_norm),
    }
    convs = ours.feature_extractor.conv_layers
    for i, layer in enumerate(convs):
        state |= _part(f"wav2vec2.feature_extractor.conv_layers.{i}.0", layer.conv)
    state |= _part("wav2vec2.feature_extractor.conv_layers.0.2", convs[0].layer_norm)
    conv = dict(ours.encoder.pos_conv_embed.conv.named_parameters())
    gain, direction = sorted(name for name in conv if name != "bias")
    state["wav2vec2.encoder.pos_conv.0.bias"] = conv["bias"]
    state["wav2vec2.encoder.pos_conv.0.weight_g"] = conv[gain]
    state["wav2vec2.encoder.pos_conv.0.weight_v"] = conv[direction]
    for i, layer in enumerate(ours.encoder.layers):
        name = f"wav2vec2.encoder.layers.{i}"
        state |= _part(f"{name}.self_attn", layer.attention)
        state |= _part(f"{name}.self_attn_layer_norm", layer.layer_norm)
        state |= _part(f"{name}.fc1", layer.feed_forward.intermediate_dense)
        state |= _part(f"{name}.fc2", layer.feed_forward.output_dense)
        state |= _part(f"{name}.final_layer_norm", layer.final_layer_norm)
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _part(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in module.named_parameters()}


def test_utmos_reads_the_published_names_and_scores(tmp_path: Path, monkeypatch) -> None:
    torch.manual_seed(0)
    model = UtmosModel(**SMALL_WAV2VEC2).eval()
    (tmp_path / UTMOS_WEIGHTS).parent.mkdir()
    torch.save(_published(model), tmp_path / UTMOS_WEIGHTS)
    monkeypatch.setattr("focalcodec.metrics.mos.UtmosModel", lambda: UtmosModel(**SMALL_WAV2VEC2))
    judge = UtmosJudge(source=str(tmp_path))
    clip = JudgedClip("a", _noise(1), _noise(1, seed=1), RATE)
    with torch.no_grad():
        expected = float(model(clip.rec_sig[None]))
    assert judge.score([clip])[0].scores["utmos"].value == pytest.approx(expected, abs=1e-5)


def test_utmos_is_the_mean_over_frames_of_a_scaled_projection() -> None:
    model = UtmosModel(**SMALL_WAV2VEC2).eval()
    with torch.no_grad():
        model.projection[2].weight.zero_()
        model.projection[2].bias.fill_(0.5)
        assert model(_noise(1)[None]).tolist() == [4.0]


def test_other_weights_are_refused(tmp_path: Path, monkeypatch) -> None:
    model = UtmosModel(**SMALL_WAV2VEC2)
    state = _published(model)
    del state["judge_emb"]
    with pytest.raises(UserError, match="not its weights .*judge_emb"):
        model.load_published(state)


def test_weights_are_found_in_order_and_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    names = ("model.safetensors", "pytorch_model.bin")
    assert judge_folder(str(tmp_path), ["*.json"], names)[1].name == "pytorch_model.bin"
    (tmp_path / "model.safetensors").touch()
    assert judge_folder(str(tmp_path), ["*.json"], names)[1].name == "model.safetensors"
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    with pytest.raises(UserError, match="no model.safetensors or pytorch_model.bin in it"):
        judge_folder(str(tmp_path), ["*.json"], names)


def test_a_second_format_is_downloaded_only_without_the_first(tmp_path: Path, monkeypatch) -> None:
    asked: list[list[str]] = []

    def hub(name: str, patterns: list[str]) -> Path:
        asked.append(list(patterns))
        return tmp_path

    monkeypatch.setattr("focalcodec.metrics.judge.hub_folder", hub)
    (tmp_path / "b.bin").touch()
    assert judge_folder("no/model", ["*.json"], ["a.bin", "b.bin"])[1] == tmp_path / "b.bin"
    assert asked == [["*.json", "a.bin"], ["*.json", "b.bin"]]
