"""The steps of a recipe's train.py, one function each; train.py reads from top to bottom.

hparams, run_opts = run.load_hparams(argv)
folder            = run.open_folder(hparams, run_opts)
start             = run.load_start(hparams, run_opts)
sets              = run.prepare_sets(hparams, folder)
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from speechbrain.utils.distributed import run_on_main

from focalcodec.coders import parse_spec
from focalcodec.errors import UserError
from focalcodec.parts import check_parts
from focalcodec.precision import pick_device, slow_precision
from focalcodec.training import schedules
from focalcodec.training.distributed import leave_together, process_rank
from focalcodec.training.run import folder as run_folder
from focalcodec.training.run import loaders, start
from focalcodec.training.run.command import (
    HELP,
    RUN_OPTIONS,
    read_command,
    refuse_other_script,
    run_options,
    usage,
)
from focalcodec.training.run.config import (
    COMMAND_LINE,
    load_config,
    problems_of,
    read_tree,
    resolve_config,
)
from focalcodec.training.run.dead_keys import keys_read_by, own_names, refuse_dead_keys
from focalcodec.training.run.folder import RunFolder, code_folders, own_code, whole_path
from focalcodec.training.run.loaders import Rows, prepare_corpus, read_corpus, warn_of_known_clips
from focalcodec.training.run.start import Start
from focalcodec.training.run.stop import (
    Stopped,
    explain,
    last_line,
    quiet_threads,
    stop_signals,
)
from focalcodec.training.run.tree import named_objects

__all__ = ["load_hparams", "load_start", "open_folder", "prepare_sets", "script"]

logger = logging.getLogger(__name__)


class _Hparams(dict[str, Any]):
    """A configuration; the error for a missing key names the configuration's file."""

    def __init__(self, hparams: Mapping[str, Any], file: str) -> None:
        super().__init__(hparams)
        self.file = file

    def __missing__(self, key: str) -> Any:
        raise UserError(f"{self.file}: no key {key!r}; give it, or name a __base__ that has it")


def load_hparams(argv: Sequence[str]) -> tuple[dict[str, Any], sb.utils.run_opts.RunOptions]:
    """Configuration and run options of a command line; starts the processes of torchrun.

    Parameters
    ----------
    argv : sequence of str
        The YAML, then `--key value` for its keys and for SpeechBrain's run options. The YAML may
        name Python modules beside it, or beside its folder hparams/.

    Returns
    -------
    dict, RunOptions
        `hparams["__command__"]` is the command line, for `open_folder`; `hparams["__trust__"]`
        are the recipe's own modules and classes, which the YAML of another run may name;
        `hparams["__trained__"]` are the parts of `init_from`, whose architecture the modules have.

    Raises
    ------
    UserError
        A YAML, an override or `init_from` can't be read, a key is unknown, or no code reads a key.
    """
    command = read_command(argv, with_run_options=True)
    file, overrides = command.file, command.overrides
    sys.path[:0] = [str(path) for path in code_folders(file) if str(path) not in sys.path]
    run_opts = run_options(command)
    if "distributed_backend" not in run_opts.overridden_args and not torch.cuda.is_available():
        run_opts = dataclasses.replace(run_opts, distributed_backend="gloo")
    # With several runs in one command, the first run has started the processes already.
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        sb.utils.distributed.ddp_init_group(run_opts)
    trust = own_names(file) | named_objects(read_tree(file, overrides)) | {*command.trust}
    trained = start.load_source(file, overrides, trust)
    if trained is not None:
        overrides = start.with_architecture(file, overrides, trained)
        trust |= named_objects(read_tree(file, overrides))
    hparams = _Hparams(load_config(file, overrides), file=file)
    try:
        check_parts(hparams.get("modules") or {})
    except UserError as error:
        raise UserError(f"{file}: modules: {error}") from error
    for key in ("brain", "loaders", "encoder", "opt_class", "lr_scheduler"):
        if not callable(hparams[key]):
            raise UserError(f"{file}: {key}={hparams[key]!r}; name a class or function by !name:")
    with problems_of(file):
        # Values that the optimiser refuses are reported before the data is prepared.
        hparams["opt_class"]([torch.zeros(1, requires_grad=True)])
    readers = (hparams["brain"], hparams["loaders"], run_folder, loaders, start, schedules)
    read_keys = keys_read_by(*readers, sys.modules[__name__], sys.modules["__main__"])
    refuse_dead_keys(file, read_keys | RUN_OPTIONS, command.overrides)
    hparams["__command__"] = (file, overrides)
    hparams |= {"__trust__": trust, "__trained__": trained}
    return hparams, run_opts


def open_folder(hparams: dict[str, Any], run_opts: Any) -> RunFolder:
    """Open the folder of the run, `output_folder`; an interrupted run resumes.

    The folder is locked against other runs. A run of an older version keeps the `total_steps` of
    its schedule, which is added to `hparams`.

    Raises
    ------
    UserError
        A knob that changes the result differs from the one that the run was started with, another
        training uses the folder, or it can't be written to.
    """
    file, overrides = hparams["__command__"]
    options = {
        key: getattr(run_opts, key)
        for key in sorted(run_opts.overridden_args)
        if key in hparams
        or key in ("precision", "eval_precision", "compile")
        or key == "remove_vector_weight_decay"
    }
    started = hparams["__trained__"] is not None
    given_by = "command line, or architecture of init_from" if started else COMMAND_LINE
    resolved = resolve_config(file, overrides, whole_path, given_by)
    sources = own_code(file, sys.argv[0])
    folder = run_folder.open_folder(hparams["output_folder"], resolved, options, sources)
    folder.trust = hparams["__trust__"]
    if folder.total_steps is not None:
        # If the YAML has this key too, the number is the same: `check_identity` compared them.
        hparams["lr_scheduler"] = partial(hparams["lr_scheduler"], total_steps=folder.total_steps)
    return folder


def load_start(hparams: Mapping[str, Any], run_opts: Any) -> Start:
    """Load the frozen encoder, or the frozen codec of a probe, and the weights of `init_from`.

    Raises
    ------
    UserError
        The encoder or the weights can't be loaded, or do not fit together.
    """
    device = pick_device(run_opts.device or sb.utils.distributed.infer_device())
    warning = slow_precision(run_opts.precision or "fp32", device)
    if warning:
        logger.warning(warning)
    return start.load_start(hparams, device)


def prepare_sets(hparams: Mapping[str, Any], folder: RunFolder) -> dict[str, Rows]:
    """Write the manifests that are missing; return the rows of train, valid and the test sets.

    Raises
    ------
    UserError
        The corpus is missing, or the preparation can't read it.
    """
    run_on_main(prepare_corpus, args=[hparams, folder.manifests])
    sets = read_corpus(hparams, folder.manifests)
    run_on_main(warn_of_known_clips, args=[sets])
    return sets


def script(main: Callable[[list[str]], None], each_seed: bool = True) -> None:
    """Run a recipe's `main` on the command line, once for each seed of `--seeds`.

    `--help` lists the YAMLs, or the keys of a YAML. A `UserError` is printed as one line on stderr,
    with exit status 2. So is what stops a run, with the exit status of `run.stop`.

    Parameters
    ----------
    main : callable
        Takes the command line without the script's name.
    each_seed : bool
        False: run it once, because it reads `seeds` itself.
    """
    try:
        about = sys.modules["__main__"].__doc__ or ""
        asks = bool({*sys.argv[1:]} & {*HELP})
        if asks and (text := usage(sys.argv[1:], Path(sys.argv[0]), about)):
            print(text)
            return
        refuse_other_script(sys.argv[1:], Path(sys.argv[0]))
        with stop_signals(), quiet_threads():
            for argv in command_lines(sys.argv[1:]) if each_seed else [sys.argv[1:]]:
                main(argv)
        leave_together()
        return
    except BaseException as error:
        stopped = explain(error, Path.cwd())
        if isinstance(error, UserError) and stopped is None:
            stopped = Stopped(2, f"error: {last_line(error)}", is_local=True)
        if stopped is None:
            raise
    # An error of this process is printed here; the others will be stopped soon.
    if stopped.is_local or process_rank() == 0:
        print(stopped.line, file=sys.stderr, flush=True)
    raise SystemExit(stopped.code)


def command_lines(argv: Sequence[str]) -> list[list[str]]:
    """Command line of each run: with `seeds`, one for each seed, with its own folder.

    If a probe has no `output_folder`, it gets one with the codec's name.
    """
    if not argv or not argv[0].endswith((".yaml", ".yml")):
        return [list(argv)]
    command = read_command(argv, with_run_options=True)
    hparams = read_tree(command.file, command.overrides)
    out, seeds = hparams.get("output_folder"), hparams.get("seeds")
    if "seeds" not in hparams or (out is not None and seeds is None):
        return [list(argv)]
    seeds = [hparams["seed"]] if seeds is None else seeds
    if not isinstance(seeds, list) or not all(isinstance(seed, int) for seed in seeds):
        raise UserError(f"seeds={seeds}: give a list of whole numbers, such as [1986, 1987]")
    if "<seed>" in str(getattr(out, "value", "")):  # a reference: the folder follows the seed
        rest = without(argv, ("seed", "seeds"))
        return [[*rest, f"--seed={seed}"] for seed in seeds]
    if out is None:
        # Under another name, so that only probes count as readers of these keys (`dead_keys`).
        probe = hparams
        codec = parse_spec(str(probe["codec"])).folder
        out = Path("results") / hparams["name"] / f"{codec}-{probe['inputs']}"
    rest = without(argv, ("seed", "seeds", "output_folder"))
    return [[*rest, f"--seed={seed}", f"--output_folder={out}/{seed}"] for seed in seeds]


def without(argv: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Command line without some options, written as `--key value` or `--key=value`."""
    kept, wanted = [], True
    for word in argv:
        if word.startswith("--"):
            wanted = word.removeprefix("--").partition("=")[0] not in keys
        if wanted:
            kept.append(word)
    return kept
