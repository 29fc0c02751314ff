"""Text to speech by an aligned model: phonemes, the most probable path, batches, folders."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from focalcodec import packages
from focalcodec.cli.main import main
from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.lm import (
    AlignedModel,
    AlignedTextToSpeech,
    Phonemes,
    Sampling,
    bits_of_toks,
    load_text_to_speech,
    most_probable_path,
    spread,
    write_phonemes,
)
from focalcodec.lm.readers import sentences
from focalcodec.nn.masking import valid_mask
from tests.unit.test_codec_base import FiniteScalars, codec_with

TEXTS = ["A cat, and 2 dogs!", "the king of the hill said good morning"]


@pytest.fixture(scope="module")
def codec() -> FocalCodec:
    return FocalCodec.from_pretrained("demo")


@pytest.fixture(scope="module")
def tts(codec: FocalCodec) -> AlignedTextToSpeech:
    phonemes = Phonemes.of(write_phonemes(TEXTS))
    torch.manual_seed(0)
    model = AlignedModel(phonemes.size, hidden_size=16, text_layers=2, frame_layers=2, voice_size=4)
    return AlignedTextToSpeech(
        model, phonemes, codec, {"anna": torch.arange(40), "ben": torch.arange(90, 120)}
    )


def test_phonemes_are_as_the_text_is_spoken() -> None:
    first, second = write_phonemes([" a  cat,\nand 2 dogs", "a cat, and two dogs"])
    assert first == second and first[:6] == ["\u0250", " ", "k", "\u02c8\u00e6", "t", ","]
    assert write_phonemes(["a schedule"], "en-gb") != write_phonemes(["a schedule"])


def test_a_phoneme_that_is_not_known_loses_its_marks_and_punctuation_is_left_out() -> None:
    phonemes = Phonemes(["a", "\u02c8a", "b"])
    assert phonemes.ids(["\u02c8a", "\u02cca", "a\u02d0", ",", "b"], "").tolist() == [2, 1, 1, 3]
    with pytest.raises(UserError, match=r"text 'ax': the model has no phoneme 'x'"):
        phonemes.ids(["a", "x"], "ax")


@pytest.mark.parametrize(
    ("text", "language", "message"),
    [
        (" ", "en-us", "text: empty"),
        ("?!", "en-us", r"text '\?!': it has no words to read"),
        ("hi", "xx-yy", "language=xx-yy: espeak-ng does not have it"),
    ],
)
def test_texts_that_can_not_be_read(text: str, language: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_phonemes([text], language)


def test_without_espeak_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> None:
        raise ModuleNotFoundError(name=module)

    monkeypatch.setattr(packages, "import_module", missing)
    with pytest.raises(UserError, match=r"not installed; run pip install 'focalcodec\[say\]'"):
        write_phonemes(["hi"])


def best_by_trial(scores: torch.Tensor, size: int, frames: int) -> list[int]:
    """Durations of the best of all paths through scores (S, N)."""
    found = []
    for cuts in itertools.combinations(range(1, frames), size - 1):
        ends = [0, *cuts, frames]
        durations = [b - a for a, b in itertools.pairwise(ends)]
        parts = (scores[k, ends[k] : ends[k + 1]].sum() for k in range(size))
        found.append((float(sum(parts)), durations))
    return max(found)[1]


def test_the_path_is_the_best_of_all() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(6, 4, 9, generator=generator)
    lengths, frames = torch.tensor([4, 1, 3, 4, 2, 4]), torch.tensor([9, 5, 7, 4, 9, 8])
    found = most_probable_path(scores, lengths, frames)
    for row, size, count, line in zip(
        found.tolist(), lengths.tolist(), frames.tolist(), scores, strict=True
    ):
        assert row == best_by_trial(line, size, count) + [0] * (4 - size)
        assert sum(row) == count


def test_frames_know_their_place_in_a_phoneme() -> None:
    place, passed, left = spread(torch.tensor([[3, 0, 1], [1, 1, 0]]), 4)
    assert place.tolist()[0] == [0, 0, 0, 2] and place.tolist()[1][:2] == [0, 1]
    assert passed.tolist()[0] == [0, 1, 2, 0] and left.tolist()[0] == [2, 1, 0, 0]


def test_the_scores_are_the_probabilities_of_the_bits(tts: AlignedTextToSpeech) -> None:
    model, lengths = tts.model, torch.tensor([5])
    x = model.encode(torch.tensor([[1, 2, 3, 4, 5]]), lengths, torch.zeros(1, 4))
    codes = tts.codes[torch.tensor([[7, 4000, 8191]])]  # (1, 3, L)
    scores = model.alignment(x, lengths, codes, torch.tensor([3]))
    share = model.sound(x).sigmoid()[:, :, None]  # (1, 5, 1, L)
    each = torch.where(codes[:, None] > 0, share, 1 - share)
    torch.testing.assert_close(scores, each.log().sum(dim=-1))


def test_a_batch_is_as_its_texts_alone(tts: AlignedTextToSpeech) -> None:
    voices = [tts.voice("anna"), tts.voice("ben")]
    batch = tts.toks(TEXTS, voices, [0, 1])
    for text, voice, found in zip(TEXTS, voices, batch, strict=True):
        (alone,) = tts.toks([text], [voice], [5])  # nothing is drawn, so seeds change nothing
        assert torch.equal(alone.toks, found.toks) and found.ended
    assert len({len(found.toks) for found in batch}) == 2


def test_a_padded_batch_has_the_logits_and_gradients_of_its_clips(codec: FocalCodec) -> None:
    torch.manual_seed(2)
    model = AlignedModel(9, hidden_size=8, text_layers=1, frame_layers=1, voice_size=4).double()
    model.eval()
    ids, lengths = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]]), torch.tensor([4, 2])
    durations, frames = torch.tensor([[2, 1, 3, 1], [2, 2, 0, 0]]), torch.tensor([7, 4])
    codes = torch.randn(2, 7, 13, dtype=torch.float64).sign()

    def losses(rows: slice, phonemes: int, length: int) -> torch.Tensor:
        voice = model.voice(codes[rows, :length], frames[rows])
        x = model.encode(ids[rows, :phonemes], lengths[rows], voice)
        logits, _ = model.bits(x, durations[rows, :phonemes], voice)
        mask = valid_mask(frames[rows], length)
        scores = model.alignment(x, lengths[rows], codes[rows, :length], frames[rows])
        return (logits * mask[..., None]).sum() + scores.sum()

    whole = losses(slice(0, 2), 4, 7)
    alone = losses(slice(0, 1), 4, 7) + losses(slice(1, 2), 2, 4)
    torch.testing.assert_close(whole, alone)
    weights = list(model.voice_tower.parameters())
    for a, b in zip(
        torch.autograd.grad(whole, weights), torch.autograd.grad(alone, weights), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_a_temperature_draws_bits_by_the_seed(tts: AlignedTextToSpeech) -> None:
    warm = Sampling(temperature=1.0)
    one, same, other = (
        tts.toks(TEXTS[:1], [tts.voice(None)], [seed], warm)[0].toks for seed in (1, 1, 2)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_stream_has_the_samples_of_the_whole(tts: AlignedTextToSpeech) -> None:
    voice = tts.voice("ben")
    blocks = list(tts.stream(TEXTS[1], voice))
    assert sum(map(len, blocks)) == len(tts.speak(TEXTS[1], voice))
    with pytest.raises(UserError, match="voice: none is given; name a recording"):
        tts.speak(TEXTS[0])


def test_a_folder_gives_the_same_speech(
    tts: AlignedTextToSpeech, codec: FocalCodec, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tts.save_pretrained(tmp_path / "tts", dtype="float32")
    loaded = load_text_to_speech(folder, codec)
    assert isinstance(loaded, AlignedTextToSpeech)
    voice = tts.voice("ben")
    assert torch.equal(loaded.speak(TEXTS[0], voice), tts.speak(TEXTS[0], voice))
    card = (folder / "README.md").read_text()
    assert "phonemes of espeak-ng, en-us" in card and "durations of phonemes" in card
    out = tmp_path / "out.wav"
    assert main(["say", "2 kings", str(out), "--model", str(folder), "--voice", "anna"]) == 0
    assert out.is_file()
    assert main(["say", "?!", str(tmp_path / "no.wav"), "--model", str(folder)]) == 2
    assert "it has no words to read" in capsys.readouterr().err


def test_a_long_text_is_read_sentence_by_sentence(tts: AlignedTextToSpeech) -> None:
    text, voice = "The king of the hill said a good morning. " * 4, tts.voice("ben")
    (one,), (whole,) = (tts.toks([each], [voice], [0]) for each in (text[:41], text))
    pause = len(whole.toks) - 4 * len(one.toks)
    assert pause == 3 * 10  # 0.2 s at 50 Hz
    for start in (0, len(one.toks) + 10):
        assert torch.equal(whole.toks[start : start + len(one.toks)], one.toks)
    assert torch.equal(torch.cat(list(tts.toks_of_stream(text, voice, 0, None))), whole.toks)


def test_where_a_long_text_is_cut() -> None:
    parts = [
        '"Hello," said Mr. Smith to Mrs. Jones.',
        '"It is 5:30 p.m. in the U.S. now."',
        "Then she left. . . .",
        "3.5 hours, e.g. till 9, is a long time!",
    ]
    assert sentences(" ".join(parts)) == parts
    assert sentences("A title\n\n" + " ".join(parts)) == ["A title", *parts]
    assert sentences("- . " + " ".join(parts))[0] == "- . " + parts[0]
    assert sentences("word " * 40) == [("word " * 40).strip()]


def test_capitals_are_words() -> None:
    capitals, small = write_phonemes(["IT IS US", "it is us"])
    assert capitals == small
    assert write_phonemes(["the US"]) != write_phonemes(["the us"])


def test_codecs_whose_codes_are_no_bits(tts: AlignedTextToSpeech, codec: FocalCodec) -> None:
    narrow = AlignedModel(9, 12, hidden_size=8, text_layers=1, frame_layers=1)
    with pytest.raises(UserError, match="demo: 13 bits a token, but the model has 12"):
        AlignedTextToSpeech(narrow, tts.phonemes, codec)
    with pytest.raises(UserError, match="its codes are no bits, which an aligned model predicts"):
        bits_of_toks(codec_with(FiniteScalars()))
