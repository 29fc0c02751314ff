"""Training: losses, discriminators, Brains, checkpoints, pictures.

Inference does not need this package. Its modules import speechbrain, which imports torchaudio. So
torchaudio is made usable here, before any module is imported.
"""

from focalcodec.packages import ensure_torchaudio

ensure_torchaudio()
