"""The loss on words, and its reader, with a tiny decoder in place of Whisper's."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import speechbrain as sb
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from focalcodec.data.corpus import embedded_corpus
from focalcodec.encoders import whisper_packages
from focalcodec.encoders.speech_encoder import SpeechEncoder
from focalcodec.encoders.whisper_decoder import WhisperDecoder
from focalcodec.errors import UserError
from tests.recipes.demo import small
from tests.unit.small_encoders import WHISPER
from tests.unit.training import tiny

FRAMES = torch.tensor([30, 20, 25])
TEXTS = ["ONE TWO", "", "two two one"]


def tiny_decoder(path: Path) -> WhisperDecoder:
    """Random weights; a word is one token."""
    tokenizers = pytest.importorskip("tokenizers")
    names = ["startoftranscript", "en", "transcribe", "notimestamps", "endoftext"]
    words = [f"<|{name}|>" for name in names] + ["one", "two", "One"]
    model = tokenizers.models.WordLevel({word: n for n, word in enumerate(words)}, "one")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(path))
    torch.manual_seed(0)
    sizes = {"dim": 16, "num_layers": 2, "num_heads": 2, "ffn_dim": 16}
    decoder = WhisperDecoder(path, **sizes, vocab_size=len(words), max_tokens=20)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter)
    return decoder


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The module, and weights of a reader in reader.safetensors."""
    make = partial(tiny_decoder, tmp_path / "tokenizer.json")
    monkeypatch.setattr(whisper_packages, "whisper_base_decoder", make)
    module = small.module("words")  # it imports what was replaced
    torch.manual_seed(1)
    save_file(module.WordReader(8, 16).state_dict(), tmp_path / "reader.safetensors")
    return module


def feats_of(batch: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return tuple(torch.randn(batch, 30, 8, generator=generator) for _ in range(2))


def test_equal_feats_have_no_loss_and_others_have(words, tmp_path) -> None:
    measure = words.WordLoss(tmp_path / "reader.safetensors")
    feats, qfeats = feats_of()
    loss, tokens = measure(feats, feats, FRAMES, TEXTS)
    torch.testing.assert_close(loss, torch.zeros(3))
    loss, tokens = measure(qfeats.requires_grad_(), feats, FRAMES, TEXTS)
    assert tokens.round().tolist() == [3, 0, 4], "the words and the end"
    assert loss[0] > 0.01 and loss[1] == 0 and loss[2] > 0.01
    loss.sum().backward()
    assert qfeats.grad is not None and qfeats.grad[0].norm() > 0
    assert qfeats.grad[1].norm() == 0 and qfeats.grad[2, 25:].norm() == 0
    assert measure.reader.head.weight.grad is None


def test_a_clip_has_the_same_loss_alone_and_in_a_batch(words, tmp_path) -> None:
    measure = words.WordLoss(tmp_path / "reader.safetensors")
    feats, qfeats = feats_of()
    together, _ = measure(qfeats, feats, FRAMES, TEXTS)
    alone, _ = measure(qfeats[2:, :25], feats[2:, :25], FRAMES[2:], TEXTS[2:])
    torch.testing.assert_close(together[2:], alone, rtol=1e-4, atol=1e-5)
    first, tokens = words.WordLoss(tmp_path / "reader.safetensors", clips=1)(
        qfeats, feats, FRAMES, TEXTS
    )
    assert tokens.round().tolist() == [3, 0, 0] and first[0] == pytest.approx(float(together[0]))


def test_the_brain_adds_it(words, tmp_path) -> None:
    tiny.write_corpus(tmp_path / "corpus", **tiny.SECONDS)
    knobs = {"word_reader_file": str(tmp_path / "reader.safetensors")}
    brain, *_ = small.make_brain("words", tmp_path / "run", tmp_path / "corpus", **knobs)
    batch = tiny.batch_of(tiny.clips(tmp_path / "corpus", "train"))
    out = brain.compute_forward(batch, sb.Stage.TRAIN)
    losses, means = {}, {}
    for texts in (["one"] * len(batch), [""] * len(batch)):
        batch.wrd[:] = texts
        losses[texts[0]] = brain.compute_objectives(out, batch, sb.Stage.TRAIN).item()
        means[texts[0]] = float(brain.batch_means["word_loss"][0])
    assert means[""] == 0 and means["one"] > 0.001
    assert losses["one"] - losses[""] == pytest.approx(0.1 * means["one"], rel=1e-3)


def test_other_weights_are_refused(words, tmp_path) -> None:
    with pytest.raises(UserError, match=r"none: no weights of a WordReader; run fit_words\.py"):
        words.WordLoss(tmp_path / "none")
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(UserError, match="other: no weights of a WordReader"):
        words.WordLoss(tmp_path / "other")


def test_the_reader_learns(words, monkeypatch, tmp_path, capsys) -> None:
    fit_words = small.module("fit_words")
    torch.manual_seed(0)
    encoder = SpeechEncoder({"model_type": "whisper", **WHISPER}, [0, 3], 8)
    speech = embedded_corpus("LibriSpeech") / "test-real"
    encoder.fit_mix([torch.randn(16000)])
    monkeypatch.setattr(fit_words, "whisper_base_mix", lambda: encoder)
    errors = []
    for steps in ("2", "60"):
        fit_words.main([str(speech), "--to", str(tmp_path / "reader"), "--steps", steps])
        errors.append(float(capsys.readouterr().out.split("squared error ")[1].split()[0]))
    assert errors[1] < 0.8 * errors[0]
    assert load_file(tmp_path / "reader")["backbone.embedding.weight"].shape[1] == 8
    with pytest.raises(UserError, match="0 clips of 200 frames or more"):
        fit_words.fit([], 1)
