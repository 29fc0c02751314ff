"""Output of a run for people: log, curves, sounds, pictures and the table of results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from focalcodec.audio import write_audio
from focalcodec.data.dataset import AudioBatch
from focalcodec.files import atomic_path
from focalcodec.training.curves import training_curves_figure
from focalcodec.training.display import printable, results_table, worse_than_before
from focalcodec.training.distributed import process_rank
from focalcodec.training.figures import Figures, Stats
from focalcodec.training.pictures import save_png, spectrogram_figure

STEPS = "steps"
STEP_INTERVAL = 10  # optimiser steps between two points of TensorBoard's curves of steps


class Monitor:
    r"""Writes log, curves, audio and pictures into a run's folder; only the first process writes.

    `train_log.txt` and `curves.png` are written again from the run's history after each epoch, so
    a resumed run has the same log as one without interruption.

    Parameters
    ----------
    output_folder : str or Path
        The run's folder.
    sample_batches : sequence of AudioBatch
        Fixed validation clips, one a batch.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> monitor = Monitor(folder)
    >>> monitor.write_log([{"epoch": 1, "lr": 0.1, "train": {"loss": 2.0}, "valid": {"loss": 1.5}}])
    >>> (folder / "train_log.txt").read_text()
    'epoch: 1, lr: 1.00e-01 - train loss: 2.00 - valid loss: 1.50\n'
    """

    def __init__(
        self,
        output_folder: str | Path,
        sample_batches: Sequence[AudioBatch] = (),
    ) -> None:
        self.output_folder = Path(output_folder)
        self.train_log = self.output_folder / "train_log.txt"
        self.sample_batches = sample_batches
        self.figures = Figures()
        self._writers: dict[str, SummaryWriter] = {}
        self._done: dict[str, int] = {}

    def resume(self, epoch: int, step: int) -> None:
        """Continue after an epoch and a step; TensorBoard drops later points of an earlier run."""
        self._done = {"": epoch, STEPS: step}

    def board(self, name: str = "") -> SummaryWriter:
        """TensorBoard's event file of epochs, or with the name `STEPS` of optimiser steps."""
        if name not in self._writers:
            folder, done = self.output_folder / "tensorboard" / name, self._done.get(name)
            purge = None if done is None else done + 1
            self._writers[name] = SummaryWriter(str(folder), purge_step=purge)
        return self._writers[name]

    def write_log(
        self, history: Sequence[Mapping[str, Any]], before: Mapping[str, float] | None = None
    ) -> None:
        """Write the log and the curves of all epochs."""
        if process_rank() != 0:
            return
        with atomic_path(self.train_log) as path:
            path.write_text("".join(_log_line(epoch) for epoch in history), encoding="utf-8")
        curves = training_curves_figure(history, self.figures, before)
        save_png(curves, self.output_folder / "curves.png")

    def write_epoch(self, entry: Mapping[str, Any]) -> None:
        """Write the figures of an epoch to TensorBoard."""
        if process_rank() != 0:
            return
        board = self.board()
        for stage, stats in _stages(entry).items():
            for name, value in stats.items():
                tag = f"{self.figures.quantity(name, stage)}/{stage}"
                board.add_scalar(tag, value, entry["epoch"])
        for name, value in entry.items():
            if name.startswith("lr"):
                board.add_scalar(f"lr/{name}", value, entry["epoch"])
        board.flush()

    def write_steps(self, stats: Stats, step: int) -> None:
        """Write training figures to TensorBoard: means since the last call."""
        if process_rank() == 0:
            for name, value in stats.items():
                self.board(STEPS).add_scalar(f"{name}/step", value, step)

    def write_sample(
        self, name: str, batch: AudioBatch, rec_sig: Tensor, sample_rate: int, epoch: int | None
    ) -> None:
        """Write the output rec_sig (T,) for the only clip of a batch, as sound and picture."""
        self.write_audio(name, rec_sig, sample_rate, epoch)
        figure = spectrogram_figure(
            batch.sig[0].cpu().numpy(),
            rec_sig.cpu().numpy(),
            sample_rate,
            title=batch.id[0],
            mixture=None if batch.mixture is None else batch.mixture.sig[0].cpu().numpy(),
        )
        self.write_picture(name, figure, epoch)

    def write_mixtures(self, sample_rate: int, epoch: int | None) -> None:
        """Write the sound of the fixed clips' mixtures, if they have any."""
        for batch in self.sample_batches:
            if batch.mixture is not None:
                name = f"{batch.id[0]}_mixture"
                self.write_audio(name, batch.mixture.sig[0].cpu(), sample_rate, epoch)

    def write_audio(self, name: str, sig: Tensor, sample_rate: int, epoch: int | None) -> None:
        """Write sig (T,) as WAV and to TensorBoard."""
        if process_rank() != 0:
            return
        sig = sig.float().clamp(-1.0, 1.0)
        write_audio(self.output_folder / "samples" / f"{name}.wav", sig, sample_rate)
        self.board().add_audio(name, sig[None], epoch, sample_rate=sample_rate)

    def write_picture(self, name: str, figure: Figure, epoch: int | None) -> None:
        """Write a figure as PNG and to TensorBoard."""
        if process_rank() != 0:
            return
        save_png(figure, self.output_folder / "samples" / f"{name}.png")
        self.board().add_figure(name, figure, epoch, close=False)

    def write_results(self, results: Mapping[str, Mapping[str, float]]) -> None:
        """Write `results.json`; print the table of results, and where the files of the run are."""
        if process_rank() != 0:
            return
        with atomic_path(self.output_folder / "results.json") as path:
            path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        lines = ["there is no test set"]
        if results:
            table = results_table(results, self.figures)
            lines = [table, *worse_than_before(results, self.figures)]
        lines += [f"{self.output_folder}: trained; results.json, curves.png, checkpoints in save/"]
        print(printable("\n".join(lines)), flush=True)

    def close(self) -> None:
        """Close the event files."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}


def _stages(epoch: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """Entries that are not a single number: figures of "train", "valid", "valid-it" ..."""
    return {key: value for key, value in epoch.items() if isinstance(value, Mapping)}


def _log_line(epoch: Mapping[str, Any]) -> str:
    # SpeechBrain's format of train_log.txt; the checks of its recipes read it.
    stages = _stages(epoch)
    heads = [f"{key}: {_number(value)}" for key, value in epoch.items() if key not in stages]
    parts = [", ".join(heads)]
    for stage, stats in stages.items():
        parts.append(", ".join(f"{stage} {k}: {_number(v)}" for k, v in stats.items()))
    return " - ".join(parts) + "\n"


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return f"{value:.2f}" if 1.0 < abs(value) < 100.0 else f"{value:.2e}"
