# %% [markdown]
# # 7. Stream it: causality, states, latency
#
# In a call, you can't wait for the end of a sentence. A *stream* gives tokens while somebody
# speaks. You hear what goes wrong if one cuts the audio into pieces, draw what each token depends
# on, and pass states from piece to piece so that nothing is lost.
#
# * **You need**: chapters 1 and 3.
# * **Time**: 35 minutes; the cells run in a minute.
# * **At the end**: a sound, a picture, numbers that are checked, three exercises.

# %% tags=["install"]
# Google Colab only: write the address of the repository, then run this. Elsewhere it does nothing.
import os
import subprocess
import sys

if "google.colab" in sys.modules:
    ADDRESS = "https://github.com/OWNER/focalcodec"
    if "/OWNER/" in ADDRESS:
        sys.exit("In the line ADDRESS above, write the address of the repository, then run again.")
    subprocess.run(["git", "clone", "--depth", "1", ADDRESS, "focalcodec_course"], check=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "./focalcodec_course"], check=True
    )
    os.chdir("focalcodec_course/docs/course")
    sys.path.insert(0, os.getcwd())

# %%
import course
import matplotlib.pyplot as plt
import torch

from focalcodec import FocalCodec
from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.encoders.logmel import MelEncoder
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.streaming import DecoderSession, EncoderSession
from focalcodec.training.losses import MelLoss
from focalcodec.vocos import Vocos

sig = course.clip()  # (T,)
codec = FocalCodec.from_pretrained("demo")
whole, _ = codec.encode(sig, 16000)  # (1, N): the tokens of the whole signal

# %% [markdown]
# ## A failure to hear: pieces
#
# Cut the audio into pieces of a fifth of a second. Encode and decode each by itself, and join the
# results.

# %%
PIECE = 3200  # samples: 0.2 s


def in_pieces(sig):
    """Encode and decode piece by piece, without any memory."""
    outputs = []
    for piece in sig.split(PIECE):
        toks, _ = codec.encode(piece, 16000)
        outputs.append(codec.decode(toks, num_samples=len(piece))[0])
    return torch.cat(outputs)


rec_sig = codec.decode(whole, num_samples=len(sig))[0]
pieces = in_pieces(sig)
course.listen("the whole signal at once", rec_sig)
course.listen("pieces of 0.2 s, each by itself", pieces)

# %% [markdown]
# At each border something is wrong: the codec does not know what was before, so the sound of the
# voice jumps.
#
# ## What does a token depend on?
#
# Draw it. Change the audio of one frame, and see which latents change. A row of the picture is a
# frame of the output, a column a frame of the input that we changed. The codec `demo` uses the mean
# over the whole clip (chapter 3), so we expect that everything depends on everything, a little.


# %%
@torch.no_grad()
def dependence(codec, frames=48, step=2):
    """Change of latents (frames, frames / step) when the audio of every `step`-th frame changes."""
    start = sig[8000 : 8000 + 320 * frames]  # from where the person speaks
    changed = start.repeat(frames // step, 1)  # one row for each changed frame
    random = torch.Generator().manual_seed(0)
    for row, frame in zip(changed, range(0, frames, step), strict=True):
        row[320 * frame : 320 * (frame + 1)] = 0.1 * torch.randn(320, generator=random)
    lats = codec.sig_to_lats(torch.cat([start[None], changed]))  # (1 + changes, frames, 13)
    return (lats[1:] - lats[:1]).norm(dim=-1).T  # (frames, changes)


# %% [markdown]
# A *causal* codec uses no input from after a token, except within a short *chunk*. Three changes
# make one:
#
# * **convolutions** are padded on the left only, so that a kernel sees this frame and earlier ones;
# * the **mean over the clip** needs the end of the clip. A long convolution over the past replaces
#   it;
# * **attention**, if the encoder has it, sees past frames, and the rest of its chunk.
#
# A chunk has four frames, 80 ms. Here is a small causal codec, with random weights: what depends on
# what follows from the layers, not from the training.

# %%
torch.manual_seed(0)
causal = FocalCodec(
    encoder=MelEncoder(64, num_layers=2, dim=64, ffn_dim=128, causal=True),
    compressor=FocalEncoder(64, 13, [64], [1], causal=True, window_size=24),
    quantizer=BinarySphericalQuantizer(8192),
    decompressor=FocalDecoder(13, 64, [64], [1], causal=True, window_size=24, last_window_size=24),
    decoder=Vocos(64, num_layers=2, dim=64, ffn_dim=128, causal=True),
).eval()
print("latency:", causal.latency, "ms, a chunk:", causal.chunk_size, "samples")
assert causal.latency == 80.0

# %% [markdown]
# **The picture to read.** Left: `demo`. Right: the causal codec. Yellow changes much, dark blue not
# at all.

# %%
drawn = {"demo": dependence(codec), "causal": dependence(causal)}
_, axes = plt.subplots(1, 2, figsize=(8, 3.6))
for axis, (name, change) in zip(axes, drawn.items(), strict=True):
    axis.imshow((change + 1e-7).log10(), vmin=-5, vmax=0, aspect="auto", extent=(0, 48, 48, 0))
    axis.set_title(name)
    axis.set_xlabel("input frame that changes")
    axis.set_ylabel("output frame")
plt.show()

for output in range(48):
    end_of_chunk = output // 4 * 4 + 4
    later = drawn["causal"][output, [i for i in range(24) if 2 * i >= end_of_chunk]]
    assert (later < 1e-5).all(), "a causal codec does not depend on later chunks"
assert (drawn["demo"] > 0).all(), "everything depends on everything"

# %% [markdown]
# Above the diagonal of the right picture all is dark: nothing depends on the future. The edge has
# steps of four frames: within a chunk, the first frame may use the last one. That is why the
# latency is 80 ms: a chunk must be complete before its tokens can be computed.
#
# ## States
#
# A causal codec can go on where it stopped, if it knows what its layers need from the past. A
# convolution with a kernel of 7 frames needs the last 6 frames of its own input. These are its
# *state*. A *session* keeps the states of all layers: you *push* audio, in pieces of any size, and
# get the tokens that are complete.


# %%
def stream(codec, piece, **options):
    """Tokens of `sig` through a session, in pieces of so many samples."""
    session = EncoderSession(codec, **options)
    toks = [session.push(part[None]) for part in sig.split(piece)]
    return torch.cat([*toks, session.flush()], dim=1), session


toks, session = stream(causal, piece=500)
assert torch.equal(toks, causal.encode(sig, 16000)[0]), "the tokens of the whole signal, exactly"
print("tokens of a stream in pieces of 500 samples: all equal to those of the whole signal")

state = [x for x in session.state_dict().values() if x.is_floating_point()]
size = sum(x.numel() * x.element_size() for x in state)
print(f"the state of the stream: {len(state)} tensors, {size / 1000:.0f} kB")

# %% [markdown]
# The tokens are equal, however the audio is cut. The released FocalCodec-Stream has a state of 39
# MB, most of it for attention ([streaming.md](../streaming.md)). The decoder has a session too:

# %%
receiver = DecoderSession(causal)
with torch.no_grad():
    outputs = [receiver.push(part) for part in toks.split(3, dim=1)]
    outputs.append(receiver.flush(num_samples=len(sig)))
    streamed = torch.cat(outputs, dim=1)
    offline = causal.decode(toks, num_samples=len(sig))
print("largest difference to the whole signal:", float((streamed - offline).abs().max()))
assert torch.allclose(streamed, offline, atol=1e-4)

# %% [markdown]
# ## Without a causal codec: windows and latency
#
# `demo` is not causal. It can stream all the same, in *windows*: each new piece is encoded together
# with some audio before it and after it, and only the tokens of the piece are kept. Audio *before*
# costs computation. Audio *after* costs waiting: latency.
#
# How many tokens are those of the whole signal, for more and more audio after the piece?

# %%
waits = [0.0, 0.08, 0.4] if course.SHORT else [0.0, 0.02, 0.08, 0.2, 0.4, 0.8]  # seconds
shares = []
for wait in waits:
    toks, session = stream(codec, 1600, chunk_seconds=0.2, left_seconds=3.0, right_seconds=wait)
    shares.append(float((toks == whole).float().mean()))
    print(f"wait {wait:4.2f} s: latency {session.latency:4.0f} ms, {shares[-1]:.0%} equal tokens")

plt.plot([200 + 1000 * wait for wait in waits], shares, "o-")
plt.xlabel("latency, ms")
plt.ylabel("equal tokens, share")
plt.show()


# %%
def hear_stream(wait):
    """Encode and decode in windows."""
    options = {"chunk_seconds": 0.2, "left_seconds": 3.0, "right_seconds": wait}
    toks, _ = stream(codec, 1600, **options)
    receiver = DecoderSession(codec, **options)
    return torch.cat([receiver.push(toks), receiver.flush(num_samples=len(sig))], dim=1)[0]


windows = hear_stream(0.08)
course.listen("windows: 0.2 s of new audio, 0.08 s after it", windows)
mel_loss = MelLoss()
distances = [float(mel_loss(x[None], rec_sig[None])) for x in (pieces, windows)]
print("mel distance to the output of the whole signal: pieces, windows:", distances)
assert distances[1] < distances[0]

# %% [markdown]
# **The numbers to check.**

# %%
course.expect("equal tokens with 0.08 s of wait", shares[waits.index(0.08)], 0.52, 0.06)
course.expect("equal tokens with 0.4 s of wait", shares[waits.index(0.4)], 0.79, 0.05)

# %% [markdown]
# ## Exercises
#
# 1. A friend counts the delay of a call: chunks of 80 ms, 15 ms to compute each, 40 ms in the
#    network. After what time is a sound heard, at most?
# 2. A causal convolution with kernel $k$ follows another one with kernel $j$. How many frames of
#    the past does the output depend on, and how many frames of state do both need?
# 3. Push into a session of `causal`, store its `state_dict`, push a second piece, load the stored
#    state, and push the second piece again. Are the tokens equal?

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 1
# A sound at the start of a chunk waits for the whole chunk.
assert 80 + 15 + 40 == 135  # ms

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 2
k, j = 7, 9
assert (k - 1) + (j - 1) == 14  # frames of the past, and as many frames of state: k - 1 and j - 1

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 3
session = EncoderSession(causal)
session.push(sig[None, :8000])
stored = {name: value.clone() for name, value in session.state_dict().items()}
first = session.push(sig[None, 8000:16000])
session.load_state_dict(stored)
assert torch.equal(first, session.push(sig[None, 8000:16000]))
plt.close("all")
