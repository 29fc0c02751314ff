"""The demo codec's corpus: texts, speakers, prompts and the tree, offline."""

from __future__ import annotations

import doctest
import gzip
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from focalcodec.data.corpus import walk_files
from focalcodec.data.librispeech_tree import find_clips
from focalcodec.errors import UserError

av = pytest.importorskip("av")
RECIPE = Path(__file__).parents[3] / "recipes" / "Demo"
VOICES = ["af_one", "af_two", "am_three", "bm_four"]
WORDS = "amber beacon candle daring eager fading garden hollow ivory jumping".split()
SENTENCES = [f"The {a} {b} {c} stands." for a in WORDS for b in WORDS for c in WORDS]
HOW = {"suffix": ".flac", "jobs": 1, "max_broken_share": 0.05}


@pytest.fixture(scope="module")
def demo() -> Iterator[Any]:
    """The recipe's modules, imported from its folder as in a user's run."""
    sys.path.insert(0, str(RECIPE))
    names = ("corpus", "texts", "tree", "synthetic", "prompts", "readers", "packages")
    try:
        yield SimpleNamespace(**{n: importlib.import_module(f"demo_{n}") for n in names})
    finally:
        sys.path.remove(str(RECIPE))


def test_examples(demo: Any) -> None:
    for module in vars(demo).values():
        assert doctest.testmod(module).failed == 0


# -- texts -----------------------------------------------------------------------------------------


def write_wordnet(folder: Path, *examples: str) -> Path:
    folder.mkdir(parents=True)
    glosses = "".join(f'; "{text}"' for text in examples)
    for name in ("adj", "adv", "noun", "verb"):
        (folder / f"data.{name}").write_text(f"  1 A notice\n0001 02 r 01 a 0 | in fact{glosses}\n")
    return folder


def test_sentences_of_wordnet(demo: Any, tmp_path: Path) -> None:
    folder = write_wordnet(
        tmp_path / "wordnet", "he went away, alone", "too short", "in 1914 it began so"
    )
    assert demo.texts.read_sentences(folder) == ["He went away, alone."]


def test_sentences_of_a_file_and_none_of_the_embedded_corpus(demo: Any, tmp_path: Path) -> None:
    root = demo.texts.embedded_corpus("LibriSpeech")
    clips = find_clips(root, walk_files(root, "test-mini"))
    embedded = clips[0].wrd.split(".")[0].capitalize()
    path = tmp_path / "mine.txt"
    path.write_text(f"{embedded}.\nthis is a new line\nthis is a new line\n")
    assert demo.texts.read_sentences(path) == ["This is a new line."]


def test_no_sentences(demo: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="wordnet-base"):
        demo.texts.read_sentences(tmp_path / "no")
    (tmp_path / "bad.txt").write_text("1 2 3\n")
    with pytest.raises(UserError, match="plain words"):
        demo.texts.read_sentences(tmp_path / "bad.txt")
    with pytest.raises(UserError, match=r"data\.adj"):
        demo.texts.read_sentences(tmp_path)


# -- synthetic speakers ----------------------------------------------------------------------------


def test_cast(demo: Any) -> None:
    cast = demo.synthetic.Cast(blends=3, clips_per_speaker=5, dev_speakers=[1004, "2003"])
    clips = cast.clips(VOICES[::-1], SENTENCES)
    assert clips == cast.clips(VOICES, SENTENCES) and len(clips) == 7 * 5
    assert {c.speaker for c in clips if c.split == "dev-demo"} == {"1004", "2003"}
    said = [sentence for clip in clips for sentence in clip.text.split(".") if sentence]
    assert len(said) == len(set(said))
    speakers = cast.speakers(VOICES)
    assert speakers["1004"] == (("bm_four", 1.0),)
    for name in ("2001", "2002", "2003"):
        (first, a), (second, b) = speakers[name]
        assert first != second and a + b == pytest.approx(1) and "bm_four" not in (first, second)
    assert all(0.9 <= clip.source.speed <= 1.15 for clip in clips)
    assert [c.id for c in clips[:5]] == [f"1001-{k // 3 + 1}-{k % 3:04}" for k in range(5)]
    assert demo.synthetic.Cast(seed=1, blends=3).clips(VOICES, SENTENCES)[0] != clips[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blends": 99}, "blends=99"),
        ({"blends": 1, "speed": (2.0, 1.0)}, "speed="),
        ({"blends": 1, "clips_per_speaker": 0}, "clips_per_speaker=0"),
        ({"blends": 1, "clips_per_speaker": 900}, "too few"),
    ],
)
def test_wrong_cast_is_refused(demo: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        demo.synthetic.Cast(**options).clips(VOICES, SENTENCES)


def write_voices(folder: Path) -> Path:
    folder.mkdir()
    for k, name in enumerate([*VOICES, "ff_french"]):
        np.full((3, 1, 256), k, np.float32).tofile(folder / f"{name}.bin")
    return folder


def test_voices_of_either_package(demo: Any, tmp_path: Path) -> None:
    read = demo.synthetic.read_voices
    voices = read(write_voices(tmp_path / "voices"))
    assert list(voices) == VOICES and voices["af_two"].shape == (3, 1, 256)
    with (tmp_path / "voices-v1.0.bin").open("wb") as file:
        np.savez(file, **voices, zf_other=voices["af_two"])
    assert list(read(tmp_path / "voices-v1.0.bin")) == VOICES
    (tmp_path / "empty").mkdir()
    for bad in ("empty", "missing"):
        with pytest.raises(UserError, match="kokoro_voices"):
            read(tmp_path / bad)


class Fake:
    """A synthesiser that makes a tone as long as the text; a voice is a number."""

    made = 0

    def __init__(self, voices: dict[str, Any]) -> None:
        self.voices = voices

    def __call__(self, clip: Any) -> tuple[torch.Tensor, int]:
        type(self).made += 1
        level = sum(weight * self.voices[name].mean() for name, weight in clip.source.voices)
        time = torch.arange(len(clip.text) * 240) / 24000
        return 0.1 * (1 + float(level)) * torch.sin(880 * time), 24000


def make(demo: Any, root: Path, folder: Path, how: dict[str, Any] = HOW, **options: Any) -> Path:
    folder.mkdir(exist_ok=True)
    voices = folder / "voices"
    texts = folder / "sentences.txt"
    if not voices.exists():
        write_voices(voices)
        texts.write_text("\n".join(SENTENCES))
    cast = demo.synthetic.Cast(**{"blends": 2, "clips_per_speaker": 3, **options})
    knobs = {"kokoro_voices": voices, "sentences": texts, "cast": cast}
    demo.corpus.write_synthetic(root, knobs, {**HOW, **how}, Fake)
    return root


def test_synthetic_tree(demo: Any, tmp_path: Path) -> None:
    root = make(demo, tmp_path / "out", tmp_path, dev_speakers=["1004"])
    clips = find_clips(root, walk_files(root, "train-synthetic"))
    assert len(clips) == 5 * 3 and all(clip.wrd.isupper() for clip in clips)
    assert {clip.spk_id for clip in clips} == {"1001", "1002", "1003", "2001", "2002"}
    assert len(find_clips(root, walk_files(root, "dev-demo"))) == 3
    info = soundfile.info(root / clips[0].wav)
    assert (info.samplerate, info.subtype) == (16000, "PCM_16")
    assert info.frames == len(clips[0].wrd) * 160
    lines = (root / "SPEAKERS.TXT").read_text().splitlines()
    assert lines[1].startswith("1001 | F | train-synthetic | 0.") and "af_one" in lines[1]
    assert lines[4].split("|")[2].strip() == "dev-demo" and " + " in lines[5]


def test_resumes(demo: Any, tmp_path: Path) -> None:
    root = make(demo, tmp_path / "out", tmp_path)
    files = sorted(root.rglob("*.flac"))
    files[4].unlink()
    Fake.made = 0
    make(demo, root, tmp_path)
    assert Fake.made == 1 and sorted(root.rglob("*.flac")) == files
    with pytest.raises(UserError, match="made with other options"):
        make(demo, root, tmp_path, seed=2)


def test_opus(demo: Any, tmp_path: Path) -> None:
    root = make(demo, tmp_path / "out", tmp_path, how={"suffix": ".ogg"})
    clips = find_clips(root, walk_files(root, "train-synthetic"))
    info = soundfile.info(root / clips[0].wav)
    assert (info.format, info.subtype, info.samplerate) == ("OGG", "OPUS", 16000)
    assert info.frames == len(clips[0].wrd) * 160
    with pytest.raises(UserError, match="suffix='.mp3'"):
        make(demo, tmp_path / "mp3", tmp_path, how={"suffix": ".mp3"})


def test_clips_that_can_not_be_made_are_left_out(demo: Any, tmp_path: Path) -> None:
    root = tmp_path / "out"
    clip = demo.tree.DemoClip("train", "7", "1", 0, "Amber", None)
    other = demo.tree.DemoClip("train", "7", "1", 1, "Beacon", None)

    def new_maker() -> Any:
        def maker(clip: Any) -> tuple[torch.Tensor, int]:
            if clip.text == "Amber":
                raise UserError(f"{clip.id}: can't be said")
            return torch.zeros(800), 8000

        return maker

    with pytest.raises(UserError, match="1 of 2 clips.*7-1-0000: can't be said"):
        demo.tree.write_clips(root, ".flac", [clip, other], new_maker)
    demo.tree.write_clips(root, ".flac", [clip, other], new_maker, max_broken_share=0.5)
    assert (root / "train/7/1/7-1.trans.txt").read_text() == "7-1-0001 BEACON\n"
    assert "can't be said" in (root / "skipped-7.csv").read_text()


def test_without_the_packages_the_error_has_the_install_command(
    demo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voices = demo.synthetic.read_voices(write_voices(tmp_path / "voices"))
    monkeypatch.setitem(sys.modules, "kokoro_onnx", None)
    with pytest.raises(UserError, match="demo-corpus"):
        demo.synthetic.Kokoro(voices)


# -- real speakers ---------------------------------------------------------------------------------


def write_g722(path: Path, seconds: float, level: int = 3000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = round(seconds * 16000) // 320 * 320
    wave = np.random.default_rng(len(path.name)).normal(0, level, samples)
    with av.open(str(path), "w", format="g722") as container:
        stream = container.add_stream("g722", rate=16000)
        stream.layout = "mono"
        for start in range(0, samples, 320):
            block = wave[None, start : start + 320].astype(np.int16)
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """English and Italian packages, unpacked."""
    root = tmp_path / "unpacked"
    texts = "; a comment\n\nhello: Hello there.\nbeep: [a tone]\nquiet: Not a sound here.\n"
    texts += "digits/1: one\nmissing: It is not there\nmenu/last: Goodbye [softly] all: of you\n"
    for language, folder in (("en", "en_US_f_Allison"), ("it", "it_IT_m_Carlo")):
        sounds = root / "usr/share/asterisk/sounds" / folder
        write_g722(sounds / "hello.g722", 1.6)
        write_g722(sounds / "beep.g722", 2.0)
        write_g722(sounds / "menu/last.g722", 2.2)
        write_g722(sounds / "digits/1.g722", 0.6)
        doc = root / "usr/share/doc" / f"asterisk-core-sounds-{language}"
        doc.mkdir(parents=True)
        with gzip.open(doc / f"core-sounds-{language}.txt.gz", "wt", encoding="utf-8-sig") as file:
            file.write(texts)
    return root


def test_prompts(demo: Any, packages: Path) -> None:
    clips = demo.prompts.find_prompts(packages)
    said = [(clip.split, clip.id, clip.text) for clip in clips]
    assert said == [
        ("train-real", "101-1-0000", "Hello there."),
        ("train-real", "101-1-0001", "Goodbye all: of you"),
        ("test-italian", "103-4-0000", "Hello there."),
        ("test-italian", "103-4-0001", "Goodbye all: of you"),
    ]
    sig, rate = demo.prompts.read_prompt(clips[0])
    assert rate == 16000 and len(sig) == 25600 and 0.05 < float(sig.std()) < 0.2


def test_prompts_of_the_embedded_corpus_are_left_out(demo: Any, packages: Path) -> None:
    table = next(demo.texts.embedded_corpus("VoxPopuli").rglob("en/asr_test.tsv"))
    known = table.read_text(encoding="utf-8").splitlines()[1].split("\t")[1]
    doc = packages / "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt"
    doc.with_suffix(".txt.gz").unlink()
    doc.write_text(f"hello: {known}\nmenu/last: Nobody says this here\n", encoding="utf-8")
    english = [clip for clip in demo.prompts.find_prompts(packages) if clip.chapter == "1"]
    assert [clip.text for clip in english] == ["Nobody says this here"]
    assert len(demo.prompts.find_prompts(packages, skip_embedded=False)) == 4


def test_silent_and_broken_prompts(demo: Any, packages: Path) -> None:
    sounds = packages / "usr/share/asterisk/sounds/en_US_f_Allison"
    write_g722(sounds / "hello.g722", 1.6, level=0)
    clip = demo.prompts.find_prompts(packages)[0]
    with pytest.raises(UserError, match=r"hello\.g722.*no speech"):
        demo.prompts.read_prompt(clip)
    clip.source.unlink()
    with pytest.raises(UserError, match=r"hello\.g722: can't be decoded"):
        demo.prompts.read_prompt(clip)


def test_no_packages(demo: Any, packages: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dpkg-deb -x"):
        demo.prompts.find_prompts(tmp_path)
    next(packages.rglob("core-sounds-it.txt.gz")).unlink()
    with pytest.raises(UserError, match="core-sounds-it.txt.gz; unpack"):
        demo.prompts.find_prompts(packages)


def write_librispeech(root: Path) -> None:
    for clip_id in ("19-9-0000", "19-10-0001", "19-10-0000", "8001-5-0000"):
        reader, chapter, _ = clip_id.split("-")
        folder = root / "train-clean-100" / reader / chapter
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{clip_id}.flac", np.full(1600, int(chapter) / 100), 16000)
        with (folder / f"{reader}-{chapter}.trans.txt").open("a") as file:
            file.write(f"{clip_id} WORDS OF {clip_id}\n")
    (root / "SPEAKERS.TXT").write_text("; a comment\n19 | F | train-clean-100 | 25.19 | Kara\n")


def test_first_clip_of_each_reader(demo: Any, tmp_path: Path) -> None:
    write_librispeech(tmp_path / "LibriSpeech")
    out = tmp_path / "demo"
    demo.corpus.write_readers(out, str(tmp_path / "LibriSpeech"), HOW)
    for split, clip_id in (("train-libri", "19-10-0000"), ("dev-libri", "8001-5-0000")):
        (clip,) = find_clips(out, walk_files(out, split))
        assert (clip.id, clip.wrd) == (clip_id, f"WORDS OF {clip_id}")
        sig, rate = soundfile.read(out / clip.wav)
        assert rate == 16000 and len(sig) == 1600
        assert sig == pytest.approx(int(clip_id.split("-")[1]) / 100, abs=1e-4)
    table = (out / "SPEAKERS.TXT").read_text()
    assert "19 | F | train-libri | 0.0 | Kara" in table and "8001 | X | dev-libri" in table


def test_no_readers(demo: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="librispeech_folder.*OpenSLR 12"):
        demo.corpus.write_readers(tmp_path / "out", str(tmp_path), HOW)


# -- two more packages -----------------------------------------------------------------------------


def write_sound(path: Path, seconds: float, level: float, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full((round(seconds * 22050), channels), level), 22050)


def write_packages(folder: Path) -> Path:
    """Two Russian sentences, of which one has no file, and two readers of letters."""
    voice = folder / "usr/share/festival/voices/russian/msu_ru_nsh_clunits"
    write_sound(voice / "wav/ru_2.wav", 0.5, 0.1)
    (voice / "etc").mkdir()
    (voice / "etc/txt.done.data").write_text('( ru_1 "нет" )\n( ru_2 "в+олос, да." )\n')
    for language, seconds in (("it", 2.5), ("ml", 4.0)):
        root = folder / "usr/share/klettres"
        names = ["b", "a", "c", "none"]
        for name in names[:3]:
            write_sound(
                root / language / f"alpha/{name}.wav", seconds, ord(name) / 1000, channels=2
            )
        sounds = "".join(
            f'<sound name="{n.upper()}" file="{language}/alpha/{n}.wav"/>' for n in names
        )
        (root / language / "sounds.xml").write_text(
            f"<klettres><language>{sounds}</language></klettres>"
        )
    return folder


def test_russian_sentences_and_letters(demo: Any, tmp_path: Path) -> None:
    packages, out = str(write_packages(tmp_path / "packages")), tmp_path / "demo"
    clips = demo.packages.find_russian(packages)
    assert [(clip.id, clip.text) for clip in clips] == [("105-1-0000", "волос, да.")]
    demo.corpus.write_letters(out, packages, 9.0, HOW)
    clips = {clip.id: clip.wrd for clip in find_clips(out, walk_files(out, "train-letters"))}
    # letters are joined to six seconds, and the second reader has no place for a third letter
    assert clips == {"201-1-0000": "A B C", "202-1-0000": "A B"}
    sig, rate = soundfile.read(out / "train-letters/201/1/201-1-0000.flac")
    assert (rate, len(sig)) == (16000, 3 * 40000)
    middles = sig[[20000, 60000, 100000]]
    assert middles == pytest.approx([0.097, 0.098, 0.099], abs=1e-3)
    assert "202 | X | train-letters | 0.1 | klettres-data, ml" in (out / "SPEAKERS.TXT").read_text()


def test_no_such_packages(demo: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="festvox_folder .*unpack Debian's festvox-ru"):
        demo.packages.find_russian(tmp_path)
    with pytest.raises(UserError, match="klettres_folder .*unpack Debian's klettres-data"):
        demo.packages.read_letters(tmp_path)


# -- the command -----------------------------------------------------------------------------------


def run(*options: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "demo_corpus.py", "hparams/demo_corpus.yaml", *options],
        cwd=RECIPE,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )


def test_command(packages: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = run(f"--asterisk_folder={packages}", f"--output_folder={out}", "--jobs=2")
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"train with --data_folder {out}" in done.stdout
    assert [clip.id for clip in find_clips(out, walk_files(out, "train-real"))] == [
        "101-1-0000",
        "101-1-0001",
    ]
    assert len(find_clips(out, walk_files(out, "test-italian"))) == 2
    assert "103 | M | test-italian | 0.1 | Carlo Flora" in (out / "SPEAKERS.TXT").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "all are null"),
        (["--kokoro_voices=voices"], "sentences: null"),
        (["--x=1"], "no key 'x'"),
    ],
)
def test_errors_name_the_way_out(
    demo: Any, tmp_path: Path, options: list[str], message: str
) -> None:
    yaml = str(RECIPE / "hparams" / "demo_corpus.yaml")
    with pytest.raises(UserError, match=message):
        demo.corpus.make_corpus([yaml, f"--output_folder={tmp_path}", *options])
