"""A codec as a repository of the Hugging Face hub: files for three loaders, a model card, upload.

`config.json` and `model.safetensors` are for this package and, with `modeling_focalcodec.py`, for
`transformers.AutoModel`. The official package refuses keys that it does not know: it reads
`model.json`, the same configuration without them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from focalcodec.errors import UserError, one_line
from focalcodec.files import atomic_path
from focalcodec.hub.checkpoints import CONFIG_NAME, PART_NAMES, WEIGHTS_NAME
from focalcodec.hub.fingerprint import weights_sha256

CARD_NAME = "README.md"
PROCESSOR_NAME = "preprocessor_config.json"
MODELING_NAME = "modeling_focalcodec.py"
OFFICIAL_NAME = f"{Path(WEIGHTS_NAME).stem}.json"  # it looks for weights of the same name
TRANSFORMERS = {
    "model_type": "focalcodec",
    "architectures": ["FocalCodecModel"],
    "auto_map": {
        "AutoConfig": "modeling_focalcodec.FocalCodecConfig",
        "AutoModel": "modeling_focalcodec.FocalCodecModel",
    },
}
# of `AutoFeatureExtractor`, which checks the rate and pads a batch
_PROCESSOR = {
    "feature_extractor_type": "EncodecFeatureExtractor",
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": True,
}


class Codec(Protocol):
    """What is published of a codec: `focalcodec.FocalCodec` has it."""

    @property
    def config(self) -> dict[str, Any]:
        """The `config.json`."""

    @property
    def token_rate(self) -> float:
        """Tokens a second, Hz."""

    @property
    def bitrate(self) -> float:
        """Bits a second."""

    @property
    def sample_rate_input(self) -> int:
        """Hz."""

    @property
    def sample_rate_output(self) -> int:
        """Hz."""

    @property
    def latency(self) -> float | None:
        """Duration of a chunk, ms; None if the codec is not causal."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """Weights by name."""

    def parameters(self) -> Any:
        """Trainable weights."""

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: str | None = None) -> None:
        """Write `config.json`, `model.safetensors`, and modules of the user's own parts."""


class About(NamedTuple):
    """What a model card says beside the facts of the codec; texts are Markdown."""

    training: str = ""
    figures: str = ""
    license: str | None = None  # an identifier of the hub, such as apache-2.0
    languages: tuple[str, ...] = ()  # two-letter codes


def publish(
    codec: Codec, folder: str | os.PathLike[str], card: str, dtype: str | None = None
) -> None:
    """Write the files of a repository, each atomically; `card` is the text of its README.md.

    `dtype` is that of `stored_tensors`. Raises a `UserError` as `save_pretrained`.
    """
    codec.save_pretrained(folder, dtype)
    rate = codec.sample_rate_input
    config = codec.config | TRANSFORMERS | {"sampling_rate": rate}
    texts = {
        OFFICIAL_NAME: json.dumps(codec.config, indent=2) + "\n",
        MODELING_NAME: (Path(__file__).parents[1] / MODELING_NAME).read_text(encoding="utf-8"),
        PROCESSOR_NAME: json.dumps(_PROCESSOR | {"sampling_rate": rate}, indent=2) + "\n",
        CONFIG_NAME: json.dumps(config, indent=2) + "\n",
        CARD_NAME: card,
    }
    for name, text in texts.items():
        with atomic_path(Path(folder, name)) as temporary:
            temporary.write_text(text, encoding="utf-8")


def upload(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload codec",
    create_pr: bool = False,
) -> str:
    """Make a repository on the hub, if there is none, and put the files of a folder there.

    Returns the address of the commit. `token` is an access token with permission to write, by
    default the one of `hf auth login` or of `HF_TOKEN`; a new repository is public unless
    `private`; `revision` is a branch. Raises a `UserError` for a wrong name, or if the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=token)
    try:
        name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        commit = api.upload_folder(
            repo_id=name,
            folder_path=Path(folder),
            revision=revision,
            commit_message=commit_message,
            create_pr=create_pr,
        )
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise UserError(
            f"{repo_id}: not uploaded ({one_line(error)}); check name, token and network"
        ) from error
    return str(commit.commit_url)


def card_beside(codec: Codec, source: str | os.PathLike[str] | None) -> str | None:
    """Model card in the folder that a codec was loaded from, if it is about the same weights."""
    path = Path(source, CARD_NAME) if source is not None else None
    if path is None or not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    return text if weights_sha256(codec) in text else None


# -- the model card --------------------------------------------------------------------------------


def model_card(codec: Codec, name: str, about: About | None = None) -> str:
    """Text of README.md: metadata for the hub, then what the codec is, and what it is for.

    What is not known is said to be not known.
    """
    from huggingface_hub import ModelCardData

    about = about or About()
    data = ModelCardData(
        language=list(about.languages) or None,
        license=about.license,
        library_name="focalcodec",
        pipeline_tag="audio-to-audio",
        tags=["audio", "speech", "codec", "speech-codec", "speech-tokens", "focalcodec"],
    )
    licence = (
        f"`{about.license}`, as the publisher states. The training data may add terms."
        if about.license
        else "Not stated. Who publishes these weights chooses the licence, within that of the"
        " training data: `focalcodec export ... --license apache-2.0`."
    )
    unknown, late = "Not known: `focalcodec export` was not given {}.", codec.latency
    return _CARD.format(
        metadata=data.to_yaml(),
        name=name,
        kbps=f"{codec.bitrate / 1000:g}",
        token_rate=f"{codec.token_rate:g}",
        bits=f"{codec.bitrate / codec.token_rate:g}",
        rate_in=codec.sample_rate_input,
        rate_out=codec.sample_rate_output,
        parameters=sum(weight.numel() for weight in codec.parameters()) / 1e6,
        causal=f"yes, {late:g} ms" if late is not None else "no: a frame depends on later audio",
        method=_METHODS[late is not None],
        parts="\n".join(f"| {part} | {codec.config[f'{part}_name']} |" for part in PART_NAMES),
        sha256=weights_sha256(codec),
        training=about.training or unknown.format("a run that trained it"),
        figures=about.figures or unknown.format("the results of an evaluation (`--results`)"),
        licence=licence,
    )


_METHODS = {
    False: "FocalCodec, [arXiv 2502.04465](https://arxiv.org/abs/2502.04465)",
    True: "FocalCodec-Stream, [arXiv 2509.16195](https://arxiv.org/abs/2509.16195)",
}
"""Name and paper, by whether the codec is causal."""

_CARD = """---
{metadata}
---

# {name}

A speech codec of {kbps} kbit/s: {token_rate} tokens a second of {bits} bits, one stream. The method
is {method}.

| | |
|---|---|
| input, output | {rate_in} Hz, {rate_out} Hz, mono |
| parameters | {parameters:.2f} million |
| streaming | {causal} |
{parts}
| weights_sha256 | `{sha256}` |

## Use

With the package `focalcodec`; a folder or the name of a repository takes the place of FOLDER:

```python
from focalcodec import FocalCodec

codec = FocalCodec.from_pretrained("FOLDER")
toks, lengths = codec.encode(sig, sample_rate=rate)  # sig (batch, samples)
rec_sig = codec.decode(toks, lengths, num_samples=sig.shape[1], sample_rate=rate)
```

With `transformers`, where `focalcodec` is installed too:

```python
from transformers import AutoModel

model = AutoModel.from_pretrained("FOLDER", trust_remote_code=True)
output = model(input_values)  # audio_codes, audio_values
```

With the authors' package: `FocalCodec.from_pretrained("FOLDER/model.json")`.

## Training

{training}

## Figures

{figures}

## Intended use

Coding of clean, close speech of one person at a very low bitrate; tokens for speech language
models; voice conversion with the consent of the speaker; research and teaching. Measure on your own
speech before you rely on it: words, voices and languages that the training data lacks become worse.
Do not keep speech in its tokens alone where the wording matters.

Not meant for: imitating the voice of a person who has not agreed; deceiving anyone about who speaks
or what was said; identifying, watching or judging people by their voice. Say where speech is
synthetic or converted.

## Licence

{licence}

## Citation

```bibtex
@inproceedings{{dellalibera2025focalcodec,
    title     = {{{{FocalCodec}}: Low-Bitrate Speech Coding via Focal Modulation Networks}},
    author    = {{Luca {{Della Libera}} and Francesco Paissan and Cem Subakan and Mirco Ravanelli}},
    booktitle = {{Advances in Neural Information Processing Systems}},
    year      = {{2025}},
}}
```
"""
