"""A speech language model in 60 lines: tokens on disk, training, perplexity, sampling, audio.

focalcodec tokenize corpus/LibriSpeech/train-mini toks_train --model demo
focalcodec tokenize corpus/LibriSpeech/dev-mini toks_valid --model demo
python examples/speech_lm.py       # STEPS after it: another number of training steps
"""

import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec import FocalCodec
from focalcodec.audio import write_audio
from focalcodec.tokenize import TokenStore

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 300
LENGTH, BATCH_SIZE, LR = 128, 8, 0.002  # ids that the model sees at once: 2.56 s


class SpeechLM(nn.Module):
    """Causal Transformer: from ids (B, N) to logits (B, N, size) of the next ids."""

    def __init__(self, codes: Tensor, dim: int = 128, num_layers: int = 2) -> None:
        super().__init__()
        self.register_buffer("codes", codes)  # (size, L)
        # No vector of its own for each of 8192 tokens: most tokens are rare, but no bit is.
        self.embed = nn.Linear(codes.shape[1], dim, bias=False)
        self.place = nn.Parameter(0.02 * torch.randn(LENGTH, dim))
        layer = nn.TransformerEncoderLayer(dim, 4, 4 * dim, batch_first=True, norm_first=True)
        norm = nn.LayerNorm(dim)
        self.blocks = nn.TransformerEncoder(layer, num_layers, norm, enable_nested_tensor=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Input and output share the vectors of the ids."""
        vectors = self.embed(self.codes)  # (size, dim)
        x = vectors[ids] + self.place[: ids.shape[1]]  # (B, N, dim)
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        return self.blocks(x, mask, is_causal=True) @ vectors.T / vectors.shape[1] ** 0.5


def nats(stream: np.ndarray, starts: np.ndarray) -> Tensor:
    """Cross entropy of an id, mean over pieces of the flat array."""
    ids = torch.from_numpy(stream[starts[:, None] + np.arange(LENGTH + 1)].astype(np.int64))
    return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


torch.manual_seed(0)
random = np.random.default_rng(0)
codec = FocalCodec.from_pretrained("demo")
train, valid = (TokenStore(name).for_codec(codec) for name in ("toks_train", "toks_valid"))
vocabulary = train.vocabulary  # ids: the codec's tokens, then bos, eos and pad
codes = codec.quantizer.codebook * codec.quantizer.dim**0.5  # (K, 13), each 1 or -1
model = SpeechLM(torch.block_diag(codes, torch.eye(len(vocabulary.special))))
optimizer = torch.optim.AdamW(model.parameters(), LR, weight_decay=0.1)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, STEPS)

for step in range(1, STEPS + 1):
    model.train()
    loss = nats(train.stream, random.integers(len(train.stream) - LENGTH, size=BATCH_SIZE))
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    if step % 50 == 0 or step == STEPS:
        model.eval()
        with torch.no_grad():
            value = nats(valid.stream, np.arange(0, len(valid.stream) - LENGTH, LENGTH)).exp()
        print(f"step {step}: perplexity {loss.exp():.0f} train, {value:.0f} valid", flush=True)

ids = torch.from_numpy(valid.stream[:101].astype(np.int64))  # bos and 2 s of a clip
with torch.no_grad():
    for _ in range(200):  # 4 s; the special ids are left out, so it does not end earlier
        logits = model(ids[None, -LENGTH:])[0, -1, : len(codes)] / 0.9  # temperature
        ids = torch.cat([ids, torch.multinomial(logits.softmax(dim=0), 1)])
rec_sig = codec.decode(vocabulary.to_toks(ids)[None])  # without bos
write_audio("continued.wav", rec_sig[0], codec.sample_rate_output)
print("continued.wav: 2 s of a clip, and 4 s of the model")
