"""The folder of a run: its configuration, checkpoints and results.

An interrupted run resumes in its folder. A changed knob is either used or an error, never ignored.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from speechbrain.utils.distributed import ddp_barrier, run_on_main
from torch import nn

from focalcodec.encoders import Encoder
from focalcodec.errors import UserError
from focalcodec.files import atomic_path, read_json, write_errors
from focalcodec.hub import is_shipped
from focalcodec.hub.checkpoints import CONFIG_NAME as CODEC_CONFIG
from focalcodec.hub.fingerprint import describe_encoder
from focalcodec.processes import FolderLock
from focalcodec.training.distributed import process_rank
from focalcodec.training.monitor import Monitor
from focalcodec.training.run.checkpointing import SAVE_NAME, RunCheckpointer
from focalcodec.training.run.config import current_names
from focalcodec.training.run.export import export
from focalcodec.training.run.logs import LOG_NAME, describe_environment, quiet_libraries, start_logs
from focalcodec.training.run.start import Start
from focalcodec.training.run.stop import explain
from focalcodec.training.run.trained import CONFIG_NAME, ENCODER_NAME, KNOBS_NAME
from focalcodec.training.run.tree import tag_of

logger = logging.getLogger(__name__)


HONOURED = frozenset(
    """
    number_of_epochs epoch_counter stop_patience_epochs best_checkpoint nonfinite_patience
    sample_interval_epochs sample_clips ckpt_interval_minutes ckpt_interval_steps
    num_workers valid_batch_size feature_cache token_folder
    skip_prep data_folder own_data more_tests output_folder decoder_source
    seeds bootstrap_samples panel judge_clips beam_size
    """.split()
)
"""A resumed run uses the new values of these knobs: they do not change the result of a step."""

# Knobs that only some versions of the recipes have: a missing knob has this value.
_DEFAULTS: dict[str, Any] = {
    **{"replace_encoder": False, "mel_weight": 0.0, "speaker_weight": 0.0},
    # Older probes did not use the first two, and had no key `encoder`.
    **{"freeze": [], "init_lr_factor": 0.2},
    "encoder": "!name:focalcodec.probes.tokens.ProbeCodec",
    "feature_loss": "!name:focalcodec.training.losses.squared_error",
}
# Knobs that only older or only newer runs have: others determine them, or no code reads them.
_RETIRED = (
    *("experiment", "loaders", "mel_crop_frames", "mel_loss", "speaker_source"),
    *("encoder_source", "total_steps", "warmup_steps"),
    "encoder.text",  # in a probe: its key `codec`
)
_TOTAL_STEPS = "lr_scheduler.total_steps"
_OLD_NAMES = {
    "focalcodec.training.quantizer.QuantizerBrain": "brains.QuantizerBrain",
    "brains.NoisyQuantizerBrain": "brains.QuantizerBrain",
    "focalcodec.training.vocoder.VocoderBrain": "brains.VocoderBrain",
    "brains.NoisyVocoderBrain": "brains.VocoderBrain",
    "focalcodec.training.ctc_brain.CTCBrain": "brains.ASRBrain",
    "focalcodec.training.translator_brain.TranslatorBrain": "brains.TranslatorBrain",
    # One Brain had both names; the column of the labels shows which of the two it is.
    "focalcodec.training.utterance_brain.UtteranceBrain": "brains.SpeakerBrain",
    "brains.EmotionBrain": "brains.SpeakerBrain",
    "focalcodec.training.distill.DistillBrain": "brains.DistillBrain",
    "focalcodec.training.speaker_brain.SpeakerBrain": "ablations.SpeakerBrain",
    # The demo codec was trained in recipes/LibriSpeech before.
    "librispeech_prepare.prepare_librispeech": "demo_prepare.prepare_demo",
}


class RunFolder:
    """A run's folder, from `open_folder`.

    Attributes
    ----------
    monitor : Monitor
        Writes log, curves, audio, pictures and results here.
    position : callable
        () -> epoch and step of the training; its Brain sets it.
    tested : int
        Epoch whose weights are tested and exported, or 0, before fine-tuning.
    manifests : Path
        Folder of the run's manifests.
    trust : collection of str
        Classes that may be built from the YAML of a run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifests = self.path / "manifests"
        self.trust: Collection[str] = ()
        self.monitor = Monitor(self.path)
        self.position: Callable[[], str] = lambda: "before the first step"
        self.tested = 0
        self._lock = FolderLock(self.path, wait=False)

    def __enter__(self) -> RunFolder:
        """Lock the folder against other runs."""
        self.lock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        """Close files and wait for the other processes; a run that is stopped raises `Stopped`."""
        try:
            self.monitor.close()
        except OSError as problem:  # the disk is full
            error = error or problem
        self.unlock()
        if error is None:
            ddp_barrier()
        elif (stopped := explain(error, self.path, self.position())) is not None:
            raise stopped from error

    def lock(self) -> None:
        """Lock the folder against other runs, until `unlock` or the end of this process.

        Raises
        ------
        UserError
            Another run uses the folder, or it can't be written to.
        """
        if process_rank() == 0:
            self._lock.acquire()

    def unlock(self) -> None:
        """Release the lock."""
        self._lock.release()

    @property
    def total_steps(self) -> int | None:
        """`total_steps` in the YAML of an older run; None: the schedule's length is computed."""
        knobs = self.path / KNOBS_NAME
        stored = read_json(knobs) if knobs.is_file() else {}
        return stored.get(_TOTAL_STEPS)

    def checkpointer(self, modules: Mapping[str, nn.Module], counter: object) -> RunCheckpointer:
        """Checkpointer of modules that have tensors, and of the epoch counter."""
        stored = {name: m for name, m in modules.items() if m.state_dict()}
        checkpointer = RunCheckpointer(self.path / SAVE_NAME, {**stored, "epoch_counter": counter})
        run_on_main(checkpointer.refuse_if_all_damaged)
        return checkpointer

    def keep(self, name: str, content: bytes) -> None:
        """Write a file, unless it has this content already.

        Raises
        ------
        UserError
            The file has another content, and there are checkpoints that were trained with it.

        Example
        -------
        >>> import tempfile
        >>> folder = RunFolder(tempfile.mkdtemp())
        >>> folder.keep("labels.json", b"[1]")
        >>> (folder.path / "labels.json").read_bytes()
        b'[1]'
        """
        path = self.path / name
        trained = any((self.path / SAVE_NAME).glob("CKPT*"))
        if trained and path.is_file() and path.read_bytes() != content:
            raise UserError(
                f"{path}: the run was started with other data or another codec; use these again,"
                " or choose a new output_folder"
            )
        run_on_main(_write, args=[path, content])

    def describe(self, encoder: Encoder) -> None:
        """Write the description of the run's encoder, which `focalcodec export` compares."""
        about = json.dumps(describe_encoder(encoder), indent=2)
        run_on_main(_write, args=[self.path / ENCODER_NAME, about.encode()])

    def write_results(self, results: Mapping[str, Mapping[str, float]]) -> None:
        """Write `results.json`, print the table of results, and where the files of the run are."""
        self.monitor.write_results(results)

    def write_codec(self, start: Start) -> None:
        """After fine-tuning, write the whole codec with the trained parts."""
        if start.trained is not None and start.trained.is_whole:
            run_on_main(self._export)

    def _export(self) -> None:
        folder = self.path / "codec"
        export(self.path, self.path, folder, trust=self.trust)
        weights = f"after epoch {self.tested}" if self.tested else "before fine-tuning"
        print(f"{folder}: the whole codec, with the weights {weights}, for --model", flush=True)


def open_folder(
    path: str | Path, resolved: str, options: Mapping[str, Any], sources: tuple[Path, ...]
) -> RunFolder:
    """Create a run's folder, or resume the run that is in it.

    Parameters
    ----------
    path : str or Path
        The folder.
    resolved : str
        The resolved YAML; it is stored.
    options : mapping
        Run options from the command line that change the result.
    sources : tuple of Path
        YAML, script and the recipe's own modules, which are copied into the folder.

    Raises
    ------
    UserError
        A knob that changes the result differs from the one that the run was started with, another
        training uses the folder, or it can't be written to.
    """
    folder = RunFolder(path)
    # Lock before writing, so that a run that still uses the folder keeps its knobs and its code.
    folder.lock()
    quiet_libraries()
    try:
        run_on_main(_prepare, args=[folder.path, resolved, dict(options), sources])
    except BaseException:
        folder.unlock()
        raise
    return folder


def _prepare(path: Path, resolved: str, options: dict[str, Any], sources: tuple[Path, ...]) -> None:
    resumed = check_identity(path, dict(knobs_of(YAML().load(resolved))) | options)
    with write_errors(path / LOG_NAME):
        (path / LOG_NAME).open("a").close()
        start_logs(path, sources)
    _write(path / "env.log", describe_environment().encode())
    for source in sources:
        with atomic_path(path / source.name) as temporary:
            shutil.copy(source, temporary)
    _write(path / CONFIG_NAME, resolved.encode())
    if resumed:
        logger.info("%s: resuming the run in this folder", path)


def _write(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)


def knobs_of(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Scalars and tags of a resolved YAML tree, with dotted names.

    Example
    -------
    >>> dict(knobs_of({"lr": 0.1, "model": {"dims": [1, 2]}}))
    {'lr': 0.1, 'model.dims': [1, 2]}
    """
    tag = tag_of(tree)
    if tag.startswith("!"):
        # Two classes with the same arguments are not the same.
        yield prefix, " ".join([tag, str(getattr(tree, "value", ""))]).strip()
        if not isinstance(tree, (Mapping, list)):
            return
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from knobs_of(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list) and any(isinstance(item, (Mapping, list)) for item in tree):
        for index, item in enumerate(tree):
            yield from knobs_of(item, f"{prefix}.{index}")
    elif isinstance(tree, list):
        yield f"{prefix}.arguments" if tag.startswith("!") else prefix, list(map(_plain, tree))
    else:
        yield prefix, _plain(tree)


def check_identity(run_folder: str | Path, knobs: Mapping[str, Any]) -> bool:
    """Compare a run's knobs with those that the checkpoints in its folder were made with.

    If there are no checkpoints, it only stores the knobs.

    Parameters
    ----------
    run_folder : str or Path
        The run's folder.
    knobs : mapping
        Result of `knobs_of`.

    Returns
    -------
    bool
        Whether the folder has a run that resumes.

    Raises
    ------
    UserError
        A knob that changes the result differs.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> check_identity(folder, {"lr": 0.3})
    False
    >>> (folder / SAVE_NAME / "CKPT+1").mkdir(parents=True)
    >>> check_identity(folder, {"lr": 0.3})
    True
    >>> check_identity(folder, {"lr": 0.2})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: ...: started with lr=0.3, now lr=0.2; ...
    """
    path = Path(run_folder) / KNOBS_NAME
    # Before the first checkpoint nothing is trained yet, so knobs may change.
    if not path.is_file() or not any((path.parent / SAVE_NAME).glob("CKPT*")):
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(dict(knobs), indent=1) + "\n", encoding="utf-8")
        return False
    before = read_json(path)
    # If stage 1 has a loss through the decoder, the decoder changes the training too.
    honoured = HONOURED - ({"decoder_source"} if knobs.get("mel_weight") else set())
    # The key that a user sets comes before the places that refer to it.
    for name in sorted(before.keys() | knobs.keys(), key=lambda name: (name.count("."), name)):
        old = _today(before.get(name, _DEFAULTS.get(name)))
        new = _today(json.loads(json.dumps(knobs.get(name, _DEFAULTS.get(name)))))
        # The value of a key with two underscores occurs again where it is referenced.
        if old == new or name.startswith("__") or name.partition(".")[0] in honoured:
            continue
        if (name not in before or name not in knobs) and _is_retired(name):
            continue
        if name == _TOTAL_STEPS and name not in knobs:
            continue  # an older run keeps its own number, see `RunFolder.total_steps`
        raise UserError(
            f"{run_folder}: started with {name}={old}, now {name}={new};"
            " go back to the old value, or choose a new output_folder"
        )
    return True


def _is_retired(name: str) -> bool:
    return any(name == old or name.startswith(f"{old}.") for old in _RETIRED)


def _today(value: Any) -> Any:
    """A stored knob with current names; a path is made absolute."""
    if not isinstance(value, str):
        return value
    head, colon, path = value.partition(":")
    if head in ("!name", "!new") and colon:
        return current_names(f"{head}:{_OLD_NAMES.get(path, path)}")
    return whole_path(value)


def whole_path(value: str) -> str:
    """Make a relative path absolute if it exists; return any other text unchanged.

    A word counts as a path if it is the folder of a codec or of a run.
    """
    path = Path(value).expanduser()
    is_model = any((path / name).is_file() for name in (CODEC_CONFIG, CONFIG_NAME))
    is_path = is_model or (os.sep in value and path.exists())
    return str(path.resolve()) if is_path and not is_shipped(value) else value


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def own_code(yaml: str | Path, script: str | Path) -> tuple[Path, ...]:
    """YAML and script of a run, and the modules that were loaded from their folders."""
    yaml, script = Path(yaml).resolve(), Path(script).resolve()
    # Read the modules' dictionaries, because getattr on a lazy module would import it.
    modules = (vars(module).get("__file__") for module in list(sys.modules.values()))
    loaded = {Path(file).resolve() for file in modules if file}
    folders = set(code_folders(yaml)) | ({script.parent} if script.suffix == ".py" else set())
    code = {path for path in loaded if path.parent in folders}
    return tuple(sorted(path for path in {yaml, script} | code if path.is_file()))


def code_folders(yaml: str | Path) -> list[Path]:
    """Folders of modules that a YAML may name: the YAML's own folder, and that of hparams/."""
    folder = Path(yaml).resolve().parent
    above = [parent.parent for parent in (folder, *folder.parents) if parent.name == "hparams"]
    return [*above, folder]
