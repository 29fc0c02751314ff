"""Language models of tokens: text to speech, speech alone, and recognition.

One training for all three: what differs is the order of the parts of an utterance (`order` in the
YAML), which part is predicted, and what is measured in the test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from lm_data import make_vocabulary
from lm_pairs import compare_clips, compare_files
from lm_readings import READING_COLUMNS, ReadingBrain
from speechbrain import Stage
from torch import Tensor, nn

from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError
from focalcodec.lm import LMTextToSpeech, Sampling, generate, target_nats
from focalcodec.lm.packing import PackedBatch, collate_rows
from focalcodec.metrics.judge import Column
from focalcodec.probes.token_dataset import TokenBatch
from focalcodec.training.probe_brain import CER, WER, ProbeBrain, has_transcript
from focalcodec.training.run.loaders import Rows

BITS = Column("bits", "bits of a predicted id", "", "lower")
HALVES = Column("swapped_halves", "swapped halves found", "%", "higher")
SPEAKERS = Column("speaker_switch", "change of speaker found", "%", "higher")
CHARACTERS_A_SECOND = 40  # most that a recogniser writes


class TokenLMBrain(ProbeBrain):
    """loss = cross entropy of the target ids, nats an id, mean over those of the global batch."""

    trained: ClassVar[dict[str, tuple[str, ...]]] = {"lm": ("lm",)}
    columns: ClassVar[tuple[Column, ...]] = (BITS,)

    usable = staticmethod(has_transcript)

    def make_modules(
        self, encoder: nn.Module, hparams: Mapping[str, Any], sets: Mapping[str, Rows]
    ) -> dict[str, nn.Module]:
        """The model has the codec's tokens and the bits of each; first weights from the seed."""
        self.vocabulary = make_vocabulary(self.codec, hparams["characters"])
        size = self.codec.codebook_size
        if hparams["bit_noise"] > 0 and size & (size - 1):
            raise UserError(
                f"bit_noise={hparams['bit_noise']}: tokens of {self.codec.name} are no bits; give 0"
            )
        codes = self.codec.tokenizer.codes()  # of each stream
        torch.manual_seed(stable_seed(hparams["seed"], "lm"))
        code_dim = 0 if codes is None else codes[0].shape[1]
        lm = hparams["lm"](vocab_size=self.vocabulary.size, code_dim=code_dim)
        if codes is not None:
            lm.codes.copy_(self.vocabulary.codes(codes[0]))
        return {"lm": lm}

    def chance(self, rows: Rows) -> dict[str, float]:
        """Bits of an id if all are equally likely."""
        return {BITS.key: math.log2(self.vocabulary.size)}

    def compute_forward(self, batch: Any, stage: Stage) -> tuple[Tensor, Tensor]:
        """Sum of -ln p over the targets, and their number, of each row or clip: (B,) both."""
        if stage == Stage.TRAIN:
            inputs = self.with_noise(batch.ids)
            return target_nats(self.modules.lm, batch.ids, batch.is_target, inputs)
        rows = self.rows_of(batch)
        return target_nats(self.modules.lm, rows.ids, rows.is_target)

    def compute_objectives(self, out: tuple[Tensor, Tensor], batch: Any, stage: Stage) -> Tensor:
        """Cross entropy; outside training also bits of each clip."""
        nats, counts = out
        counts = counts.clamp(min=1e-6)
        if stage != Stage.TRAIN:
            bits = (nats / counts / math.log(2)).tolist()
            self.add_scores(batch, stage, BITS.key, list(zip(bits, counts.tolist(), strict=True)))
        if stage == Stage.TEST:
            self.test_clips(batch)
        return self.mean("loss", nats / counts, counts)

    def test_clips(self, batch: TokenBatch) -> None:
        """Measure more of the clips of a test set."""

    def rows_of(self, batch: TokenBatch) -> PackedBatch:
        """A row for each clip of a batch, in the order of the YAML."""
        items = []
        for row, toks, end in zip(
            batch.rows, batch.toks.cpu(), batch.lengths.tolist(), strict=True
        ):
            made = self.vocabulary.utterance(self.hparams.order, row["wrd"], toks[:end])
            items.append({"id": row["ID"], **made._asdict(), "length": len(made.ids)})
        return collate_rows(items).to(self.device)

    def with_noise(self, ids: Tensor) -> Tensor:
        """Ids (B, T) with a share `bit_noise` of the bits of each row's first utterance changed.

        It is the prompt of the others: at its use a prompt is the codec's, which has errors too.
        """
        share, first = self.hparams.bit_noise, self.vocabulary.toks.offset
        if share == 0:
            return ids
        powers = 2 ** torch.arange(round(math.log2(self.codec.codebook_size)), device=ids.device)
        flips = torch.rand(*ids.shape, len(powers), device=ids.device) < share  # (B, T, L)
        changed = ((ids - first) ^ (flips * powers).sum(dim=2)) + first
        in_prompt = (ids == self.vocabulary.special["eos"]).cumsum(dim=1) == 0
        return torch.where((ids >= first) & in_prompt, changed, ids)


class TTSBrain(ReadingBrain, TokenLMBrain):
    """Text to speech: `<text> characters <speech> tokens <eos>`, after other clips of the speaker.

    In a test the texts are read and judged, see `lm_readings`.
    """

    columns = (BITS, *READING_COLUMNS)

    def make_modules(
        self, encoder: nn.Module, hparams: Mapping[str, Any], sets: Mapping[str, Rows]
    ) -> dict[str, nn.Module]:
        """Also what reads texts in a test."""
        modules = super().make_modules(encoder, hparams, sets)
        how = Sampling(**hparams["sampling"])
        make = partial(LMTextToSpeech, modules["lm"], self.vocabulary, sampling=how)
        self.make_reader(hparams, make)
        return modules


class LMBrain(TokenLMBrain):
    """Speech alone: `<speech> tokens <eos>`.

    A test also compares natural clips with unnatural ones, see `lm_pairs`.
    """

    columns = (BITS, HALVES, SPEAKERS)

    @staticmethod
    def usable(row: Mapping[str, Any]) -> bool:
        """Every clip: no text is needed."""
        return True

    def chance(self, rows: Rows) -> dict[str, float]:
        """Also of the comparisons of two."""
        return {**super().chance(rows), HALVES.key: 50.0, SPEAKERS.key: 50.0}

    def on_set_end(self, name: str, rows: Rows) -> None:
        """Compare clips of the set with changed ones."""
        dataset = self.loaders.tests[name].dataset
        found = compare_clips(self.modules.lm, self.vocabulary, dataset, self.hparams.seed)
        for key, scores in found.items():
            for clip, right in scores.items():
                self.clip(clip)["scores"][key] = [100.0 * right, 1.0]
            if scores:
                self.test_stats[key] = 100.0 * sum(scores.values()) / len(scores)
        super().on_set_end(name, rows)

    def test(self, *args: Any) -> dict[str, dict[str, float]]:
        """Also compare the pairs of files in `pairs`, such as those of SALMon."""
        results = super().test(*args)
        for name, source in self.hparams.pairs.items():
            figures = compare_files(self.modules.lm, self.vocabulary, self.codec, source)
            for task, (right, low, high, count) in figures.items():
                label = f"{name}, {task}" if task else name
                results[label] = {"right": right}
                print(
                    f"{label}: {right:.1f} % [{low:.1f}, {high:.1f}] of {count} pairs", flush=True
                )
        return results


class ASRLMBrain(TokenLMBrain):
    """Recognition: `<speech> tokens <text> characters <eos>`; WER and CER in the test, greedy."""

    columns = (BITS, WER, CER)

    def test_clips(self, batch: TokenBatch) -> None:
        """Write down what is said."""
        words, marker = self.vocabulary, torch.tensor([self.vocabulary.special["text"]])
        allowed = torch.tensor([*range(words.special["text"]), words.special["eos"]])
        toks = [
            row[:end] for row, end in zip(batch.toks.cpu(), batch.lengths.tolist(), strict=True)
        ]
        prompts = [torch.cat([words.speech(row), marker]) for row in toks]
        rate = CHARACTERS_A_SECOND / self.codec.tokenizer.token_rate
        most = [max(10, round(rate * len(row))) for row in toks]
        self.modules.lm.eval()
        greedy, seeds = Sampling(temperature=0.0), [0] * len(toks)
        lm, end = self.modules.lm, words.special["eos"]
        found = generate(lm, prompts, allowed, end, most, greedy, seeds)
        self.add_texts(batch, Stage.TEST, [words.to_text(ids.tolist()) for ids in found])
