r"""Leave each actor out in turn: train the probe on the others, and test it on this one.

python leave_one_out.py hparams/emotion_emodb.yaml --data_folder /data/EMO-DB
python leave_one_out.py hparams/emotion_emodb.yaml --data_folder /data/EMO-DB \
    --all_inputs "[toks]" --codec mimi:8 --seeds "[1986, 1987, 1988]"

The same command resumes. Runs are in <output_folder>/<inputs>/<seed>/<actor>.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from pathlib import Path

import numpy as np
import train
from iemocap_prepare import find_actors

from focalcodec.coders import parse_spec
from focalcodec.errors import UserError
from focalcodec.evaluation.summary import markdown
from focalcodec.files import atomic_path
from focalcodec.probes.targets import unweighted_recall
from focalcodec.probes.tokens import INPUTS
from focalcodec.training import run
from focalcodec.training.pictures import confusion_figure, save_png
from focalcodec.training.run.command import read_command
from focalcodec.training.run.config import read_tree

# Keys that differ between the runs.
OWN = ("all_inputs", "inputs", "seed", "seeds", "output_folder", "test_actor")


def main(argv: list[str]) -> None:
    """Train and test once for each input, seed and actor; print and write the table."""
    command = read_command(argv, with_run_options=True)
    hparams = read_tree(command.file, command.overrides)
    if hparams["data_folder"] is None:
        raise UserError("data_folder: name the root of the corpus; toy classes have no actors")
    actors = find_actors(hparams["data_folder"], hparams["corpus"])
    kinds, seeds = hparams["all_inputs"], hparams["seeds"] or [hparams["seed"]]
    for kind in {*kinds} - {*INPUTS}:
        raise UserError(f"all_inputs: {kind!r} is not one of {', '.join(INPUTS)}")
    codec = parse_spec(str(hparams["codec"])).folder
    folder = Path(hparams["output_folder"] or Path("results", hparams["name"], codec))
    shared = run.without(argv, OWN)
    for kind, seed, actor in product(kinds, seeds, actors):
        print(f"{kind}, seed {seed}: actor {actor} is left out", flush=True)
        own = (f"--inputs={kind}", f"--seed={seed}", f"--test_actor={actor}")
        train.main([*shared, *own, f"--output_folder={folder / kind / str(seed) / actor}"])
    counts = {}
    for kind in kinds:
        runs = [[folder / kind / str(seed) / actor for seed in seeds] for actor in actors]
        emotions, counts[kind] = read_counts(runs)
        title = f"{kind}: unweighted recall {unweighted_recall(counts[kind].sum(axis=0)):.1f} %"
        figure = confusion_figure(counts[kind].sum(axis=0), emotions, hparams["label"], title)
        save_png(figure, folder / f"confusion_{kind}.png")
    text = table(counts, emotions, hparams["bootstrap_samples"])
    with atomic_path(folder / "table.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    print(f"\n{text}\n\n{folder}: table.md, confusion matrices", flush=True)


def read_counts(runs: Sequence[Sequence[Path]]) -> tuple[list[str], np.ndarray]:
    """Emotions, and counts (actors, true emotions, predicted emotions) over each actor's runs."""
    counts, found = [], set()
    for some in runs:
        counts.append(0)
        for path in some:
            with (path / "confusion_test.csv").open(encoding="utf-8", newline="") as file:
                _, *names = next(reader := csv.reader(file))
                counts[-1] += np.array([row[1:] for row in reader], dtype=np.int64)
            found.add(tuple(names))
    if len(found) > 1:
        raise UserError(f"{runs[0][0]}: other emotions than in another run; leave clips out")
    return list(names), np.stack(counts)


def table(counts: Mapping[str, np.ndarray], emotions: Sequence[str], draws: int) -> str:
    """Recall for each input, and differences, with 95 % bootstrap intervals over actors.

    Example
    -------
    >>> one = np.array([[[4, 0], [1, 3]], [[4, 0], [1, 3]]])
    >>> print(table({"toks": one}, ["angry", "sad"], 100))
    | input  | unweighted recall % ↑ | angry | sad  |
    |--------|-----------------------|-------|------|
    | toks   | 87.5 [87.5, 87.5]     | 100.0 | 75.0 |
    | chance | 50.0                  |       |      |
    <BLANKLINE>
    [95 % interval over 2 actors]
    """
    actors = len(next(iter(counts.values())))
    drawn = np.random.default_rng(0).integers(actors, size=(draws, actors))
    rows, figures = [], {}
    for kind, found in counts.items():
        pooled = found.sum(axis=0)
        bootstrap = [unweighted_recall(found[chosen].sum(axis=0)) for chosen in drawn]
        figures[kind] = (unweighted_recall(pooled), np.array(bootstrap))
        each = 100.0 * pooled.diagonal() / pooled.sum(axis=1)
        rows.append([kind, _figure(*figures[kind]), *(f"{value:.1f}" for value in each)])
    rows.append(["chance", f"{100.0 / len(emotions):.1f}", *[""] * len(emotions)])
    lines = [markdown(["input", "unweighted recall % ↑", *emotions], rows), ""]
    lines.append(f"[95 % interval over {actors} actors]")
    for first, second in combinations(figures, 2):
        (a, some), (b, others) = figures[first], figures[second]
        lines.append(f"{second} - {first}: {_figure(b - a, others - some)}")
    return "\n".join(lines)


def _figure(value: float, drawn: np.ndarray) -> str:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


if __name__ == "__main__":
    run.script(main, each_seed=False)
