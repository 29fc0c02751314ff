"""Base of all probes: tokens instead of audio, figures for each clip, a card for each test set.

A recipe's brains.py adds what is predicted (`make_modules`), the forward pass and the loss.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import speechbrain as sb
import torch
from speechbrain.utils.distributed import run_on_main
from torch import Tensor, nn
from torch.utils.data import DataLoader

from focalcodec.data.dataset import AudioDataset
from focalcodec.data.feature_cache import FeatureCache
from focalcodec.data.manifest import write_csv
from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.metrics.judge import Column
from focalcodec.metrics.transcripts import alignment, character_errors, word_errors
from focalcodec.probes.cards import make_card, write_card
from focalcodec.probes.inputs import FeatureProjection, TokenEmbedding
from focalcodec.probes.targets import Labels, Pieces, learn_pieces, unweighted_recall
from focalcodec.probes.token_dataset import TokenBatch, TokenDataset, collate_tokens
from focalcodec.probes.tokens import FROM_AUDIO, ProbeCodec, cached_tokens
from focalcodec.processes import Shard
from focalcodec.tokenize.store import TokenStore
from focalcodec.training.brain import CodecBrain
from focalcodec.training.distributed import (
    gather_objects,
    global_sum,
    process_count,
    process_rank,
)
from focalcodec.training.pictures import confusion_figure, save_png
from focalcodec.training.run.folder import RunFolder
from focalcodec.training.run.loaders import Rows, batch_loader
from focalcodec.training.run.start import Start

CODEC_NAME = "codec.txt"
PIECES_NAME = "pieces.model"
LABELS_NAME = "labels.json"

WER = Column("wer", "WER", "%", "lower")
CER = Column("cer", "CER", "%", "lower")
ERROR_RATE = Column("error_rate", "error rate", "%", "lower")
TOKEN_ERROR_RATE = Column("token_error_rate", "token error rate", "%", "lower")

Scores = Sequence["tuple[float, float] | None"]
"""Figure and weight (such as words) of each clip of a batch; None if there is no figure."""


class TokenLoaders:
    """Data loaders of a probe: batches of a codec's toks, which are computed once and stored.

    Parameters
    ----------
    hparams : mapping
        The run's configuration.
    codec : ProbeCodec
        Frozen codec of the toks.
    sets : mapping of str to manifest rows
        Result of `run.prepare_sets`.
    folder : RunFolder
        Stores which codec was used; broken clips are listed in `skipped.csv`.

    Attributes
    ----------
    train, valid, tests, samples, cache
        See `AudioLoaders`; `samples` is empty.

    Raises
    ------
    UserError
        The mixtures are made on the fly, or the run was started with another codec.
    """

    def __init__(
        self,
        hparams: Mapping[str, Any],
        codec: ProbeCodec,
        sets: Mapping[str, Rows],
        folder: RunFolder,
    ) -> None:
        if hparams.get("mixer") is not None and hparams["source"] == "wav":
            raise UserError(
                "mixer: tokens are computed once, from files; write the mixtures to disk and name"
                " their column in source, or set mixer to null"
            )
        folder.keep(CODEC_NAME, f"{codec.coder.weights_sha256}\n".encode())
        self.hparams, self.codec, self.sets = hparams, codec, sets
        self._report = folder.path / "skipped.csv"
        self.samples: list[Any] = []
        self.cache: FeatureCache | None = None
        if hparams["inputs"] in FROM_AUDIO and hparams["feature_cache"] is not None:
            encoder = codec.frozen_part(hparams["inputs"])
            self.cache = FeatureCache(
                hparams["feature_cache"], encoder, hparams["feature_cache_dtype"]
            )
        # All sets are read before the training, to report a problem in a test set now.
        self.train = self._training(sets["train"])
        self.valid = self._in_order(sets["valid"])
        tests = {name: rows for name, rows in sets.items() if name not in ("train", "valid")}
        self.tests = {name: self._in_order(rows) for name, rows in tests.items()}

    def _training(self, rows: Rows) -> DataLoader:
        hparams = self.hparams
        dataset = self._dataset(rows, hparams["group_by"], hparams["min_seconds"])
        return batch_loader(
            dataset,
            hparams,
            collate_tokens,
            batch_size=hparams["batch_size"],
            sorting=hparams["sorting"],
            passes=hparams["passes_per_epoch"],
            drop_last=True,
            groups=dataset.groups,
            temperature=hparams["temperature"],
        )

    def _in_order(self, rows: Rows) -> DataLoader:
        # A set from another source may have no column of groups; then it has no such figures.
        column = self.hparams["group_by"]
        dataset = self._dataset(rows, column if column in rows[0] else None)
        return batch_loader(
            dataset,
            self.hparams,
            collate_tokens,
            batch_size=self.hparams["valid_batch_size"],
            sorting="ascending",
            groups=dataset.groups,
            pure=True,
        )

    def _dataset(self, rows: Rows, group_by: str | None, min_seconds: float = 0.0) -> TokenDataset:
        hparams, longest = self.hparams, self.hparams["max_seconds"]
        return TokenDataset(
            rows,
            self._tokens(rows, hparams["source"]),
            [self._tokens(rows, name) for name in hparams.get("targets", [])],
            min_seconds=min_seconds,
            max_seconds=float("inf") if longest is None else longest,
            group_by=group_by,
            usable=hparams["brain"].usable,
            audio=self._audio if hparams["inputs"] in FROM_AUDIO else None,
        )

    def _tokens(self, rows: Rows, column: str) -> TokenStore:
        shard = Shard(process_rank(), process_count())
        return cached_tokens(self.codec, rows, column, self.hparams["token_folder"], shard)

    def _audio(self, rows: Rows) -> AudioDataset:
        """Audio of the column `source` only."""
        column = self.hparams["source"]
        inputs = [
            {**{k: v for k, v in row.items() if k != "noisy"}, "wav": row[column]} for row in rows
        ]
        return AudioDataset(
            inputs,
            self.codec.tokenizer.sample_rate_input,
            channels="mix",
            report=self._report,
            cache=self.cache,
            with_sig=False,
        )


def has_transcript(row: Mapping[str, Any]) -> bool:
    """Whether a clip has a text: `usable` of the trainings that need one."""
    return bool(row["wrd"].strip())


class ProbeBrain(CodecBrain):
    """Base of the Brains that train a small network on the tokens or features of a frozen codec.

    A subclass has `make_modules`, `compute_forward`, `compute_objectives`, and `columns`: the
    figures of a clip, which it counts with `add_scores`.

    Parameters
    ----------
    codec : ProbeCodec
        Frozen codec.
    loaders, folder, hparams, run_opts
        See `CodecBrain`; the loaders are `TokenLoaders`.
    """

    trained: ClassVar[dict[str, tuple[str, ...]]] = {"probe": ("inputs", "probe")}
    # The figures of `columns` are those of each clip, as in cards.

    def __init__(
        self,
        codec: ProbeCodec,
        loaders: Any,
        folder: RunFolder,
        hparams: Mapping[str, Any],
        run_opts: Any = None,
    ) -> None:
        self.codec, self.loaders = codec, loaders
        self._labels: Labels | None = None
        self.clips: dict[str, dict[str, Any]] = {}
        self.set_folder = Path()
        super().__init__(codec.frozen_part(hparams["inputs"]), loaders, folder, hparams, run_opts)

    @staticmethod
    def usable(row: Mapping[str, Any]) -> bool:
        """Whether a clip can be used; a probe may need a text or a label."""
        return True

    # -- modules ---------------------------------------------------------------------------------

    def probe_modules(self, hparams: Mapping[str, Any], **sizes: int) -> dict[str, nn.Module]:
        """Input layer, and the YAML's `probe` with sizes that depend on the data or the codec.

        The first weights depend only on the seed.
        """
        torch.manual_seed(stable_seed(hparams["seed"], "probe"))
        codec, dim = self.codec, hparams["dim"]
        if hparams["inputs"] == "toks":
            codes = codec.tokenizer.codes()
            inputs: nn.Module = TokenEmbedding(codec.codebook_size, codec.streams, dim, codes)
        else:
            inputs = FeatureProjection(codec.feature_dim(hparams["inputs"]), dim)
        return {"inputs": inputs, "probe": hparams["probe"](**sizes)}

    def learn_pieces(self, hparams: Mapping[str, Any], rows: Rows) -> Pieces:
        """Pieces of words of the training texts, stored in the run's folder."""
        model = learn_pieces(
            (row["wrd"] for row in rows),
            hparams["vocab_size"],
            hparams["text_model"],
            hparams["character_coverage"],
        )
        self.folder.keep(PIECES_NAME, model)
        word_errors("", "")  # a missing package is reported now, not after the training
        return Pieces(model)

    def find_labels(self, hparams: Mapping[str, Any], sets: Mapping[str, Rows]) -> Labels:
        """Labels of the training set, stored in the run's folder; UserError if a set has others."""
        labels = Labels.of(sets["train"], hparams["label"])
        for name, rows in sets.items():
            labels.check(name, rows)
        self.folder.keep(LABELS_NAME, labels.to_json())
        self._labels = labels
        return labels

    def chance(self, rows: Rows) -> dict[str, float]:
        """Error rate of a guess, if the probe predicts one of some labels."""
        return {} if self._labels is None else {ERROR_RATE.key: self._labels.chance(rows)}

    def num_frames(self, batch: Any) -> int:
        """Number of frames of a batch, of all processes."""
        return int(batch.lengths.sum()) * process_count()

    def start_from(self, start: Start) -> None:
        """Do nothing: all weights of a probe are trained, from random values."""

    # -- one batch -------------------------------------------------------------------------------

    def inputs(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """The probe's input (B, N, dim), and its frames (B,)."""
        kind = self.hparams.inputs
        if kind == "toks":
            return self.modules.inputs(batch.toks, batch.lengths)
        if kind == "qfeats":
            with torch.no_grad(), torch.autocast(self.device_type, enabled=False):
                codes = self.encoder.toks_to_codes(batch.toks, lengths=batch.lengths)  # (B, N, L)
                feats, frames = self.encoder.decompressor(codes, lengths=batch.lengths)
        else:
            assert batch.audio is not None, "read for features"
            feats, frames = self.encode(batch.audio)
        return self.modules.inputs(feats.float(), frames)

    def add_scores(self, batch: TokenBatch, stage: sb.Stage, name: str, scores: Scores) -> None:
        """Count a figure of each clip; in a test also store it for the card."""
        known = [score for score in scores if score is not None]
        sums = [sum(v * w for v, w in known), sum(w for _, w in known)]
        # Not in float64, because some devices do not have it.
        total, count = global_sum(torch.tensor(sums, device=self.device)).tolist()
        self.meters.add(name, total, count)
        if stage == sb.Stage.TEST:
            for clip, score in zip(batch.id, scores, strict=True):
                if score is not None:
                    self.clip(clip)["scores"][name] = list(score)

    def add_texts(self, batch: TokenBatch, stage: sb.Stage, texts: Sequence[str]) -> None:
        """Count WER and CER of predicted texts, after the text normaliser of the judges."""
        for name, count in (("wer", word_errors), ("cer", character_errors)):
            scores: list[tuple[float, float] | None] = []
            for row, text in zip(batch.rows, texts, strict=True):
                language = row.get("language") or self.hparams.language
                edits, units = count(row["wrd"], text, language)
                scores.append((100.0 * edits / units, float(units)) if units else None)
            self.add_scores(batch, stage, name, scores)
        self.add_predictions(batch, stage, texts)

    def add_predictions(self, batch: TokenBatch, stage: sb.Stage, texts: Sequence[str]) -> None:
        """In a test, store the prediction for each clip as text."""
        if stage == sb.Stage.TEST:
            for clip, text in zip(batch.id, texts, strict=True):
                self.clip(clip)["prediction"] = text

    def clip(self, name: str) -> dict[str, Any]:
        """Scores and texts of a clip of the test set, as in the card."""
        return self.clips.setdefault(name, {"id": name, "scores": {}})

    # -- sets ------------------------------------------------------------------------------------

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Remove the clips of the last test set."""
        super().on_stage_start(stage, epoch)
        self.clips = {}

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None) -> None:
        """Gather the clips that other processes tested."""
        if stage == sb.Stage.TEST:
            shares = gather_objects(self.clips)
            self.clips = {name: clip for share in shares for name, clip in share.items()}
        self.clips = dict(sorted(self.clips.items()))
        super().on_stage_end(stage, stage_loss, epoch)

    def on_set_start(self, name: str, rows: Rows) -> None:
        """Choose the folder of a test set."""
        self.set_folder = self.folder.path / name

    def on_set_end(self, name: str, rows: Rows) -> None:
        """Write the card of a test set, and its confusion matrix or the alignments of its texts."""
        run_on_main(self._write_card, args=[name, rows])
        tested = [row for row in rows if row["ID"] in self.clips]
        run_on_main(self._write_predictions, args=[name, tested])

    def judges(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Descriptions of the judges that scored the clips, and a line for each missing judge."""
        return [], []

    def _write_card(self, name: str, rows: Rows) -> None:
        judges, missing = self.judges()
        columns = [{**vars(column), "judge": "probe"} for column in self.columns]
        card = make_card(self.about(name, rows), self.clips, rows, columns, judges, missing)
        write_card(self.set_folder, card)

    def about(self, name: str, rows: Rows) -> dict[str, Any]:
        """What the card of a test set says of the training, see `make_card`."""
        hparams = self.hparams
        return {
            "task": hparams.task,
            "set": name,
            "codec": self.codec.describe(hparams.inputs),
            "probe": {
                "name": hparams.name,
                "inputs": hparams.inputs,
                "parameters": sum(p.numel() for p in self.modules.parameters()),
                "epochs": len(self.history),
                "tested_epoch": self.folder.tested,
            },
            "chance": self.chance([row for row in rows if row["ID"] in self.clips]),
            "seed": hparams.seed,
            "bootstrap_samples": hparams.bootstrap_samples,
            "group_by": hparams.group_by,
            "device": str(self.device),
            "command": shlex.join(["python", *sys.argv]),
        }

    def _write_predictions(self, name: str, rows: Rows) -> None:
        """Write `wer_<set>.txt`, or `confusion_<set>.csv` and `.png`, for people."""
        predicted = [self.clips[row["ID"]].get("prediction", "") for row in rows]
        if self._labels is not None and rows:
            self._write_confusion(name, self._labels, self._labels.confusion(rows, predicted))
        if WER in self.columns:
            text = f"WER {self.test_stats['wer']:.2f} %, CER {self.test_stats['cer']:.2f} %\n"
            for row, found in zip(rows, predicted, strict=True):
                language = row.get("language") or self.hparams.language
                text += f"\n{row['ID']}\n{alignment(row['wrd'], found, language)}\n"
            with atomic_path(self.folder.path / f"wer_{name}.txt") as path:
                path.write_text(text, encoding="utf-8")

    def _write_confusion(self, set_name: str, labels: Labels, counts: Any) -> None:
        file, column = self.folder.path / f"confusion_{set_name}", labels.column
        table = [dict(zip(labels.names, row, strict=True)) for row in counts.tolist()]
        rows = [{column: name, **row} for name, row in zip(labels.names, table, strict=True)]
        write_csv(f"{file}.csv", [column, *labels.names], rows)
        recall, chance = unweighted_recall(counts), 100.0 / len(labels)
        title = f"{set_name}: unweighted recall {recall:.1f} %, chance {chance:.1f} %"
        save_png(confusion_figure(counts, labels.names, column, title), f"{file}.png")
