"""`focalcodec eval`: codecs side by side on the same clips, judged, with a card for each."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from focalcodec.cli.main import DONE, SOME_FAILED
from focalcodec.cli.options import (
    add_window_option,
    positive_float,
    positive_int,
)
from focalcodec.coders.spec import KINDS, parse_specs
from focalcodec.device import pick_device, set_process_device
from focalcodec.errors import UserError
from focalcodec.evaluation.clips import TASKS, SetOptions, read_sets, source_name
from focalcodec.evaluation.intervals import RESAMPLES
from focalcodec.evaluation.plan import EvaluationPlan
from focalcodec.evaluation.run import evaluate, load_panel_judges, print_outcome
from focalcodec.evaluation.summary import compare_cards, comparison_text, read_card
from focalcodec.tokenize.plan import Shard

EXAMPLES = """examples:
  focalcodec eval clips/ results/eval --codecs my_codec original opus:6 codec2:700C
  focalcodec eval test.csv results/eval --data_folder /data --codecs my_codec --report
  focalcodec eval --compare results/eval/test/my_codec results/eval/test/opus-6

codecs (NAME= before any of them names it):
  FOLDER, OWNER/NAME[@REVISION] or demo, a FocalCodec
""" + "".join(f"  {text}\n" for _, text in KINDS.values())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `run` reads."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="SOURCE... OUT",
        help="folders of audio or manifests (.csv), each a set; then the folder of the run, which"
        " goes on where it was stopped",
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar="CARD",
        help="of two cards on the same clips: which differences are real",
    )
    parser.add_argument("--codecs", nargs="+", metavar="CODEC", help="after OUT; see below")
    _add_set_options(parser)
    group = parser.add_argument_group("judges")
    group.add_argument(
        "--panel",
        default="offline",
        help="offline (weights from pip packages), offline_tiny (the same without Whisper base),"
        " paper (weights from the hub) or none (default: %(default)s)",
    )
    group.add_argument("--report", action="store_true", help="write OUT/report.html too")
    group.add_argument("--bootstrap_samples", type=positive_int, default=RESAMPLES, metavar="N")
    _add_work_options(parser)


def _add_set_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sets")
    group.add_argument(
        "--task",
        choices=TASKS,
        default="resynthesis",
        help="denoising: the manifest's column noisy is what codecs hear, wav what they are"
        " compared with; conversion: each clip in another speaker's voice (default: %(default)s)",
    )
    group.add_argument("--data_folder", help="$data_root of a manifest")
    group.add_argument(
        "--kind",
        nargs="+",
        default=[],
        metavar="[SET=]KIND",
        help="synthetic or real, of all sets or of one, where a manifest has no column kind",
    )
    group.add_argument(
        "--language", default="en", help="where a manifest has no column language (default: en)"
    )
    group.add_argument("--max_clips", type=positive_int, metavar="N", help="of each set, at random")
    group.add_argument("--seed", type=int, default=1986, help="of choices and intervals")


def _add_work_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("work")
    group.add_argument("--device", default="auto", help="cpu, cuda ...; auto takes a GPU if any")
    group.add_argument(
        "--batch_seconds",
        type=positive_float,
        default=60.0,
        metavar="S",
        help="audio of a batch, padding included (default: %(default)g)",
    )
    add_window_option(parser)
    group.add_argument(
        "--speed_clips",
        type=int,
        default=4,
        metavar="N",
        help="that speed and memory are measured on, 0 for none (default: %(default)s)",
    )
    group.add_argument(
        "--jobs",
        type=positive_int,
        default=1,
        metavar="N",
        help="processes, each with models of its own; or start it by torchrun",
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate, or compare."""
    if args.compare:
        if args.paths or args.codecs:
            raise UserError("--compare: two cards alone; leave out SOURCE, OUT and --codecs")
        first, second = map(read_card, args.compare)
        print(comparison_text(first, second, compare_cards(first, second)))
        return DONE
    if len(args.paths) < 2:
        raise UserError("SOURCE... OUT: give at least one source and, last, the run's folder")
    *sources, out = args.paths
    set_process_device()
    plan = EvaluationPlan(
        sets=tuple(
            found for source in sources for found in read_sets(source, _options(args, source))
        ),
        codecs=parse_specs(args.codecs or ()),
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


def _options(args: argparse.Namespace, source: str) -> SetOptions:
    kinds = {name: kind for name, _, kind in (word.rpartition("=") for word in args.kind)}
    name = source_name(source)
    return SetOptions(
        args.task,
        args.data_folder,
        kinds.get(name, kinds.get("", "")),
        args.language,
        args.seed,
        args.max_clips,
    )
