"""The run of an evaluation: code the clips, score them with judges, write the cards.

Every process makes the same plan and works on every n-th batch of it, so the result does not depend
on the number of processes. Results are recorded clip by clip (see `plan`), so the same command
resumes a stopped run. A process that finds all clips complete writes the cards.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from focalcodec.audio import read_audio, write_audio
from focalcodec.coders import CodecSpec, load_coder
from focalcodec.coders.coder import Coder
from focalcodec.errors import UserError
from focalcodec.evaluation import (
    CodecFolder,
    EvaluationPlan,
    Loaded,
    SetFolder,
    coded_key,
    counted,
    plan_text,
    score_key,
    write_json,
)
from focalcodec.evaluation.card import finish_card
from focalcodec.evaluation.sets import ClipSet, EvalClip, describe_clips
from focalcodec.evaluation.summary import card_tables
from focalcodec.files import safe_file_name
from focalcodec.metrics.judge import Judge, JudgedClip, Verdict
from focalcodec.processes import FolderLock, Progress, Shard, in_processes
from focalcodec.progress import ProgressBar

SAMPLE_RATE = 16000  # of stored references and of judges' input, Hz
LoadJudges: TypeAlias = Callable[[str, str], tuple[list[Judge], list[str]]]
_ALONE = Shard()


@dataclass
class Outcome:
    """Result of `evaluate`."""

    loaded: Loaded
    cards: list[dict[str, Any]] | None
    """Cards of a complete run; None while other processes work on it."""


def evaluate(
    plan: EvaluationPlan, load_judges: LoadJudges, shard: Shard = _ALONE, jobs: int = 1
) -> Outcome:
    """Start or resume the run of a plan.

    Parameters
    ----------
    plan : EvaluationPlan
        The plan of the run.
    load_judges : callable
        (panel, device) -> judges, and for each missing judge a line with the way to install it.
    shard : Shard
        Index of this process and number of processes, if torchrun or a user started several.
    jobs : int
        Number of processes to start here, instead of a shard.

    Raises
    ------
    UserError
        No codec can be loaded, or one fails on a clip.
    """
    if jobs > 1:
        loaded = _do_all_shares(plan, load_judges, jobs)
    else:
        loaded = do_share(plan, load_judges, shard)
    if not loaded.coders:
        raise UserError("; ".join(loaded.refused.values()))
    # Processes that end at the same time must not write the same card.
    specs = [spec for spec in plan.codecs if spec.label in loaded.coders]
    total = len(plan.sets) * len(specs)
    with (
        FolderLock(plan.out),
        ProgressBar(what="speed and cards", total=total, unit="cards", leave=False) as bar,
    ):
        cards = []
        for clip_set, spec in itertools.product(plan.sets, specs):
            cards.append(finish_card(plan, clip_set, spec, loaded))
            bar.update()
    return Outcome(loaded, None if None in cards else [card for card in cards if card])


def print_outcome(plan: EvaluationPlan, outcome: Outcome) -> None:
    """Print the tables of a complete run, and skipped codecs and judges on standard error."""
    if outcome.cards is None:
        print(
            f"{plan.out}: this share is done; the last process writes the cards",
            file=sys.stderr,
        )
        return
    for line in (*outcome.loaded.refused.values(), *outcome.loaded.missing):
        print(f"focalcodec: skipped: {line}", file=sys.stderr)
    print(card_tables(outcome.cards), flush=True)
    cards = counted(len(outcome.cards), "result card")
    print(f"\n{plan.out}: {cards}, SET/CODEC/card.json", file=sys.stderr)


def do_share(plan: EvaluationPlan, load_judges: LoadJudges, shard: Shard) -> Loaded:
    """Code and score the batches of one process."""
    loaded = Loaded()
    # Judges are found first, so that a missing one is known before the work. They load their
    # weights when they score: codecs run one after the other, and only one model is in memory.
    judges, loaded.missing = load_judges(plan.panel, plan.device)
    loaded.judges = [describe_judge(judge) for judge in judges]
    if shard.index == 0:
        print(plan_text(plan, loaded), file=sys.stderr, flush=True)
    count = sum(len(batch) for clip_set in plan.sets for batch in plan.batches(clip_set, shard))
    show = shard.index == 0
    with ProgressBar(what="code", total=count * len(plan.codecs), unit="clips", show=show) as bar:
        for spec in plan.codecs:
            _code_sets(plan, spec, loaded, shard, bar)
            bar.total = count * (len(plan.codecs) - len(loaded.refused))
    for clip_set in plan.sets:
        write_json(SetFolder(plan.out, clip_set).path / "clips.json", describe_clips(clip_set))
    if judges:
        total = count * len(loaded.coders)
        with ProgressBar(what="judge", total=total, unit="clips", show=show) as bar:
            for clip_set in plan.sets:
                judge_set(plan, clip_set, loaded, judges, shard, bar)
    return loaded


def describe_judge(judge: Judge) -> dict[str, Any]:
    """Return name, columns and description of a judge, JSON-ready."""
    return {
        "name": judge.name,
        "columns": [{**vars(column), "judge": judge.name} for column in judge.columns],
        "describe": judge.describe(),
    }


# -- coding ----------------------------------------------------------------------------------------


def _code_sets(
    plan: EvaluationPlan, spec: CodecSpec, loaded: Loaded, shard: Shard, bar: ProgressBar
) -> None:
    """Code a process' share of all sets with one codec."""
    bar.set_description_str(f"code, {spec.label}: ", refresh=False)
    try:
        coder = load_coder(spec, torch.device(plan.device), plan.window_seconds)
        if plan.task == "conversion" and not coder.converts:
            raise UserError(f"{spec.label}: has no voice conversion; leave it out of this task")
    except UserError as error:
        loaded.refused[spec.label] = str(error)
        return
    loaded.coders[spec.label] = coder.describe()
    for clip_set in plan.sets:
        code_set(plan, clip_set, spec, coder, shard, bar)


def code_set(
    plan: EvaluationPlan,
    clip_set: ClipSet,
    spec: CodecSpec,
    coder: Coder,
    shard: Shard,
    bar: ProgressBar,
) -> None:
    """Code a process' share of a set."""
    folder = CodecFolder(plan.out, clip_set, spec, shard.index)
    key = coded_key(plan, clip_set, coder.describe())
    folder.claim(key)
    done = folder.coded(key)
    code = convert_batch if plan.task == "conversion" else code_batch
    copy_references(plan, clip_set, shard)
    for batch in plan.batches(clip_set, shard):
        missing = [clip for clip in batch if clip.id not in done]
        if not missing:
            bar.update(len(batch))
            continue
        # The whole batch is coded again: rounding depends on the other clips of a batch, and a
        # resumed run must give the same bits as a run without interruption.
        for clip, (rec_sig, record) in zip(batch, code(coder, batch), strict=True):
            if clip in missing:
                write_audio(folder.audio(clip), rec_sig, coder.sample_rate_output)
                folder.add_coded(key, clip, record)
        bar.update(len(batch))


def code_batch(coder: Coder, batch: Sequence[EvalClip]) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """Code the input of each clip; yield rec_sig (T,) and its record."""
    sigs = [_read(clip.input) for clip in batch]
    lengths = torch.tensor([len(sig) for sig in sigs])  # (B,)
    coded = coder.code(pad_sequence(sigs, batch_first=True), SAMPLE_RATE, lengths)
    for index, end in enumerate(coded.lengths.tolist()):
        record: dict[str, Any] = {"bits": coded.bits[index] if coded.bits else None}
        if coded.toks:
            record["toks"] = coded.toks[index].tolist()
        yield coded.rec_sig[index, :end], record


def convert_batch(
    coder: Coder, batch: Sequence[EvalClip]
) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """Convert each clip to its target speaker; yield rec_sig (T,) and its record."""
    for clip in batch:
        voice = [_read(path) for path in clip.voice]
        yield coder.convert(_read(clip.input), voice, SAMPLE_RATE), {"bits": None}


def copy_references(plan: EvaluationPlan, clip_set: ClipSet, shard: Shard) -> None:
    """Write the references in the form that judges and listeners get."""
    folder = SetFolder(plan.out, clip_set, shard.index)
    folder.claim()
    copied = folder.copied()
    for clip in itertools.chain(*plan.batches(clip_set, shard)):
        if clip.id in copied:
            continue
        for part, source in clip.parts.items():
            write_audio(folder.audio(part, clip), _read(source), SAMPLE_RATE)
        folder.add_copied(clip)


# -- judging ---------------------------------------------------------------------------------------


def judge_set(
    plan: EvaluationPlan,
    clip_set: ClipSet,
    loaded: Loaded,
    judges: Sequence[Judge],
    shard: Shard,
    bar: ProgressBar,
) -> None:
    """Score a process' share of a set, codec by codec."""
    specs = [spec for spec in plan.codecs if spec.label in loaded.coders]
    folders = {spec: CodecFolder(plan.out, clip_set, spec, shard.index) for spec in specs}
    todo: dict[CodecSpec, list[tuple[Judge, str, set[str]]]] = {spec: [] for spec in specs}
    for spec in specs:
        for judge, about in zip(judges, loaded.judges, strict=True):
            key = score_key(plan, clip_set, loaded.coders[spec.label], about)
            done = set(folders[spec].scores(safe_file_name(judge.name), key))
            todo[spec].append((judge, key, done))
    for batch in plan.batches(clip_set, shard):
        ids = {clip.id for clip in batch}
        for spec in specs:
            left = [(judge, key, done) for judge, key, done in todo[spec] if not ids <= done]
            # Audio is read once for all judges.
            clips = [judged_clip(plan, clip_set, folders[spec], clip) for clip in batch if left]
            for judge, key, done in left:
                for clip, verdict in zip(batch, judge.score(clips), strict=True):
                    if clip.id not in done:
                        folders[spec].add_score(
                            safe_file_name(judge.name), key, clip, _record(verdict)
                        )
            bar.update(len(batch))


def judged_clip(
    plan: EvaluationPlan, clip_set: ClipSet, folder: CodecFolder, clip: EvalClip
) -> JudgedClip:
    """Return the input of a judge: the same files that people listen to."""
    references = SetFolder(plan.out, clip_set)
    return JudgedClip(
        id=clip.id,
        ref_sig=_read(references.audio("reference", clip)),
        rec_sig=_read(folder.audio(clip)),
        sample_rate=SAMPLE_RATE,
        text=clip.text,
        language=clip.language,
        target_sig=_read(references.audio("target", clip)) if clip.target else None,
    )


# -- processes -------------------------------------------------------------------------------------


def _do_all_shares(plan: EvaluationPlan, load_judges: LoadJudges, jobs: int) -> Loaded:
    shards = [Shard(index, jobs) for index in range(jobs)]
    work = partial(_work, plan, load_judges)
    shares = {shard.index: loaded for shard, loaded in in_processes(_no_setup, work, shards, jobs)}
    return shares[0]


def _work(
    plan: EvaluationPlan, load_judges: LoadJudges, state: None, shard: Shard, progress: Progress
) -> Loaded:
    return do_share(plan, load_judges, shard)


def _no_setup() -> None:
    pass


def _record(verdict: Verdict) -> dict[str, Any]:
    scores = {
        key: [float(score.value), float(score.weight)] for key, score in verdict.scores.items()
    }
    return {"scores": scores, "transcript": verdict.transcript}


def _read(path: str | Path) -> Tensor:
    return read_audio(path, SAMPLE_RATE, channels="mix")


def load_panel_judges(panel: str, device: str) -> tuple[list[Judge], list[str]]:
    """Load the installed judges of a panel, and return them with a line for each missing one.

    The panel "none" has no judges. UserError for an unknown panel.
    """
    if panel == "none":
        return [], []
    from focalcodec.metrics import load_panel

    return load_panel(panel, device)
