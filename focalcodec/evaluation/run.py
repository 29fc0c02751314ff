"""The run: code the clips, judge them, write the cards.

Every process makes the same plan and does every n-th batch of it, so the result does not depend on
their number. What is done is kept clip by clip (see `folders`): the same command goes on where it
was stopped. Whoever finds everything done writes the cards.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any, TypeAlias

import torch
from filelock import FileLock
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from focalcodec.audio import read_audio, write_audio
from focalcodec.coders.coder import Coder
from focalcodec.coders.spec import CodecSpec, load_coder
from focalcodec.errors import UserError
from focalcodec.evaluation.card import finish_card
from focalcodec.evaluation.clips import ClipSet, EvalClip, describe_clips
from focalcodec.evaluation.folders import CodecFolder, SetFolder, write_json
from focalcodec.evaluation.plan import EvaluationPlan, Found, coded_key, score_key
from focalcodec.evaluation.table import card_tables
from focalcodec.files import safe_file_name
from focalcodec.metrics.judge import Clip, Judge, Verdict
from focalcodec.tokenize.plan import Shard

SAMPLE_RATE = 16000  # at which references are kept and clips are judged, Hz
LoadJudges: TypeAlias = Callable[[str, str], tuple[list[Judge], list[str]]]
_ALONE = Shard()


@dataclass
class Outcome:
    """Cards of a run that is done; of one that other processes are at, none."""

    found: Found
    cards: list[dict[str, Any]] | None


def evaluate(
    plan: EvaluationPlan, load_judges: LoadJudges, shard: Shard = _ALONE, jobs: int = 1
) -> Outcome:
    """Run a plan, or go on with it.

    Parameters
    ----------
    plan : EvaluationPlan
        What is to be done.
    load_judges : callable
        (panel, device) -> judges and, for each that is missing, a line that says how to get it.
    shard : Shard
        Which of the processes this is that torchrun or a user started.
    jobs : int
        Processes to start here, instead.

    Returns
    -------
    Outcome
        With the cards, when everything is done.

    Raises
    ------
    UserError
        No codec can be had, or one fails on a clip.
    """
    if jobs > 1:
        found = _share_among(plan, load_judges, jobs)
    else:
        found = do_share(plan, load_judges, shard)
    if not found.coders:
        raise UserError("; ".join(found.refused.values()))
    plan.out.mkdir(parents=True, exist_ok=True)
    with FileLock(plan.out / ".lock"):
        cards = []
        for clip_set in plan.sets:
            for spec in plan.codecs:
                if spec.label in found.coders:
                    cards.append(finish_card(plan, clip_set, spec, found))
    return Outcome(found, None if None in cards else [card for card in cards if card])


def print_outcome(plan: EvaluationPlan, outcome: Outcome) -> None:
    """Print the tables of a run that is done; on standard error, what was left out of it."""
    if outcome.cards is None:
        print(f"{plan.out}: this share is done; the last process writes the cards", file=sys.stderr)
        return
    for line in (*outcome.found.refused.values(), *outcome.found.missing):
        print(f"focalcodec: left out: {line}", file=sys.stderr)
    print(card_tables(outcome.cards), flush=True)


def do_share(plan: EvaluationPlan, load_judges: LoadJudges, shard: Shard) -> Found:
    """Code and judge the batches of one process."""
    found = Found()
    for spec in plan.codecs:
        try:
            coder = load_coder(spec, torch.device(plan.device), plan.window_seconds)
            if plan.task == "conversion" and not coder.converts:
                raise UserError(f"{spec.label}: has no voice conversion; leave it out of this task")
        except UserError as error:
            found.refused[spec.label] = str(error)
            continue
        found.coders[spec.label] = coder.describe()
        for clip_set in plan.sets:
            code_set(plan, clip_set, spec, coder, shard)
    for clip_set in plan.sets:
        write_json(SetFolder(plan.out, clip_set).path / "clips.json", describe_clips(clip_set))
    judges, found.missing = load_judges(plan.panel, plan.device)
    found.judges = [describe_judge(judge) for judge in judges]
    for clip_set in plan.sets:
        judge_set(plan, clip_set, found, judges, shard)
    return found


def describe_judge(judge: Judge) -> dict[str, Any]:
    """Name, columns and description of a judge, JSON-ready."""
    return {
        "name": judge.name,
        "columns": [{**vars(column), "judge": judge.name} for column in judge.columns],
        "describe": judge.describe(),
    }


# -- coding ----------------------------------------------------------------------------------------


def code_set(
    plan: EvaluationPlan, clip_set: ClipSet, spec: CodecSpec, coder: Coder, shard: Shard
) -> None:
    """Put a process' share of a set through a codec."""
    folder = CodecFolder(plan.out, clip_set, spec, shard.index)
    key = coded_key(plan, clip_set, coder.describe())
    folder.claim(key)
    done = folder.coded(key)
    code = convert_batch if plan.task == "conversion" else code_batch
    keep_references(plan, clip_set, shard)
    for batch in _bar(plan.batches(clip_set, shard), f"{clip_set.name}: {spec.label}", shard):
        missing = [clip for clip in batch if clip.id not in done]
        if not missing:
            continue
        # the whole batch again: rounding depends on a clip's neighbours, and a run that was
        # stopped is to give, bit by bit, what it would have given
        for clip, (rec_sig, record) in zip(batch, code(coder, batch), strict=True):
            if clip in missing:
                write_audio(folder.audio(clip), rec_sig, coder.sample_rate_output)
                folder.add_coded(key, clip, record)


def code_batch(coder: Coder, batch: Sequence[EvalClip]) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """Resynthesise the input of each clip."""
    sigs = [_read(clip.input) for clip in batch]
    lengths = torch.tensor([len(sig) for sig in sigs])
    coded = coder.code(pad_sequence(sigs, batch_first=True), SAMPLE_RATE, lengths)
    for index, end in enumerate(coded.lengths.tolist()):
        record: dict[str, Any] = {"bits": coded.bits[index] if coded.bits else None}
        if coded.toks:
            record["toks"] = coded.toks[index].tolist()
        yield coded.rec_sig[index, :end], record


def convert_batch(
    coder: Coder, batch: Sequence[EvalClip]
) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """Convert each clip to its wanted speaker."""
    for clip in batch:
        voice = [_read(path) for path in clip.voice]
        yield coder.convert(_read(clip.input), voice, SAMPLE_RATE), {"bits": None}


def keep_references(plan: EvaluationPlan, clip_set: ClipSet, shard: Shard) -> None:
    """Write what the outputs are compared with, as it is judged and listened to."""
    folder = SetFolder(plan.out, clip_set, shard.index)
    folder.claim()
    kept = folder.kept()
    for clip in itertools.chain(*plan.batches(clip_set, shard)):
        if clip.id in kept:
            continue
        parts = {"reference": clip.reference, "target": clip.target}
        if clip.input != clip.reference:
            parts["input"] = clip.input
        for part, source in parts.items():
            if source:
                write_audio(folder.audio(part, clip), _read(source), SAMPLE_RATE)
        folder.add_kept(clip)


# -- judging ---------------------------------------------------------------------------------------


def judge_set(
    plan: EvaluationPlan, clip_set: ClipSet, found: Found, judges: Sequence[Judge], shard: Shard
) -> None:
    """Let the judges hear a process' share of a set, each codec's output in turn."""
    specs = [spec for spec in plan.codecs if spec.label in found.coders]
    folders = {spec: CodecFolder(plan.out, clip_set, spec, shard.index) for spec in specs}
    todo: dict[CodecSpec, list[tuple[Judge, str, set[str]]]] = {spec: [] for spec in specs}
    for spec in specs:
        for judge, about in zip(judges, found.judges, strict=True):
            key = score_key(plan, clip_set, found.coders[spec.label], about)
            done = set(folders[spec].scores(safe_file_name(judge.name), key))
            todo[spec].append((judge, key, done))
    for batch in _bar(plan.batches(clip_set, shard), f"{clip_set.name}: judges", shard):
        ids = {clip.id for clip in batch}
        for spec in specs:
            left = [(judge, key, done) for judge, key, done in todo[spec] if not ids <= done]
            if not left:
                continue
            clips = [read_clip(plan, clip_set, folders[spec], clip) for clip in batch]
            for judge, key, done in left:
                for clip, verdict in zip(batch, judge.score(clips), strict=True):
                    if clip.id not in done:
                        folders[spec].add_score(
                            safe_file_name(judge.name), key, clip, _record(verdict)
                        )


def read_clip(plan: EvaluationPlan, clip_set: ClipSet, folder: CodecFolder, clip: EvalClip) -> Clip:
    """What a judge is given of a clip: the very files that one can listen to."""
    kept = SetFolder(plan.out, clip_set)
    return Clip(
        id=clip.id,
        ref_sig=_read(kept.audio("reference", clip)),
        rec_sig=_read(folder.audio(clip)),
        sample_rate=SAMPLE_RATE,
        text=clip.text,
        language=clip.language,
        target_sig=_read(kept.audio("target", clip)) if clip.target else None,
    )


# -- processes -------------------------------------------------------------------------------------


def _share_among(plan: EvaluationPlan, load_judges: LoadJudges, jobs: int) -> Found:
    threads = max(1, torch.get_num_threads() // jobs)
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), torch.set_num_threads, (threads,)
    ) as executor:
        shares = [
            executor.submit(do_share, plan, load_judges, Shard(index, jobs))
            for index in range(jobs)
        ]
        try:
            return [share.result() for share in shares][0]
        except BrokenProcessPool as error:
            raise UserError(
                f"jobs={jobs}: a process was ended from outside (out of memory?); give a smaller"
                " number; what is done is kept"
            ) from error
        except BaseException:
            for process in active_children():  # they would go on to the end of their shares
                process.terminate()
            raise


def _record(verdict: Verdict) -> dict[str, Any]:
    scores = {
        key: [float(score.value), float(score.weight)] for key, score in verdict.scores.items()
    }
    return {"scores": scores, "transcript": verdict.transcript}


def _read(path: str | Path) -> Tensor:
    return read_audio(path, SAMPLE_RATE, channels="mix")


def _bar(batches: list[list[EvalClip]], what: str, shard: Shard) -> tqdm:
    # disable=None: silent where standard error is not a terminal
    return tqdm(batches, what, unit="batch", disable=None if shard.index == 0 else True)


def load_panel_judges(panel: str, device: str) -> tuple[list[Judge], list[str]]:
    """Judges of a panel that are installed, and what is missing; "none" has none.

    Raises
    ------
    UserError
        No such panel.

    Example
    -------
    >>> load_panel_judges("none", "cpu")
    ([], [])
    """
    if panel == "none":
        return [], []
    from focalcodec.metrics.panels import load_panel

    return load_panel(panel, device)
