"""The page gives the tokens and the sound of onnxruntime in Python."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from focalcodec import FocalCodec
from focalcodec.audio import read_audio, resample, write_audio
from focalcodec.fct import read_toks
from focalcodec.long_audio.coding import decode_blocks, encode_blocks
from focalcodec.onnx_runtime import OnnxCodec
from tests.web.conftest import DIST, Server, microphone, open_file, saved, settle

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "corpus/LibriSpeech/test-real/92/1/92-1-0000.flac"
REFERENCE = ROOT / "corpus/LibriSpeech/test-real/93/1/93-1-0000.flac"
EXAMPLES = ROOT / "docs" / "browser.md"
NEAR_ZERO = 1e-3  # of a latent, whose root mean square is about 1 / sqrt(13)
RESAMPLE = """async ([sig, from, to]) => {
  const { resample } = await import('./codec.js');
  return Array.from(resample(Float32Array.from(sig), from, to));
}"""
SPEED = "() => parseFloat(document.getElementById('encode-speed').textContent)"


@pytest.fixture(scope="module")
def codec() -> OnnxCodec:
    if not (DIST / "codecs/demo/onnx.json").is_file():
        pytest.skip("web/dist is not built, which needs npm: run make web")
    return OnnxCodec.from_pretrained(DIST / "codecs/demo", threads=1)


def tokens_saved(page: Any) -> tuple[Any, np.ndarray]:
    header, toks = read_toks(io.BytesIO(saved(page, "#save-tokens")))
    return header, toks.numpy()


def sound_saved(page: Any) -> tuple[np.ndarray, int]:
    return soundfile.read(io.BytesIO(saved(page, "#save-sound")), dtype="float32")


def assert_same_tokens(
    toks: np.ndarray, expected: np.ndarray, sig: np.ndarray, model: FocalCodec | None = None
) -> None:
    """Equal, but for bits whose latents are near zero; `model` is demo, if it is not given."""
    assert toks.shape == expected.shape
    other = np.flatnonzero(toks != expected)
    if len(other):
        model = model or FocalCodec.from_pretrained("demo")
        lats = model.sig_to_lats(torch.from_numpy(sig)[None])[0, torch.from_numpy(other)]
        bits = np.unpackbits(
            (toks[other] ^ expected[other])[:, None].astype(">u4").view("u1"), axis=1
        )
        assert (
            float(lats[torch.from_numpy(bits[:, -lats.shape[-1] :]).bool()].abs().max()) < NEAR_ZERO
        )


def test_a_file(page: Any, codec: OnnxCodec, tmp_path: Path) -> None:
    """Tokens, sound and converted sound of a WAV are those of Python; prints the speeds."""
    write_audio(tmp_path / "a.wav", read_audio(CLIP, 16000), 16000)
    write_audio(tmp_path / "voice.wav", read_audio(REFERENCE, 16000), 16000)
    sentence = open_file(page, tmp_path / "a.wav")
    sig = soundfile.read(tmp_path / "a.wav", dtype="float32")[0]
    begin = time.perf_counter()
    toks = codec.sig_to_toks(sig[None])
    seconds = time.perf_counter() - begin
    assert (
        sentence == f"{len(sig) / 16000:.1f} s of speech became {toks.shape[1]} tokens. Play them."
    )
    header, found = tokens_saved(page)
    assert_same_tokens(found, toks[0], sig)
    assert header.weights_sha256 == codec.weights_sha256[:16] and header.model == "demo"
    assert (header.num_samples, header.sample_rate, header.id) == (len(sig), 16000, "a")

    sound, rate = sound_saved(page)
    expected = codec.toks_to_sig(found[None])[0, : len(sig)]
    assert rate == 16000 and np.abs(sound - expected[: len(sound)]).max() < 1e-3
    assert len(sound) == len(sig)

    message = open_file(page, tmp_path / "voice.wav", "The same words", "#voice-file")
    assert message == "The same words in another voice: voice, from 4 s of speech."
    converted, _ = sound_saved(page)
    reference = soundfile.read(tmp_path / "voice.wav", dtype="float32")[0]
    qfeats, feats = codec.toks_to_qfeats(found[None]), codec.sig_to_feats(reference[None])[0]
    expected = codec.convert(sig[None], feats)[0, : len(sig)]
    assert qfeats.shape[2] == feats.shape[1]
    assert np.abs(converted - expected[: len(converted)]).max() < 2e-3
    speed = page.evaluate(SPEED)
    ratio = speed / (len(sig) / 16000 / seconds)
    print(f"\nencoding in the browser: {ratio:.2f} times the speed of onnxruntime in Python")
    assert speed > 0


def test_a_token_file(page: Any, codec: OnnxCodec, tmp_path: Path) -> None:
    """A .fct of the command line plays; the page saves it again byte by byte."""
    tokens = FocalCodec.from_pretrained("demo").encode_file(CLIP)
    tokens.save(tmp_path / "b.fct")
    assert open_file(page, tmp_path / "b.fct", "b.fct:") == f"b.fct: {len(tokens)} tokens."
    assert saved(page, "#save-tokens") == (tmp_path / "b.fct").read_bytes()
    sound, _ = sound_saved(page)
    expected = codec.toks_to_sig(tokens.toks[None].numpy())[0]
    assert np.abs(sound - expected[: len(sound)]).max() < 1e-3


def test_microphone(
    open_page: Callable[..., Any],
    serve: Callable[[Path], Server],
    codec: OnnxCodec,
    tmp_path: Path,
) -> None:
    """The samples that the page captured, saved, have the tokens that it shows."""
    speech = resample(read_audio(CLIP, 16000)[None], 16000, 48000)[0][0]
    write_audio(tmp_path / "spoken.wav", speech, 48000)
    page = open_page(serve(DIST), *microphone(tmp_path / "spoken.wav"))
    page.click("#record")
    settle(page, "Recording")
    page.wait_for_timeout(1500)
    page.click("#record")
    settle(page, "Play them")
    header, toks = tokens_saved(page)
    page.keyboard.press("1")  # the original
    sound, rate = sound_saved(page)
    assert rate == header.sample_rate and len(sound) == header.num_samples > rate / 2
    assert np.abs(sound).max() > 0.05
    sig = np.array(page.evaluate(RESAMPLE, [sound.tolist(), rate, 16000]), dtype=np.float32)
    assert_same_tokens(toks, codec.sig_to_toks(sig[None])[0], sig)


def test_the_example_of_the_docs(page: Any, codec: OnnxCodec) -> None:
    (example,) = re.findall(r"```javascript\n(.+?)```", EXAMPLES.read_text("utf-8"), re.DOTALL)
    imports, body = example.split("\n\n", 1)
    names, script = re.fullmatch(r"import ({.+}) from (.+);", imports).groups()
    sig = read_audio(CLIP, 16000)
    stream = io.BytesIO()
    soundfile.write(stream, sig.numpy(), 16000, format="WAV")
    wav = {"status": 200, "body": stream.getvalue()}
    page.context.route("**/speech.wav", lambda route: route.fulfill(**wav))
    code = f"async () => {{ const {names} = await import({script}); {body} return [...toks]; }}"
    code = code.replace("console.log", "String")
    toks = np.array(page.evaluate(code))
    page.context.unroute("**/speech.wav")
    assert_same_tokens(toks, codec.sig_to_toks(sig[None].numpy())[0], sig.numpy())


def test_resampling(page: Any) -> None:
    """Speech at 44.1 kHz, as soxr changes it, but for the highest frequencies."""
    sig = read_audio(CLIP, 44100)[: 44100 // 2]
    found = np.array(page.evaluate(RESAMPLE, [sig.tolist(), 44100, 16000]))
    expected = resample(sig[None], 44100, 16000)[0][0].numpy()
    assert found.shape == expected.shape
    below = np.fft.rfftfreq(len(expected), 1 / 16000) < 7000
    difference = np.abs(np.fft.rfft(found - expected))[below].max()
    assert difference < 1e-3 * np.abs(np.fft.rfft(expected)).max()


def test_long_recordings(
    open_page: Callable[..., Any], serve: Callable[[Path], Server], copy: Path, tmp_path: Path
) -> None:
    """Windows and what is kept of them are those of `focalcodec.long_audio`."""
    entries = json.loads((DIST / "codecs.json").read_text(encoding="utf-8"))
    plans = entries[0]["plans"]
    for part in ("encode", "feats", "decompress", "decode"):
        plans[part]["size"] = 100  # frames: 2 s
    sig = torch.cat([read_audio(CLIP, 16000), read_audio(REFERENCE, 16000)])
    write_audio(tmp_path / "long.wav", sig, 16000)
    (copy / "codecs.json").write_text(json.dumps(entries), encoding="utf-8")
    (copy / "sw.js").unlink()  # without it there are no threads
    page = open_page(serve(copy), expected="404")
    assert page.inner_text("#machine").startswith("Runs on one thread: this browser or address")
    open_file(page, tmp_path / "long.wav")
    sig = read_audio(tmp_path / "long.wav", 16000)
    model = FocalCodec.from_pretrained("demo")
    toks = torch.cat([*encode_blocks(model, [sig], 16000, window_seconds=2.0)])
    assert_same_tokens(tokens_saved(page)[1], toks.numpy(), sig.numpy())
    expected = torch.cat([*decode_blocks(model, toks, len(sig), window_seconds=2.0)])
    assert np.abs(sound_saved(page)[0] - expected.numpy()).max() < 1e-3
