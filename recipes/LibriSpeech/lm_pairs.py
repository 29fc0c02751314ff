"""Tests of a language model of speech: of two sequences, the natural one should be more probable.

Made from any corpus: swapped second halves of two clips, and a change of the speaker in the middle
of a clip. From files, for who has them: SALMon (arXiv 2409.07437), sBLIMP of ZeroSpeech 2021, and
sStoryCloze or tStoryCloze of TWIST.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from focalcodec.audio import read_audio
from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError
from focalcodec.evaluation.intervals import figure
from focalcodec.files import AUDIO_SUFFIXES
from focalcodec.lm import SpeechLM, Vocabulary, target_nats
from focalcodec.lm.packing import collate_rows
from focalcodec.probes.token_dataset import TokenDataset
from focalcodec.probes.tokens import ProbeCodec

FEWEST = 8  # tokens of a clip that has two halves


@torch.no_grad()
def nats_a_token(model: SpeechLM, vocabulary: Vocabulary, clips: Sequence[Tensor]) -> Tensor:
    """-ln p of each clip's toks (N,), mean over its tokens and its end: (B,)."""
    made = [vocabulary.utterance(["speech"], "", toks) for toks in clips]
    items = [{"id": "", **each._asdict(), "length": len(each.ids)} for each in made]
    batch = collate_rows(items).to(model.table.device)
    nats, counts = target_nats(model.eval(), batch.ids, batch.is_target)
    return (nats / counts).cpu()


def right(natural: float, other: float) -> float:
    """1 if the natural one has the lower value, 0.5 if both are equal, else 0."""
    return 0.5 * (natural < other) + 0.5 * (natural <= other)


def compare_clips(
    model: SpeechLM, vocabulary: Vocabulary, dataset: TokenDataset, seed: int
) -> dict[str, dict[str, float]]:
    """Result of both tests for each clip of a set by its id: 1 is right, 0 wrong.

    Halves: clips A1 A2 and B1 B2 against A1 B2 and B1 A2. Speaker: the first half of a clip and the
    second half of another clip of the speaker, against one of another speaker. So both sequences
    of a pair have a cut.
    """
    clips = [dataset.store[place] for place in dataset.places[:, 0].tolist()]
    usable = [k for k, toks in enumerate(clips) if len(toks) >= FEWEST]
    random = np.random.default_rng(stable_seed(seed, "pairs"))
    halves, speakers = {}, {}
    for k in usable:
        name, others = dataset.rows[k]["ID"], [j for j in usable if j != k]
        groups: dict[bool, list[int]] = {True: [], False: []}
        for j in others:
            groups[dataset.rows[j]["spk_id"] == dataset.rows[k]["spk_id"]].append(j)
        if others:
            a, b = clips[k], clips[random.choice(others)]
            values = nats_a_token(model, vocabulary, [a, b, joined(a, b), joined(b, a)]).tolist()
            halves[name] = right(values[0] + values[1], values[2] + values[3])
        if groups[True] and groups[False]:
            same, other = (clips[random.choice(groups[kind])] for kind in (True, False))
            pair = [joined(clips[k], same), joined(clips[k], other)]
            speakers[name] = right(*nats_a_token(model, vocabulary, pair).tolist())
    return {"swapped_halves": halves, "speaker_switch": speakers}


def joined(first: Tensor, second: Tensor) -> Tensor:
    """First half of toks (N,), and second half of other toks."""
    return torch.cat([first[: len(first) // 2], second[len(second) // 2 :]])


# -- files -----------------------------------------------------------------------------------------


def compare_files(
    model: SpeechLM, vocabulary: Vocabulary, codec: ProbeCodec, folder: str | Path
) -> dict[str, tuple[float, float, float, int]]:
    """Right answers in %, their 95 % interval and the number of pairs, of each task of a folder."""
    found = {}
    for task, pairs in read_pairs(folder).items():
        scores = []
        for pair in pairs:
            sigs = [
                read_audio(path, codec.tokenizer.sample_rate_input, channels="mix") for path in pair
            ]
            toks = [codec.tokenizer.encode([sig])[0] for sig in sigs]
            scores.append(100.0 * right(*nats_a_token(model, vocabulary, toks).tolist()))
        made = figure(scores, [1.0] * len(scores))
        found[task] = (made.value, made.low, made.high, made.count)
    return found


def read_pairs(folder: str | Path) -> dict[str, list[tuple[Path, Path]]]:
    """Pairs of a natural and another file, by task.

    A folder with `gold.csv` is one of ZeroSpeech 2021 (columns id, voice, filename, correct). A
    folder of folders has one task in each, as SALMon; a folder of files has one task, "". In these
    two the files of a pair have the same first number in their names, and the natural one is the
    first in the order of names: `1_correct.wav`, `1_incorrect.wav`.

    Raises `UserError` if there is no such folder, or no pair in it.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UserError(
            f"pairs: {folder}: no such folder; give that of SALMon, sBLIMP or StoryCloze"
        )
    if (root / "gold.csv").is_file():
        tasks = {"": _gold_pairs(root)}
    else:
        tasks = {below.name: _numbered_pairs(below) for below in sorted(root.iterdir())}
        tasks = {name: pairs for name, pairs in tasks.items() if pairs} or {
            "": _numbered_pairs(root)
        }
    if not any(tasks.values()):
        raise UserError(f"pairs: {folder}: no pairs of audio files; see docs/generation.md")
    return tasks


def _gold_pairs(root: Path) -> list[tuple[Path, Path]]:
    pairs: dict[tuple[str, str], dict[str, Path]] = {}
    with (root / "gold.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if not {"id", "filename", "correct"} <= row.keys():
                raise UserError(f"{root / 'gold.csv'}: no columns id, filename and correct")
            both = pairs.setdefault((row["id"], row.get("voice", "")), {})
            both[row["correct"]] = root / Path(row["filename"]).with_suffix(".wav")
    return [(both["1"], both["0"]) for both in pairs.values() if {"0", "1"} <= both.keys()]


def _numbered_pairs(folder: Path) -> list[tuple[Path, Path]]:
    numbered: dict[int, list[Path]] = {}
    for path in _audio_files(folder):
        number = re.search(r"\d+", path.stem)
        if number:
            numbered.setdefault(int(number[0]), []).append(path)
    return [(files[0], files[1]) for _, files in sorted(numbered.items()) if len(files) == 2]


def _audio_files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if path.suffix in AUDIO_SUFFIXES)
