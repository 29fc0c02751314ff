"""The command line of a recipe: names stay as typed, other values are YAML of the key's kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from focalcodec.cli.main import main
from focalcodec.errors import UserError
from focalcodec.training.run.command import NAMES, read_command, run_options
from focalcodec.training.run.config import load_config, read_tree, resolve_config
from focalcodec.training.run.stored import read_stored
from focalcodec.training.run.tree import tag_of

RECIPES = Path(__file__).parents[4] / "recipes"
MINI = RECIPES / "LibriSpeech" / "hparams" / "focalcodec_50hz_mini.yaml"
YAMLS = sorted(RECIPES.rglob("hparams/**/*.yaml"))

YAML_TEXT = """\
name: demo
seed: 1986
run: results/<name>
output_folder: !ref results/<name>/<seed>
data_folder: null
old_data: !PLACEHOLDER
token_folder: results/tokens
init_from: demo
double: !ref <seed> * 2
lr: 0.1
skip_prep: False
stop_patience_epochs: null
tr_splits: [train-clean-100]
freeze: []
more_tests: {}
copies: {}
betas: [0.9, 0.98]
sets:
    - {name: test, kind: real}
"""
# As someone may call a folder or a run, and what YAML makes of it.
STRANGE = [
    *("007", "1e3", "2024", "2024-01-05", "0x1f", "1_000", "12:30:00", ".5", ".inf", ".nan", "-3"),
    *("yes", "no", "True", "false", "~", "a #b", "#b", "a: b", "a:", "- a", "[a]", "[a", "{a: 1}"),
    *("{", "}", "*a", "&a", "&a b", "!a", "!ref <seed>", "!new:os.X", "!!python/name:os.system"),
    *("%a", "@a", "`a", "|", ">", "'a", '"a', "'a'", "a'b", "?", "? a", "a, b", "(a)", "(1, 2)"),
    *(
        "---",
        "...",
        "<<",
        "=",
        "a=b",
        "--a".join("xy"),
        "a\\b",
        "\\t",
        "ä ö",
        "日本",
        "a  b",
        "<name>",
    ),
    *("a\tb", "a\nb", " a", "a ", "null b", "a\u2028b"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A YAML with values of each kind."""
    file = tmp_path / "my.yaml"
    file.write_text(YAML_TEXT)
    return file


def loaded(file: Path, *words: str) -> dict[str, Any]:
    command = read_command([str(file), *words])
    if "--old_data" not in " ".join(words):
        command = read_command([str(file), "--old_data", "x", *words])
    return load_config(command.file, command.overrides)


@pytest.mark.parametrize("first", range(0, len(STRANGE), 3))
def test_a_name_is_taken_as_it_was_typed(first: int, file: Path) -> None:
    keys = ("name", "data_folder", "output_folder", "old_data", "token_folder", "init_from")
    wanted = {"old_data": "x"} | dict(zip(keys, STRANGE[first : first + 6], strict=False))
    words = [f"--{key}={text}" for key, text in wanted.items()]
    hparams = loaded(file, *words)
    assert {key: hparams[key] for key in wanted} == wanted
    command = read_command([str(file), *words])
    stored = file.with_name("stored.yaml")
    stored.write_text(resolve_config(command.file, command.overrides))
    assert {key: load_config(stored)[key] for key in wanted} == wanted
    assert {key: read_stored(stored)[key] for key in wanted} == wanted


def test_a_name_that_refers_to_itself_is_one_line(file: Path) -> None:
    with pytest.raises(UserError, match="lead to themselves"):
        loaded(file, "--name", "<name>")


@pytest.mark.parametrize("text", ["007", "1e3", "2024-01-05", "True", "a #b", "'2024'"])
def test_names_in_lists_and_mappings(text: str, file: Path) -> None:
    plain = text.strip("'").partition(" #")[0]
    if "#" not in text:
        hparams = loaded(file, f"--tr_splits=[{text}, b]", f"--freeze=[{text}]")
        assert hparams["tr_splits"] == [plain, "b"] and hparams["freeze"] == [plain]
        tests = loaded(file, f"--more_tests={{{text}: {text}}}")["more_tests"]
        assert tests == {plain: plain}
        assert loaded(file, f"--sets=[{{name: {text}}}]")["sets"] == [{"name": plain}]


def test_other_values_are_yaml(file: Path) -> None:
    words = ["--lr=1e-3", "--seed=7", "--skip_prep=True", "--stop_patience_epochs=3"]
    hparams = loaded(file, *words, "--copies={train: 2}", "--betas", "[0.5,", "0.25]", "--double=4")
    wanted = {"lr": 1e-3, "seed": 7, "skip_prep": True, "stop_patience_epochs": 3, "double": 4}
    assert {key: hparams[key] for key in wanted} == wanted
    assert hparams["copies"] == {"train": 2} and hparams["betas"] == [0.5, 0.25]
    assert hparams["output_folder"] == "results/demo/7"


def test_null_is_none_where_a_name_may_be_missing(file: Path) -> None:
    hparams = loaded(file, "--init_from", "null", "--data_folder=null", "--name=null")
    assert hparams["init_from"] is None and hparams["data_folder"] is None
    assert hparams["name"] == "null" and hparams["output_folder"] == "results/null/1986"


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_each_open_key_of_the_recipes_is_a_name_or_a_number(path: Path) -> None:
    """Where the YAML's own value shows no kind, the key must be known."""
    others = """
        adversarial_start_step block_options codec_input copies epochs extra_losses judge_clips
        max_clips merge_range mixer seconds seeds snr_db speed_perturb word_loss
    """.split()
    for key, value in read_tree(path).items():
        if value in (None, [], {}) or tag_of(value) == "!PLACEHOLDER":
            last = key.rpartition("_")[2]
            assert (last in NAMES) != (key in others or last in others), key


REFUSED = [
    (["--number_of_epochs=0"], "number_of_epochs=0; give a whole number from 1 on"),
    (["--number_of_epochs", "-1"], "number_of_epochs=-1; give a whole number from 1 on"),
    (["--number_of_epochs", "1.5"], "number_of_epochs=1.5; give a whole number from 1 on"),
    (["--number_of_epochs", "null"], "number_of_epochs=None; give a whole number from 1 on"),
    (["--batch_size"], "--batch_size: no value behind it; give --batch_size VALUE"),
    (["--batch_size="], "--batch_size: no value behind it"),
    (["--batch_size", "--lr", "1"], "--batch_size: no value behind it"),
    (["--batch_size", "True"], "batch_size=True; give a number, such as 4"),
    (["--batch_size", "eight"], "batch_size='eight'; give a number, such as 4"),
    (["--batch_size", "2024-01-05"], "give a number, such as 4"),
    (["--lr", "-0.1"], "lr=-0.1; give a number from 0 on"),
    (["--lr", ".inf"], "lr=inf; give a number from 0 on"),
    (["--lr", ".nan"], "lr=nan; give a number from 0 on"),
    (["--gamma", "-1"], "gamma=-1; give a number from 0 on"),
    (["--max_broken_share", "2"], "max_broken_share=2; give a share from 0 to 1"),
    (["--max_seconds", "0"], "max_seconds=0; give a number above 0"),
    (["--encoder", "{sample_rate: 0}"], "sample_rate=0; give 8000 to 192000 Hz"),
    (["--encoder", "{sample_rate: -1}"], "sample_rate=-1; give 8000 to 192000 Hz"),
    (["--encoder", "{sample_rate: 1000000000}"], "sample_rate=1000000000; give 8000 to 192000"),
    (["--encoder", "{sample_rate: abc}"], "sample_rate='abc'; give 8000 to 192000 Hz"),
    (["--encoder", "{n_mels: 0}"], "n_mels=0; give a whole number from 1 on"),
    (["--lr_scheduler_interval", "day"], "lr_scheduler_interval='day'; give epoch or step"),
    (["--seed", "-1"], "seed=-1; give a whole number from 0 on"),
    (["--skip_prep", "yes"], "skip_prep='yes'; give True or False"),
    (["--skip_prep", "1"], "skip_prep=1; give True or False"),
    (["--sample_rate", "8000"], "no key 'sample_rate'"),
    (["--batch_siez", "8"], "no key 'batch_siez'; did you mean 'batch_size'?"),
    (["--tr_splits", "dev"], "tr_splits='dev'; give a list, such as [dev]"),
    (["--betas", "[1"], "--betas [1: not YAML"),
    (["--betas", "[" * 1000], "not YAML (too deep)"),
    (["8"], "8: no key before this value; write --key value"),
    (["--max_grad_norm", "much"], "--max_grad_norm=much: give a number"),
    (["--precision", "fp8"], "--precision=fp8: give fp32 or fp16 or bf16"),
    (["--debug", "2"], "--debug=2: give no value"),
    (["--device"], "--device=: give a value"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_a_wrong_option_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        command = read_command([str(MINI), *words], with_run_options=True)
        load_config(command.file, command.overrides)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_without_a_yaml() -> None:
    for words in ([], ["--batch_size", "8"]):
        with pytest.raises(UserError, match=r"name a YAML first, such as hparams/NAME\.yaml"):
            read_command(words)


def test_run_options_have_their_types(file: Path) -> None:
    words = "--debug --debug_batches 3 --max_grad_norm=1 --device cpu --precision bf16".split()
    words += ["--optimizer_step_limit", "5", "--compile_module_keys", "a", "b", "--lr=1"]
    command = read_command([str(file), *words], with_run_options=True)
    options = run_options(command)
    assert options.debug is True and options.debug_batches == 3 and options.max_grad_norm == 1.0
    assert options.device == "cpu" and options.precision == "bf16"
    assert options.optimizer_step_limit == 5 and options.compile_module_keys == ["a", "b"]
    assert "debug" in options.overridden_args and "jit" not in options.overridden_args
    assert options.param_file == str(file) and command.overrides == "lr: 1\n"


def test_the_last_value_of_a_key_holds(file: Path) -> None:
    assert loaded(file, "--lr=1", "--name=a", "--lr=2", "--name", "b")["name"] == "b"


def test_config_prints_the_name(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", str(file), "--old_data", "a: #b", "--name", "007"]) == 0
    printed = YAML(typ="safe").load(capsys.readouterr().out)
    assert printed["old_data"] == "a: #b" and printed["output_folder"] == "results/007/1986"
