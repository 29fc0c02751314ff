"""Reading YAMLs: bases, includes, overrides, and keys that are unknown or not read."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from hyperpyyaml import load_hyperpyyaml

from focalcodec.errors import UserError
from focalcodec.training.run import load_hparams
from focalcodec.training.run.config import COMMAND_LINE, load_config, resolve_config
from focalcodec.training.run.dead_keys import refuse_dead_keys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base, a delta over it, an included file, and one that includes it."""
    files = {
        "base.yaml": (
            "lr: 0.1\nwidth: 4\nmodel: !new:torch.nn.Linear\n    in_features: !ref <width>\n"
            "    out_features: 3\nmodules:\n    model: !ref <model>\n"
            "opt: {name: adam, eps: 1.e-8}\n"
        ),
        "delta.yaml": "__base__: base.yaml\nwidth: 5\nopt: {eps: 0.5}\nextra: [1, 2]\n",
        "deep/delta.yaml": "__base__: ../delta.yaml\nmodel: {out_features: 7}\n",
        "parts/head.yaml": "size: 2\ndouble: !ref <size> * 2\n",
        "with_head.yaml": "head: !include:parts/head.yaml\n    size: 6\n",
        "over_head.yaml": "__base__: with_head.yaml\nhead: {size: 8}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def refusal(path: Path, overrides: str = "") -> str:
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_delta_holds_only_what_differs(folder: Path) -> None:
    hparams = load_config(folder / "deep" / "delta.yaml", "lr: 0.3")
    assert hparams["lr"] == 0.3 and hparams["extra"] == [1, 2]
    assert hparams["opt"] == {"name": "adam", "eps": 0.5}
    assert hparams["model"].weight.shape == (7, 5)


def test_references_are_the_same_object(folder: Path) -> None:
    hparams = load_config(folder / "delta.yaml")
    assert hparams["modules"]["model"] is hparams["model"]


def test_includes_lie_beside_the_including_file(folder: Path) -> None:
    assert load_config(folder / "with_head.yaml")["head"] == {"size": 6, "double": 12}
    assert load_config(folder / "with_head.yaml", "head: {size: 7}")["head"]["double"] == 14
    assert load_config(folder / "over_head.yaml")["head"] == {"size": 8, "double": 16}


@pytest.mark.parametrize("name", ["deep/delta.yaml", "over_head.yaml"])
def test_resolved_text_is_plain_hyperpyyaml(folder: Path, tmp_path_factory, name: str) -> None:
    text = resolve_config(folder / name, "lr: 2.0" if name.startswith("deep") else "")
    expected = load_config(folder / name, "lr: 2.0" if name.startswith("deep") else "")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "hyperparams.yaml"
    elsewhere.write_text(text)
    with elsewhere.open() as file:
        plain = load_hyperpyyaml(file)
    again = load_config(elsewhere)
    assert "__base__" not in text and "!ref" not in text and "!include" not in text
    for loaded in (plain, again):
        assert loaded.keys() == expected.keys()
        for key in loaded.keys() - {"model", "modules"}:
            assert loaded[key] == expected[key]
        if "model" in loaded:
            assert loaded["model"].weight.shape == expected["model"].weight.shape
            assert loaded["modules"]["model"] is loaded["model"]


@pytest.mark.parametrize(
    ("name", "overrides", "wrong", "nearest"),
    [
        ("delta.yaml", "lrr: 0.1", "lrr", "lr"),
        ("delta.yaml", "opt: {esp: 1}", "esp", "eps"),
        ("with_head.yaml", "head: {sizes: 1}", "sizes", "size"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest(
    folder: Path, name: str, overrides: str, wrong: str, nearest: str
) -> None:
    line = refusal(folder / name, overrides)
    assert f"{wrong!r}" in line and f"did you mean {nearest!r}" in line and name in line


def test_unknown_key_in_a_file_is_refused(folder: Path) -> None:
    (folder / "bad.yaml").write_text("__base__: base.yaml\nopt: {epss: 1}\n")
    assert "did you mean 'eps'" in refusal(folder / "bad.yaml")
    (folder / "bad.yaml").write_text("head: !include:parts/head.yaml\n    siez: 1\n")
    assert "did you mean 'size'" in refusal(folder / "bad.yaml")
    (folder / "bad.yaml").write_text("__base__: with_head.yaml\nhead: {siez: 1}\n")
    assert "did you mean 'size'" in refusal(folder / "bad.yaml")


def test_key_that_nothing_reads_is_refused(folder: Path) -> None:
    read = {"lr", "modules", "opt"}
    refuse_dead_keys(folder / "base.yaml", read)
    with pytest.raises(UserError, match="nothing reads the key 'extra'"):
        refuse_dead_keys(folder / "delta.yaml", read)
    (folder / "typo.yaml").write_text("__base__: base.yaml\nopts: 1\n")
    with pytest.raises(UserError, match="'opts'; did you mean 'opt'"):
        refuse_dead_keys(folder / "typo.yaml", read)


def test_text_instead_of_a_number_is_refused(folder: Path) -> None:
    assert "lr='fast'; give a number, such as 0.1" in refusal(folder / "base.yaml", "lr: fast")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lr: [1]", "lr=[1]; give a number, such as 0.1"),
        ("opt: null", "opt=None; give a mapping of name, eps"),
        ("opt: 3", "opt=3; give a mapping of name, eps"),
        ("model: Linear", "give !name: or !new:, such as !new:torch.nn.Linear"),
        ("extra: 3", "extra=3; give a list, such as [3]"),
    ],
)
def test_value_of_another_kind_is_refused(folder: Path, override: str, message: str) -> None:
    assert message in refusal(folder / "delta.yaml", override)


def test_an_object_may_be_left_out_or_replaced(folder: Path) -> None:
    assert load_config(folder / "base.yaml", "model: null")["modules"] == {"model": None}
    replaced = load_config(folder / "base.yaml", "model: !new:torch.nn.ReLU {}")
    assert type(replaced["model"]).__name__ == "ReLU"


@pytest.mark.parametrize("base", ["null", "3", "[3]", "{a: b}", "''"])
def test_base_that_is_not_a_file_name_is_refused(folder: Path, base: str) -> None:
    (folder / "bad.yaml").write_text(f"__base__: {base}\nlr: 1\n")
    assert "name a YAML file, or remove the key" in refusal(folder / "bad.yaml")
    with pytest.raises(UserError, match="name a YAML file, or remove the key"):
        refuse_dead_keys(folder / "bad.yaml", {"lr"})


def test_folder_instead_of_a_file_is_refused(folder: Path) -> None:
    assert "Is a directory; name a YAML file" in refusal(folder)
    (folder / "number.yaml").write_text("3: 4\n")
    assert "the key 3 is not a name" in refusal(folder / "number.yaml")


def test_command_line_of_an_older_version_is_read(folder: Path) -> None:
    override = "model: !new:focalcodec.logmel.LogMel {n_mels: 8}"
    assert type(load_config(folder / "base.yaml", override)["model"]).__name__ == "LogMel"


def test_value_that_must_be_given_is_named_also_in_the_resolved_yaml(folder: Path) -> None:
    (folder / "open.yaml").write_text("data: !PLACEHOLDER\n")
    with pytest.raises(UserError, match="'data' is a !PLACEHOLDER"):
        resolve_config(folder / "open.yaml")
    assert "data: /x" in resolve_config(folder / "open.yaml", "data: /x")


def test_plain_yaml_without_a_key_that_trainings_need_is_one_line(folder: Path) -> None:
    with pytest.raises(UserError, match="base.yaml: no key 'brain'; give it, or name a __base__"):
        load_hparams([str(folder / "base.yaml")])


def test_wrong_arguments_of_an_object_are_reported(folder: Path) -> None:
    line = refusal(folder / "base.yaml", "model: {in_featuress: 3}")
    assert "in_featuress" in line and "base.yaml" in line


def test_wrong_arguments_of_a_later_call_are_reported_early(folder: Path) -> None:
    (folder / "name.yaml").write_text("opt: !name:torch.optim.AdamW\n    lrr: 0.1\n")
    line = refusal(folder / "name.yaml")
    assert "opt: AdamW" in line and "lrr" in line


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lr: !PLACEHOLDER\n", "lr"),
        ("lr: [1, 2\n", "not YAML"),
        ("- 1\n- 2\n", "no keys"),
        ("", "no keys"),
        ("lr: !ref <nowhere>\n", "nowhere"),
        ("__base__: gone.yaml\n", "gone.yaml"),
        ("head: !include:gone.yaml\n", "gone.yaml"),
        ("model: !new:torch.nn.Linaer [1, 2]\n", "Linaer"),
        ("model: !new:no_such_module.Thing\n", "no_such_module"),
        ("lr: 1\nlr: 2\n", "lr"),
        ("__base__: bad.yaml\n", "bad.yaml"),
    ],
)
def test_bad_files_are_reported_in_one_line(folder: Path, text: str, told: str) -> None:
    (folder / "bad.yaml").write_text(text)
    assert told in refusal(folder / "bad.yaml")


def test_missing_file(folder: Path) -> None:
    assert "no such file" in refusal(folder / "gone.yaml")
    assert "gone" in refusal(folder / "gone.yaml")


@pytest.mark.parametrize("overrides", ["just words", "[1, 2]", "lr: [1"])
def test_overrides_that_are_not_key_and_value(folder: Path, overrides: str) -> None:
    assert "command line" in refusal(folder / "base.yaml", overrides)


def test_include_without_changes_takes_changes(folder: Path) -> None:
    (folder / "plain.yaml").write_text("head: !include:parts/head.yaml\n")
    assert load_config(folder / "plain.yaml", "head: {size: 7}")["head"]["double"] == 14
    assert "did you mean 'size'" in refusal(folder / "plain.yaml", "head: {siez: 7}")


def test_mapping_can_be_emptied_and_filled(folder: Path) -> None:
    (folder / "sets.yaml").write_text("full: {a: [1]}\nempty: {}\n")
    hparams = load_config(folder / "sets.yaml", "full: {}\nempty: {b: [2]}")
    assert hparams == {"full": {}, "empty": {"b": [2]}}


def test_scalars_of_the_command_line_keep_their_type(folder: Path) -> None:
    (folder / "types.yaml").write_text("text: a\nday: null\nflag: True\nnone: 1\nnumber: 1\n")
    hparams = load_config(
        folder / "types.yaml",
        "text: 'a: b'\nday: 2020-01-02\nflag: false\nnone: null\nnumber: 1e-3\n",
    )
    assert hparams["text"] == "a: b" and hparams["day"] == datetime.date(2020, 1, 2)
    assert hparams["flag"] is False and hparams["none"] is None
    assert hparams["number"] == 1e-3


def test_references_to_references_further_down(tmp_path: Path) -> None:
    path = tmp_path / "chain.yaml"
    path.write_text("a: [{x: !ref <b>}]\nb: !ref <c>/y\nc: !ref <d>/x\nd: w\n")
    assert load_config(path)["a"] == [{"x": "w/x/y"}]
    assert "!ref" not in resolve_config(path)
    path.write_text("a: !ref <b>\nb: !ref <a>\n")
    with pytest.raises(UserError, match="chain.yaml"):
        load_config(path)


def test_each_value_names_its_origin_and_no_comment_of_another_value_stays(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "# head of the base\n"
        "lr: 0.1        # the paper's\n"
        "dims: [1, 2]   # of both\n"
        "\n# Model\n"
        "perturb: null  # off\n"
        "model: !new:torch.nn.Linear\n"
        "    in_features: 3  # inputs\n"
        "    out_features: 4\n"
        "seed: 1        # of everything\n"
    )
    (tmp_path / "delta.yaml").write_text(
        "__base__: base.yaml\ndims: [5, 6]\nmodel: {in_features: 7}\n"
        "perturb: !name:torch.nn.Identity\n"
    )
    text = resolve_config(tmp_path / "delta.yaml", "seed: 2")
    lines = {line.split(":")[0].strip(): line for line in text.splitlines() if ":" in line}
    assert lines["lr"].endswith("# the paper's")
    for key, origin in {
        "dims": "delta.yaml",
        "in_features": "delta.yaml",
        "seed": COMMAND_LINE,
    }.items():
        assert lines[key].endswith(f"# {origin}") and lines[key].count("#") == 1
    assert lines["perturb"].endswith("# delta.yaml")
    assert "# Model" in text and "head of the base" not in text
    loaded = load_hyperpyyaml(text)
    assert (loaded["dims"], loaded["seed"], loaded["model"].in_features) == ([5, 6], 2, 7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !applyref:os.system ['touch MARK']", "!applyref:os.system runs code"),
        (f"a: {'[' * 5000}", "too deeply"),
        (
            "a0: &a0 1\n" + "\n".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}]" for i in range(1, 20)),
            "large",
        ),
    ],
)
def test_printing_a_yaml_runs_no_code_and_ends(text, words, tmp_path) -> None:
    file = tmp_path / "foreign.yaml"
    file.write_text(text.replace("MARK", str(tmp_path / "mark")))
    with pytest.raises(UserError, match=f"foreign.yaml: .*({words})"):
        resolve_config(file)
    assert not (tmp_path / "mark").exists()
