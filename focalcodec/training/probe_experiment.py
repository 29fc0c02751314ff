"""One run of a probe: from the command line to cards.

YAML -> manifests -> codec -> tokens, once -> probe -> fit -> test -> a card a test set
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from speechbrain.utils.distributed import run_on_main
from torch import nn
from torch.utils.data import DataLoader

from focalcodec.coders.spec import parse_spec
from focalcodec.data.dataset import AudioDataset
from focalcodec.data.feature_cache import FeatureCache
from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError
from focalcodec.probes.cards import make_card, write_card
from focalcodec.probes.inputs import FeatureProjection, TokenEmbedding
from focalcodec.probes.token_dataset import TokenDataset, collate_tokens
from focalcodec.probes.tokens import ProbeCodec, cached_tokens
from focalcodec.processes import Shard
from focalcodec.training.checkpointing import RunCheckpointer
from focalcodec.training.config import read_tree
from focalcodec.training.distributed import leave_together, process_count, process_rank
from focalcodec.training.experiment import Experiment
from focalcodec.training.identity import SAVE_NAME
from focalcodec.training.loaders import Rows, batch_loader
from focalcodec.training.monitor import Monitor
from focalcodec.training.probe_brain import ProbeBrain
from focalcodec.training.probe_files import keep_file

CODEC_NAME = "codec.txt"


class ProbeRuns:
    """Runs of a probe: one, or one a seed.

    Parameters
    ----------
    argv : sequence of str
        Command line: the YAML, then `--key value` for its knobs and SpeechBrain's run options.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = list(argv)

    def run(self) -> None:
        """Run each seed in a folder of its own."""
        for argv in self._command_lines():
            ProbeExperiment(argv).run()
        leave_together()

    def _command_lines(self) -> list[list[str]]:
        """That of each run, with its own seed and folder."""
        file, _, overrides = sb.parse_arguments(self.argv)
        tree = read_tree(file, overrides)
        out, seeds = tree["output_folder"], tree["seeds"]
        if out is not None and seeds is None:
            return [self.argv]
        seeds = [tree["seed"]] if seeds is None else seeds
        if not isinstance(seeds, list) or not all(isinstance(seed, int) for seed in seeds):
            raise UserError(f"seeds={seeds}: give a list of whole numbers, such as [1986, 1987]")
        if out is None:
            codec = parse_spec(str(tree["codec"])).folder
            out = f"results/{tree['name']}/{codec}-{tree['inputs']}"
        rest = _without(self.argv, ("seed", "seeds", "output_folder"))
        return [[*rest, f"--seed={seed}", f"--output_folder={out}/{seed}"] for seed in seeds]


def _without(argv: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Command line without some options, written as `--key value` or `--key=value`."""
    kept, skip = [], False
    for word in argv:
        name, has_value, _ = word.removeprefix("--").partition("=")
        wanted = not (word.startswith("--") and name in keys)
        if wanted and not skip:
            kept.append(word)
        skip = not wanted and not has_value
    return kept


class ProbeExperiment(Experiment):
    """A probe's run folder, its configuration and its processes; arguments as `Experiment`."""

    def run(self) -> None:
        """Prepare the data, compute its tokens, train, then test the best checkpoint."""
        hparams = self.hparams
        for key in ("init_from", "freeze"):
            if hparams[key]:
                raise UserError(f"{key}={hparams[key]}: a probe learns all of itself; leave it out")
        if hparams["mixer"] is not None and hparams["source"] == "wav":
            raise UserError(
                "mixer: tokens are computed once, of files; write the mixtures to disk and name"
                " their column in source, or set mixer to null"
            )
        sets = self._prepare()
        device = torch.device(self.run_opts.device or sb.utils.distributed.infer_device())
        codec = ProbeCodec(hparams["codec"], device)
        keep_file(self.output_folder, CODEC_NAME, (codec.coder.weights_sha256 + "\n").encode())
        encoder = codec.frozen_part(hparams["inputs"])
        brain_class: type[ProbeBrain] = hparams["brain"]
        sizes, answers = brain_class.answers(hparams, sets, codec, self.output_folder)
        cache = None
        if hparams["inputs"] == "feats" and hparams["feature_cache"] is not None:
            folder, dtype = hparams["feature_cache"], hparams["feature_cache_dtype"]
            cache = FeatureCache(folder, encoder, dtype)
        data = _Data(self, codec, cache)
        # All before the training: what is wrong with a test set is to be told now.
        train_loader = data.training(sets.pop("train"))
        valid_loader = data.figures(sets.pop("valid"))
        tests = {name: data.figures(rows) for name, rows in sets.items()}
        monitor = Monitor(self.output_folder)
        modules = self._modules(codec, sizes)
        brain = brain_class(
            codec=codec,
            encoder=encoder,
            monitor=monitor,
            sampler=train_loader.batch_sampler,
            cache=cache,
            modules=modules,
            opt_class=hparams["opt_class"],
            hparams=hparams,
            run_opts=self.run_opts,
            checkpointer=self._checkpointer(modules),
            **answers,
        )
        brain.fit(hparams["epoch_counter"], train_loader, valid_loader)
        monitor.write_results(self._test_sets(brain, tests))
        monitor.close()

    def _modules(self, codec: ProbeCodec, sizes: Mapping[str, int]) -> dict[str, nn.Module]:
        """Inputs and probe, whose first weights depend on the seed alone."""
        hparams = self.hparams
        torch.manual_seed(stable_seed(hparams["seed"], "probe"))
        if hparams["inputs"] == "toks":
            inputs: nn.Module = TokenEmbedding(
                codec.codebook_size, codec.streams, hparams["dim"], codec.tokenizer.codes()
            )
        else:
            inputs = FeatureProjection(codec.feature_dim(), hparams["dim"])
        return {"inputs": inputs, "probe": hparams["probe"](**sizes)}

    def _checkpointer(self, modules: Mapping[str, nn.Module]) -> RunCheckpointer:
        checkpointer = RunCheckpointer(
            self.output_folder / SAVE_NAME,
            {**modules, "epoch_counter": self.hparams["epoch_counter"]},
        )
        run_on_main(checkpointer.refuse_if_all_damaged)
        return checkpointer

    def _test_sets(
        self, brain: ProbeBrain, tests: Mapping[str, DataLoader]
    ) -> dict[str, dict[str, float]]:
        """Figures of each set and its groups; a card of each set."""
        results = {}
        for name, loader in tests.items():
            dataset: Any = loader.dataset
            folder = self.output_folder / name
            brain.start_set(folder, dataset.rows)
            brain.evaluate(loader, **self.hparams["best_checkpoint"])
            results[name] = brain.test_stats
            for group, stats in brain.test_group_stats.items():
                results[f"{name}-{group}"] = stats
            run_on_main(self._write_card, args=[brain, folder, name, dataset.rows])
        return results

    def _write_card(self, brain: ProbeBrain, folder: Path, name: str, rows: Rows) -> None:
        hparams = self.hparams
        brain.end_set(rows)
        judges, missing = brain.judges()
        parameters = sum(p.numel() for p in brain.modules.parameters())
        about = {
            "task": hparams["task"],
            "set": name,
            "codec": brain.codec.describe(),
            "probe": {
                "name": hparams["name"],
                "inputs": hparams["inputs"],
                "parameters": parameters,
                "epochs": len(brain.history),
            },
            "seed": hparams["seed"],
            "bootstrap_samples": hparams["bootstrap_samples"],
            "group_by": hparams["group_by"],
            "device": str(brain.device),
            "command": shlex.join(["python", *sys.argv]),
        }
        columns = [{**vars(column), "judge": "probe"} for column in brain.columns]
        write_card(folder, make_card(about, brain.clips, rows, columns, judges, missing))


class _Data:
    """Loaders of a run's sets."""

    def __init__(
        self, experiment: ProbeExperiment, codec: ProbeCodec, cache: FeatureCache | None
    ) -> None:
        self.hparams, self.output_folder = experiment.hparams, experiment.output_folder
        self.codec, self.cache = codec, cache

    def training(self, rows: Rows) -> DataLoader:
        """Clips with an answer, shuffled and balanced over groups."""
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

    def figures(self, rows: Rows) -> DataLoader:
        """Clips with an answer in order of duration, batches of one group each."""
        # A set from elsewhere may know of no groups; it has the figures of the whole then.
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
            audio=self._audio if hparams["inputs"] == "feats" else None,
        )

    def _tokens(self, rows: Rows, column: str) -> Any:
        shard = Shard(process_rank(), process_count())
        return cached_tokens(self.codec, rows, column, self.hparams["token_folder"], shard)

    def _audio(self, rows: Rows) -> AudioDataset:
        """What is heard, as sound: the column `source` and no other."""
        column = self.hparams["source"]
        heard = [
            {**{k: v for k, v in row.items() if k != "noisy"}, "wav": row[column]} for row in rows
        ]
        return AudioDataset(
            heard,
            self.codec.tokenizer.sample_rate_input,
            channels="mix",
            report=self.output_folder / "skipped.csv",
            cache=self.cache,
            with_sig=False,
        )
