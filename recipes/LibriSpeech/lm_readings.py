"""Read the texts of a test set with the voices of its speakers, and judge the readings.

The protocol: the voice comes from another clip of the speaker, the end token ends the speech, and
one sample is judged. Beside it are the best of several by the word errors of a judge, as papers
report it, the codec's resynthesis of the recording, and the recording.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lm_data import voice_prompts
from speechbrain.utils.distributed import run_on_main
from torch import Tensor

from focalcodec.audio import resample, write_audio
from focalcodec.codec import FocalCodec
from focalcodec.coders.focal import FocalCoder
from focalcodec.data.clips import read_clip
from focalcodec.errors import UserError
from focalcodec.evaluation.run import SAMPLE_RATE, describe_judge, load_panel_judges
from focalcodec.files import distinct_file_names
from focalcodec.lm import TextToSpeech
from focalcodec.metrics import panel
from focalcodec.metrics.judge import Column, Judge, JudgedClip
from focalcodec.metrics.transcripts import character_errors
from focalcodec.probes.cards import make_card, probe_table, write_card
from focalcodec.probes.token_dataset import TokenBatch, TokenDataset
from focalcodec.probes.tokens import ProbeCodec
from focalcodec.training.distributed import gather_objects
from focalcodec.training.probe_brain import CER, ProbeBrain
from focalcodec.training.run.loaders import Rows

READING_COLUMNS = (
    CER,  # of the first judge that recognises words, against the text
    Column("failed", "failed: no end, or WER over 50 %", "%", "lower"),
    Column("no_end", "no end token", "%", "lower"),
    Column("reading_rtf", "real-time factor", "", "lower"),
)
ONE, CEILING, RECORDING = "one sample", "resynthesis", "recording"
FAILED_WER = 50.0


class Readings:
    """Readings of a test set; each system has a folder with audio and a card.

    Parameters
    ----------
    tts : TextToSpeech
        Reads the texts.
    codec : ProbeCodec
        For the resynthesis.
    panel_name : str
        Judges, or "none".
    language : str
        Of clips without a column `language`.
    samples : int
        Number of samples, of which the best is judged too; 1: only one sample.
    """

    def __init__(
        self, tts: TextToSpeech, codec: ProbeCodec, panel_name: str, language: str, samples: int
    ) -> None:
        if panel_name != "none":
            panel(panel_name)  # a wrong name is reported now, not after the training
        self.tts, self.codec, self.language = tts, codec, language
        self.panel_name, self.samples = panel_name, samples
        self.best = f"best of {samples}"
        self.judges: list[Judge] | None = None
        self.missing: list[str] = []
        self.folder, self.files = Path(), dict[str, str]()
        self.prompts: dict[str, int] = {}
        self.entries: dict[str, dict[str, dict[str, Any]]] = {}  # of each system, by clip
        self.cards: list[dict[str, Any]] = []  # of all sets

    def start_set(
        self, folder: Path, dataset: TokenDataset, judge_clips: int | None, device: str
    ) -> None:
        """Choose the first clips by ID, and for each the next clip of its speaker as the prompt."""
        self.folder, self.dataset, self.entries, self.prompts = folder, dataset, {}, {}
        self.files = distinct_file_names(str(row["ID"]) for row in dataset.rows)
        speakers: dict[str, list[int]] = {}
        for place, row in enumerate(dataset.rows):
            speakers.setdefault(row["spk_id"], []).append(place)
        for places in speakers.values():
            for place, other in zip(places, [*places[1:], places[0]], strict=True):
                if other != place:
                    self.prompts[dataset.rows[place]["ID"]] = other
        self.prompts = dict(sorted(self.prompts.items())[:judge_clips])
        if self.judges is None:
            self.judges, self.missing = load_panel_judges(self.panel_name, device)

    def add(self, batch: TokenBatch, seed: int) -> None:
        """Read the texts of a batch, and judge the readings."""
        for row, toks, end in zip(batch.rows, batch.toks, batch.lengths.tolist(), strict=True):
            if row["ID"] in self.prompts:
                self._add(row, toks[:end].cpu(), seed)

    def _add(self, row: Mapping[str, Any], toks: Tensor, seed: int) -> None:
        other = self.prompts[row["ID"]]
        voice = self.dataset.store[self.dataset.places[other, 0]]
        voice = voice[: round(self.tts.prompt_seconds * self.codec.tokenizer.token_rate)]
        start, (one,) = time.perf_counter(), self.tts.toks([row["wrd"]], [voice], [seed])
        sig = self.tts.decode(one.toks)
        took = time.perf_counter() - start
        seconds = len(sig) / self.tts.codec.sample_rate_output
        clips = [recording(row), recording(self.dataset.rows[other])]
        judged = self._judge(ONE, row, sig, *clips)
        judged["scores"]["reading_rtf"] = [took / seconds, seconds]
        _mark_failure(judged, one.ended)
        if self.samples > 1 and self.judges:
            count = self.samples - 1
            seeds = range(seed + 1, seed + self.samples)
            more = self.tts.toks([row["wrd"]] * count, [voice] * count, seeds)
            self._choose(row, [(one, judged), *((each, None) for each in more)], clips)
        self._judge(CEILING, row, self.codec.decode(toks), *clips)
        self._judge(RECORDING, row, None, *clips)

    def _choose(self, row: Mapping[str, Any], found: Any, clips: list[Tensor]) -> None:
        """Keep the sample with the fewest word errors."""
        entries = []
        for spoken, entry in found:
            if entry is None:
                entry = self._judge(self.best, row, self.tts.decode(spoken.toks), *clips)
                _mark_failure(entry, spoken.ended)
            entries.append(entry)
        self.entries.setdefault(self.best, {})[row["ID"]] = min(entries, key=word_error_rate)

    def _judge(
        self, system: str, row: Mapping[str, Any], sig: Tensor | None, clip: Tensor, prompt: Tensor
    ) -> dict[str, Any]:
        """Write and judge a reading; None is the recording itself."""
        if sig is not None:
            rate = self.tts.codec.sample_rate_output
            sig = resample(sig[None], rate, SAMPLE_RATE)[0][0].clamp(-1.0, 1.0)
            path = self.folder / system.replace(" ", "_") / f"{self.files[row['ID']]}.flac"
            write_audio(path, sig, SAMPLE_RATE)
        judged = JudgedClip(
            row["ID"],
            clip,
            clip if sig is None else sig,
            SAMPLE_RATE,
            row["wrd"],
            row.get("language") or self.language,
            prompt,
        )
        entry: dict[str, Any] = {"id": row["ID"], "scores": {}, "transcripts": {}}
        for judge in self.judges or []:
            (verdict,) = judge.score([judged])
            for key, score in verdict.scores.items():
                entry["scores"][key] = [float(score.value), float(score.weight)]
            if verdict.transcript:
                entry["transcripts"][judge.name] = verdict.transcript
            if any(key.startswith("dcer_") for key in verdict.scores):  # it writes what is said
                edits, units = character_errors(row["wrd"], verdict.transcript, judged.language)
                if units:
                    entry["scores"].setdefault(CER.key, [100.0 * edits / units, float(units)])
        self.entries.setdefault(system, {})[row["ID"]] = entry
        return entry

    def gather(self) -> None:
        """Take the readings of the other processes too."""
        shares = gather_objects(self.entries)
        self.entries = {}
        for share in shares:
            for system, entries in share.items():
                self.entries.setdefault(system, {}).update(entries)

    def write_cards(self, about: Mapping[str, Any], rows: Rows) -> list[dict[str, Any]]:
        """Write the card of each system into its folder; return them, first that of one sample."""
        judges = [describe_judge(judge) for judge in self.judges or []]
        columns = [{**vars(column), "judge": "probe"} for column in READING_COLUMNS]
        made = []
        for system, entries in self.entries.items():
            codec = {**about["codec"], "name": system}
            if system == RECORDING:
                codec |= {"kbps": None}
            card = make_card(
                {**about, "codec": codec, "chance": {}},
                entries,
                rows,
                columns,
                judges,
                self.missing,
            )
            run_on_main(write_card, args=[self.folder / system.replace(" ", "_"), card])
            made.append(card)
        self.cards += made
        return made


def word_error_rate(entry: Mapping[str, Any]) -> float:
    """WER of the first judge that recognises words; infinite without one."""
    rates = [score[0] for key, score in entry["scores"].items() if key.startswith("wer_")]
    return rates[0] if rates else float("inf")


def _mark_failure(entry: dict[str, Any], ended: bool) -> None:
    rate = word_error_rate(entry)
    failed = not ended or FAILED_WER < rate < float("inf")
    entry["scores"] |= {"no_end": [100.0 * (not ended), 1.0], "failed": [100.0 * failed, 1.0]}


def recording(row: Mapping[str, Any]) -> Tensor:
    """Recording (T,) of a clip at `SAMPLE_RATE`."""
    span = (row["start"], row["stop"]) if "start" in row else None
    return read_clip(row["wav"], SAMPLE_RATE, span, row.get("channels") or "mix")


def focal_codec(codec: ProbeCodec) -> FocalCodec:
    """Codec that makes the audio of a text; `UserError` if it is another one."""
    if not isinstance(codec.coder, FocalCoder):
        raise UserError(f"codec={codec.text}: give one of FocalCodec for text to speech")
    return codec.coder.codec


class ReadingBrain(ProbeBrain):
    """Base of the trainings of text to speech: in a test the texts of clips are read, and judged.

    `make_modules` of a subclass calls `make_reader`. The run gets a folder `tts` for `focalcodec
    say`.
    """

    def make_reader(self, hparams: Mapping[str, Any], make: Callable[..., TextToSpeech]) -> None:
        """Make what reads texts: `make` takes the codec, voices and prompt_seconds."""
        codec = focal_codec(self.codec)
        store, rows = self.loaders.train.dataset.store, self.loaders.sets["train"]
        seconds = hparams["prompt_seconds"]
        voices = voice_prompts(store, rows, hparams["voices"], self.codec, seconds)
        self.tts = make(codec, voices=voices, prompt_seconds=seconds)
        self.readings = Readings(
            self.tts, self.codec, hparams["panel"], hparams["language"], hparams["samples"]
        )

    def test_clips(self, batch: TokenBatch) -> None:
        """Read the texts, and judge the readings."""
        self.tts.model.eval()
        self.readings.add(batch, self.hparams.seed)

    def on_set_start(self, name: str, rows: Rows) -> None:
        """Choose the clips whose texts are read, and the prompt of each."""
        super().on_set_start(name, rows)
        dataset = self.loaders.tests[name].dataset
        most = self.hparams.judge_clips
        self.readings.start_set(self.set_folder, dataset, most, str(self.device))

    def on_set_end(self, name: str, rows: Rows) -> None:
        """Write and print the cards of the readings."""
        super().on_set_end(name, rows)
        self.readings.gather()
        cards = self.readings.write_cards(self.about(name, rows), rows)
        if cards and self.shows:
            print(probe_table(cards), flush=True)
        found = cards[0]["figures"] if cards else {}
        wanted = [column.key for column in READING_COLUMNS if column.key in found]
        self.test_stats |= {key: found[key]["value"] for key in wanted}

    def test(self, *args: Any) -> dict[str, dict[str, float]]:
        """After the tests, write the folder `tts` with the tested weights."""
        results = super().test(*args)
        run_on_main(self._write_tts)
        return results

    def _write_tts(self) -> None:
        tables = [probe_table(self.readings.cards)] if self.readings.cards else []
        about = "\n\n".join([f"Made by `{self.about('', [])['command']}`.", *tables])
        folder = self.tts.save_pretrained(self.folder.path / "tts", about=about)
        print(f"{folder}: text to speech, for focalcodec say --model", flush=True)
