"""One run of a recipe: from the command line to the closing table.

    YAML -> encoder -> manifests -> loaders -> Brain -> fit -> test

A recipe's `train.py` calls `train`; all that differs between recipes is named in their YAMLs.
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from ruamel.yaml import YAML
from speechbrain.utils.distributed import if_main_process, run_on_main

from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.hub.fingerprint import describe_encoder
from focalcodec.hub.locations import is_shipped
from focalcodec.training.brain import CodecBrain
from focalcodec.training.checkpointing import RunCheckpointer
from focalcodec.training.config import load_config, refuse_dead_keys, resolve_config
from focalcodec.training.corpus import CORPUS_KEYS, prepare_corpus, read_corpus
from focalcodec.training.distributed import leave_together
from focalcodec.training.export import export, load_decoder
from focalcodec.training.identity import SAVE_NAME, check_identity, knobs_of
from focalcodec.training.loaders import Loaders, Rows
from focalcodec.training.monitor import Monitor
from focalcodec.training.trained_run import CONFIG_NAME, ENCODER_NAME
from focalcodec.training.warm_start import (
    Source,
    check_replacement,
    freeze,
    initialise,
    load_source,
)

logger = logging.getLogger(__name__)

READ_KEYS = CORPUS_KEYS | frozenset(
    """
    experiment seed output_folder group_by temperature mixer
    init_from replace_encoder init_lr_factor freeze
    best_checkpoint
    brain encoder modules quantizer opt_class lr_scheduler lr_scheduler_interval
    epoch_counter number_of_epochs stop_patience_epochs passes_per_epoch
    batch_size valid_batch_size sorting num_workers min_seconds max_seconds
    precision eval_precision max_grad_norm grad_accumulation_factor nonfinite_patience
    ckpt_interval_minutes ckpt_interval_steps sample_clips sample_interval_epochs
    feature_cache feature_cache_dtype
    """.split()
)
"""Top-level YAML keys that every run reads; a Brain adds its own in `read_keys`."""


def train(argv: Sequence[str]) -> None:
    """Prepare the data, train and test.

    Parameters
    ----------
    argv : sequence of str
        Command line: the YAML, then `--key value` for its knobs and SpeechBrain's run options.

    Raises
    ------
    UserError
        What the user can put right: a knob, the data, the weights to begin with.
    """
    file, _, overrides = sb.parse_arguments(list(argv))
    load_config(file, overrides, keys=("experiment",))["experiment"](argv).run()


class Experiment:
    """A run folder, its configuration and its processes.

    Parameters
    ----------
    argv : sequence of str
        Command line: the YAML, then `--key value` for its knobs and SpeechBrain's run options.

    Raises
    ------
    UserError
        The YAML, an override or a knob changed since the folder's first run.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        file, run_opts, overrides = sb.parse_arguments(list(argv))
        if "distributed_backend" not in run_opts.overridden_args and not torch.cuda.is_available():
            run_opts = dataclasses.replace(run_opts, distributed_backend="gloo")
        # The second of several runs finds what the first began.
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            sb.utils.distributed.ddp_init_group(run_opts)
        self.run_opts = run_opts
        self.hparams = load_config(file, overrides)
        refuse_dead_keys(file, READ_KEYS | self.hparams["brain"].read_keys)
        self.output_folder = Path(self.hparams["output_folder"])
        run_on_main(self._open_folder, args=[file, overrides])

    def _open_folder(self, file: str, overrides: str) -> None:
        resolved = resolve_config(file, _with_whole_paths(self.hparams, overrides))
        options = {
            key: getattr(self.run_opts, key)
            for key in sorted(self.run_opts.overridden_args)
            if key in READ_KEYS or key in ("compile", "remove_vector_weight_decay")
        }
        resumed = check_identity(
            self.output_folder, dict(knobs_of(YAML().load(resolved))) | options
        )
        sb.create_experiment_directory(self.output_folder)
        for source in (file, sys.argv[0]):
            if Path(source).is_file():
                shutil.copy(source, self.output_folder)
        with atomic_path(self.output_folder / CONFIG_NAME) as path:
            path.write_text(resolved, encoding="utf-8")
        if resumed:
            logger.info("%s: taking up the run of this folder", self.output_folder)

    def run(self) -> None:
        """Prepare the data, train, then test the best checkpoint."""
        source, encoder = self._source_and_encoder()
        sets = self._prepare()
        loaders = Loaders(self.hparams, encoder, self.output_folder)
        train_loader = loaders.training(sets["train"])
        monitor = Monitor(self.output_folder, loaders.samples(sets["valid"]))
        brain = self._brain(encoder, source, monitor, train_loader.batch_sampler, loaders.cache)
        valid_loader = loaders.validation(sets["valid"])
        brain.fit(self.hparams["epoch_counter"], train_loader, valid_loader)
        # Test sets are heard once; and what is mixed of a clip must not be kept as the clip's.
        brain.cache = None

        tests = {name: rows for name, rows in sets.items() if name not in ("train", "valid")}
        results = self._test(brain, loaders, tests)
        brain.write_samples(None)
        if source is not None:
            results |= self._test_before(brain, source, loaders, tests)
        monitor.write_results(results)
        monitor.close()
        # What --debug trains is not kept.
        if source is not None and source.is_whole and not brain.debug:
            run_on_main(self._write_codec)
        leave_together()

    def _source_and_encoder(self) -> tuple[Source | None, Any]:
        """Weights to begin with, if there are any, and the encoder: theirs, or the YAML's."""
        if self.hparams["init_from"] is None:
            return None, self.hparams["encoder"]()
        source = load_source(self.hparams["init_from"])
        if not self.hparams["replace_encoder"]:
            return source, source.encoder
        encoder = self.hparams["encoder"]()
        check_replacement(source, encoder)
        return source, encoder

    def _prepare(self) -> dict[str, Rows]:
        """Make the manifests that are not there yet; rows of each set by name."""
        manifests = self.output_folder / "manifests"
        run_on_main(prepare_corpus, args=[self.hparams, manifests])
        return read_corpus(self.hparams, manifests)

    def _test(
        self, brain: CodecBrain, loaders: Loaders, tests: Mapping[str, Rows], label: str = ""
    ) -> dict[str, dict[str, float]]:
        """Figures of each set, and of its groups."""
        results = {}
        for name, rows in tests.items():
            brain.evaluate(loaders.test(rows), **self.hparams["best_checkpoint"])
            results[name + label] = brain.test_stats
            for group, stats in brain.test_group_stats.items():
                results[f"{name}-{group}{label}"] = stats
        return results

    def _test_before(
        self, brain: CodecBrain, source: Source, loaders: Loaders, tests: Mapping[str, Rows]
    ) -> dict[str, dict[str, float]]:
        """The same of the weights that the run began with."""
        known = [name for name in self.hparams["modules"] if name in source.parts]
        initialise(self.hparams["modules"], source, known)
        brain.tests_as_is = True
        return self._test(brain, loaders, tests, " before")

    def _write_codec(self) -> None:
        """The codec that the run began with, its trained parts in their place."""
        folder = self.output_folder / "codec"
        export(self.output_folder, self.output_folder, folder)
        print(f"{folder}: the whole codec, ready for --model", flush=True)

    def _brain(
        self, encoder: Any, source: Source | None, monitor: Monitor, sampler: Any, cache: Any
    ) -> CodecBrain:
        if if_main_process():
            with atomic_path(self.output_folder / ENCODER_NAME) as path:
                path.write_text(json.dumps(describe_encoder(encoder), indent=2), encoding="utf-8")
        modules, counter = self.hparams["modules"], self.hparams["epoch_counter"]
        stored = {name: m for name, m in modules.items() if any(True for _ in m.parameters())}
        if source is not None:
            initialise(modules, source, list(modules))
        freeze(modules, self.hparams["freeze"])
        checkpointer = RunCheckpointer(
            self.output_folder / SAVE_NAME, {**stored, "epoch_counter": counter}
        )
        run_on_main(checkpointer.refuse_if_all_damaged)
        extra: dict[str, Any] = {}
        if self.hparams.get("decoder_source"):
            extra["decoder"] = load_decoder(self.hparams["decoder_source"], encoder)
        elif "decoder_source" in self.hparams and source is not None:
            extra["decoder"] = source.parts.get("decoder")
        return self.hparams["brain"](
            encoder=encoder,
            monitor=monitor,
            sampler=sampler,
            cache=cache,
            modules=modules,
            opt_class=self.hparams["opt_class"],
            hparams=self.hparams,
            run_opts=self.run_opts,
            checkpointer=checkpointer,
            **extra,
        )


def _with_whole_paths(hparams: Mapping[str, Any], overrides: str) -> str:
    """Overrides of the stored YAML: a run's folder is read from other places than it was run in."""
    changes = YAML().load(overrides) if overrides else {}
    for key in ("init_from", "distilled", "quantized"):
        source = hparams.get(key)
        if source is not None and not is_shipped(source) and Path(source).expanduser().exists():
            changes[key] = str(Path(source).expanduser().resolve())
    if not changes:
        return overrides
    text = io.StringIO()
    YAML().dump(changes, text)
    return text.getvalue()


def run_script(main: Callable[[Sequence[str]], None]) -> None:
    """Run a recipe's `main`; what the user can put right is told in one line, exit status 2.

    Parameters
    ----------
    main : callable
        Takes the command line without the script's name.
    """
    try:
        main(sys.argv[1:])
    except UserError as error:
        # Any process may be the one that met it, and the others are about to be stopped.
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None
