"""What the model card of an exported codec says about its runs and its evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from focalcodec.data.manifest import read_manifest
from focalcodec.errors import UserError
from focalcodec.evaluation.summary import card_tables, markdown, read_card
from focalcodec.files import read_json
from focalcodec.hub import named_folder
from focalcodec.training.figures import Figures
from focalcodec.training.run.trained import CONFIG_NAME, KNOBS_NAME


def training_text(sources: Mapping[str, str | Path], training_data: str = "") -> str:
    """Table of the runs, by what each gave, and `training_data`, a text of the user; Markdown.

    Only names are shown, no path of this machine. A source that is a codec is named.
    """
    rows = [[what, *_training(source)] for what, source in sources.items()]
    table = markdown(["part", "made by", "training data", "epochs", "seed"], rows)
    said = training_data or (
        "The licence of the training data was not given to `focalcodec export`; it is that of the"
        " corpora above."
    )
    return f"{table}\n\n{said}"


def _training(source: str | Path) -> list[str]:
    folder = named_folder(source)
    if not (folder / CONFIG_NAME).is_file():
        name = folder.name if folder.is_dir() else str(source)
        return [f"the codec `{name}`: see its card", "", "", ""]
    knobs = read_json(folder / KNOBS_NAME) if (folder / KNOBS_NAME).is_file() else {}
    made_by = f"the run `{knobs.get('name', folder.name)}`"
    if knobs.get("init_from"):
        made_by += f", from the weights of `{Path(str(knobs['init_from'])).name}`"
    shown = [str(knobs.get(key, "")) for key in ("number_of_epochs", "seed")]
    return [made_by, _data(folder, knobs), *shown]


def _data(folder: Path, knobs: Mapping[str, Any]) -> str:
    given = knobs.get("own_data") or knobs.get("data_folder")
    corpus = f"`{Path(str(given)).name}`" if given else "the small corpus of the recipes"
    splits = knobs.get("tr_splits")
    if isinstance(splits, list) and not knobs.get("own_data"):
        corpus += f" ({', '.join(map(str, splits))})"
    manifest = folder / "manifests" / "train.csv"
    if not manifest.is_file():
        return corpus
    rows = read_manifest(manifest, "", check_files=False)
    hours = sum(row["duration"] for row in rows) / 3600
    speakers = len({row["spk_id"] for row in rows} - {""})
    count = f", {speakers} speaker{'s' * (speakers != 1)}" if speakers else ""
    return f"{corpus}: {len(rows):,} clips, {hours:.3g} h{count}"


def figures_text(
    sources: Mapping[str, str | Path], results: Sequence[str | Path], weights_sha256: str
) -> str:
    """Figures of an evaluation of these weights, and those that the runs ended with; Markdown.

    `results` are output folders of evaluations; only their sets with a card of these weights count.
    Raises a `UserError` if one has none.
    """
    texts = [_evaluated(folder, weights_sha256) for folder in results]
    for what, source in sources.items():
        path = named_folder(source) / "results.json"
        if (named_folder(source) / CONFIG_NAME).is_file() and path.is_file():
            # the loss of a decoder is a distance of log-mel spectrograms
            figures = Figures(valid_loss="mel_loss" if what == "decoder" else "loss")
            table = _results(read_json(path), figures)
            texts.append(f"At the end of the training of: {what}\n\n{table}")
    return "\n\n".join(texts)


def _evaluated(folder: str | Path, weights_sha256: str) -> str:
    cards = [read_card(path) for path in sorted(Path(folder).expanduser().rglob("card.json"))]
    sets = {card["set"]["name"] for card in cards if _is_of(card, weights_sha256)}
    if not sets:
        raise UserError(
            f"{folder}: no result card of these weights ({weights_sha256[:12]}...) among"
            f" {len(cards)}; export, then focalcodec eval, then export again with --overwrite"
        )
    shown = [card for card in cards if card["set"]["name"] in sets]
    names = sorted({card["codec"]["name"] for card in shown if _is_of(card, weights_sha256)})
    note = f"This codec is `{'`, `'.join(names)}` below; 95 % intervals."
    return f"{note}\n\n{card_tables(shown)}"


def _is_of(card: Mapping[str, Any], weights_sha256: str) -> bool:
    return card["codec"].get("weights_sha256") == weights_sha256


def _results(results: Mapping[str, Mapping[str, float]], figures: Figures) -> str:
    keys = dict.fromkeys(key for stats in results.values() for key in stats if key != "toks")
    if keys.keys() & {"feature_loss", "mel_loss"}:
        del keys["loss"]  # a sum of others
    rows = [
        [name, *(figures.value(key, stats[key]) if key in stats else "" for key in keys)]
        for name, stats in results.items()
    ]
    return markdown(["set", *(figures.title(key) for key in keys)], rows)
