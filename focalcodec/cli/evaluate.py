"""`focalcodec eval`: codecs on the same clips, judged; tables of results: `probes`, `ablations`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from focalcodec.choices import RESAMPLES, TASKS
from focalcodec.cli.main import DONE, SOME_FAILED
from focalcodec.cli.models import add_trust_option
from focalcodec.cli.options import (
    DEVICE_HELP,
    add_batch_option,
    add_jobs_option,
    add_window_option,
    positive_int,
)
from focalcodec.coders import KINDS, parse_specs
from focalcodec.errors import UserError
from focalcodec.hub import shipped_text

if TYPE_CHECKING:
    from focalcodec.evaluation.sets import SetOptions

EVAL_EXAMPLES = f"""examples:
  focalcodec eval clips/ results/eval --codecs my_codec original opus:6 codec2:700C
  focalcodec eval test.csv results/eval --data_folder /data --codecs my_codec --report
  focalcodec eval --compare results/eval/test/my_codec results/eval/test/opus-6

codecs (with NAME= before it, a codec has this name in tables):
  FOLDER, OWNER/NAME[@REVISION] or a codec of the package ({shipped_text()}), a FocalCodec
""" + "".join(f"  {text}\n" for _, text in KINDS.values())
PROBES_EXAMPLES = """examples:
  focalcodec probes results
  focalcodec probes results/asr results/sid
"""
ABLATIONS_EXAMPLES = """examples:
  focalcodec ablations results/ablations
  focalcodec ablations results/ablations --json > ablations.json
"""


def add_eval_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `focalcodec eval`."""
    parser.epilog = EVAL_EXAMPLES
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="SOURCE... OUT",
        help="folders of audio or manifests (.csv), each a set of clips; then the output folder, in"
        " which the same command resumes a stopped run",
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar="CARD",
        help="show which differences between two results on the same clips are significant",
    )
    parser.add_argument(
        "--codecs", nargs="+", metavar="CODEC", help="codecs to evaluate, see below; after OUT"
    )
    add_trust_option(parser)
    _add_set_options(parser)
    group = parser.add_argument_group("judges")
    group.add_argument(
        "--panel",
        default="offline",
        help="judges: offline (weights from pip packages), offline_tiny (the same without Whisper"
        " base), paper (weights from the hub) or none (default: %(default)s)",
    )
    group.add_argument("--report", action="store_true", help="also write OUT/report.html")
    group.add_argument(
        "--bootstrap_samples",
        type=positive_int,
        default=RESAMPLES,
        metavar="N",
        help="resamples of the clips for confidence intervals (default: %(default)s)",
    )
    _add_work_options(parser)


def _add_set_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sets")
    group.add_argument(
        "--task",
        choices=TASKS,
        default="resynthesis",
        help="resynthesis; denoising: the input is the manifest's column noisy, the reference is"
        " wav; conversion: each clip in the voice of another speaker (default: %(default)s)",
    )
    group.add_argument("--data_folder", help="folder that replaces $data_root in a manifest")
    group.add_argument(
        "--kind",
        nargs="+",
        default=[],
        metavar="[SET=]KIND",
        help="kind of speech, synthetic or real, of all sets or of one set, if a manifest has no"
        " column kind",
    )
    group.add_argument(
        "--language",
        default="en",
        help="language, if a manifest has no column language (default: %(default)s)",
    )
    group.add_argument(
        "--max_clips",
        type=positive_int,
        metavar="N",
        help="evaluate N random clips of each set (default: all)",
    )
    group.add_argument(
        "--seed",
        type=int,
        default=1986,
        help="seed of random choices and confidence intervals (default: %(default)s)",
    )


def _add_work_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("work")
    group.add_argument("--device", default="auto", help=DEVICE_HELP)
    add_batch_option(group, 60.0)
    add_window_option(group)
    group.add_argument(
        "--speed_clips",
        type=int,
        default=4,
        metavar="N",
        help="measure speed and memory on N clips, 0 for none (default: %(default)s)",
    )
    add_jobs_option(group)


def run_eval(args: argparse.Namespace) -> int:
    """Evaluate codecs, or compare two results."""
    if args.compare:
        from focalcodec.evaluation.summary import compare_cards, comparison_text, read_card

        if args.paths or args.codecs:
            raise UserError("--compare: takes two cards only; leave out SOURCE, OUT and --codecs")
        first, second = map(read_card, args.compare)
        print(comparison_text(first, second, compare_cards(first, second)))
        return DONE
    if len(args.paths) < 2:
        raise UserError("SOURCE... OUT: give at least one source, and the output folder last")
    from focalcodec.evaluation import EvaluationPlan
    from focalcodec.evaluation.run import evaluate, load_panel_judges, print_outcome
    from focalcodec.evaluation.sets import read_sets
    from focalcodec.precision import pick_device, set_process_device
    from focalcodec.processes import Shard

    *sources, out = args.paths
    set_process_device()
    plan = EvaluationPlan(
        sets=tuple(
            found for source in sources for found in read_sets(source, _set_options(args, source))
        ),
        codecs=parse_specs(args.codecs or (), args.trust),
        out=Path(out).expanduser(),
        task=args.task,
        panel=args.panel,
        device=str(pick_device(args.device)),
        seed=args.seed,
        bootstrap_samples=args.bootstrap_samples,
        batch_seconds=args.batch_seconds,
        window_seconds=args.window_seconds,
        speed_clips=args.speed_clips,
        command=shlex.join(["focalcodec", *sys.argv[1:]]),
    )
    outcome = evaluate(plan, load_panel_judges, Shard.from_environment(os.environ), args.jobs)
    print_outcome(plan, outcome)
    if args.report and outcome.cards is not None:
        from focalcodec.report import write_report

        print(f"\nreport: {write_report(plan.out)}", file=sys.stderr)
    return SOME_FAILED if outcome.loaded.refused else DONE


def _set_options(args: argparse.Namespace, source: str) -> SetOptions:
    from focalcodec.evaluation.sets import SetOptions, set_name

    kinds = {name: kind for name, _, kind in (word.rpartition("=") for word in args.kind)}
    name = set_name(source)
    return SetOptions(
        args.task,
        args.data_folder,
        kinds.get(name, kinds.get("", "")),
        args.language,
        args.seed,
        args.max_clips,
    )


# -- probes ----------------------------------------------------------------------------------------


def add_probes_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `focalcodec probes`."""
    parser.epilog = PROBES_EXAMPLES
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="run folders of probes, or folders above them"
    )


def run_probes(args: argparse.Namespace) -> int:
    """Print the table."""
    from focalcodec.probes.cards import probe_table, read_cards

    cards = [card for folder in args.folders for card in read_cards(folder)]
    print(probe_table(cards))
    return DONE


# -- ablations -------------------------------------------------------------------------------------


def add_ablations_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `focalcodec ablations`."""
    parser.epilog = ABLATIONS_EXAMPLES
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="output folders of evaluations, or above them"
    )
    parser.add_argument(
        "--base", default="base", help="row that others are compared with (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")


def run_ablations(args: argparse.Namespace) -> int:
    """Print the tables."""
    import json

    from focalcodec.evaluation.ablations import ablation_tables, ablations, read_cards

    sets = ablations(read_cards(args.folders), args.base)
    print(json.dumps(sets, indent=1) if args.json else ablation_tables(sets))
    return DONE
