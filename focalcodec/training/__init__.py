"""Training: losses, discriminators, Brains, checkpoints, pictures.

Nothing that inference needs is here. The modules below import speechbrain, which imports
torchaudio, which has to be made ready first: here, before any of them.
"""

from focalcodec.compat import ensure_torchaudio

ensure_torchaudio()
