# %% [markdown]
# # 1. Why compress, and how bad do 13 bits a frame sound?
#
# A *codec* turns audio into few bits and back. You hear what 13 bits for each 20 ms of speech are
# worth: first with two naive codecs, then with a trained one.
#
# * **You need**: Python, and an idea of what a vector is. Nothing about codecs.
# * **Time**: 20 minutes to read; the cells run in a minute. Run them in order.
# * **At the end**: a sound, a picture, a number that is checked, three exercises.

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

# %% [markdown]
# Sound is a wave of air pressure. A microphone measures it 16,000 times a second; each measurement
# is a *sample*, a number from -1 to 1. In all chapters, `sig` (signal) is a tensor of samples.
# `course` is the file `course.py` beside this notebook: it reads clips, plays sounds (all at the
# same level), and draws pictures.

# %%
import course
import matplotlib.pyplot as plt
import torch

from focalcodec import FocalCodec
from focalcodec.audio import read_audio
from focalcodec.training.losses import MelLoss

sig = course.clip()  # (T,): T samples
course.listen("a real person", sig)

# %% [markdown]
# ## How many bits is that?
#
# A file has 16 bits for each sample, so its *bitrate* is 256,000 bits a second. This is much for
# two uses:
#
# * **To send or store it.** A satellite link may have 1000 bits a second.
# * **To model it.** A language model predicts the next item from some thousand items before. If the
#   items are samples, 2048 of them are 128 ms: less than a word.

# %%
SAMPLE_RATE = 16000  # samples a second
FRAME = 320  # samples of a frame: 20 ms
BITS = 13  # for each frame

frames_per_second = SAMPLE_RATE / FRAME
bits_per_second = frames_per_second * BITS
print(f"{bits_per_second:g} bit/s, {16 * SAMPLE_RATE / bits_per_second:.0f} times less")
print(f"2048 samples: {2048 / SAMPLE_RATE:.3f} s; 2048 frames: {2048 / frames_per_second:.0f} s")
assert bits_per_second == 650

# %% [markdown]
# A *frame* is a short piece of audio, here 320 samples. Our budget is 650 bits a second: for each
# frame one *token* of 13 bits, a number from 0 to $2^{13} - 1 = 8191$. How should 13 bits describe
# 320 samples?
#
# ## Naive codec 1: thirteen signs
#
# Cut the frame into 13 pieces. Keep one bit for each: is its mean above zero?

# %%
num_frames = len(sig) // FRAME
reference = sig[: num_frames * FRAME]  # whole frames only
pieces = torch.nn.functional.adaptive_avg_pool1d(reference[None, None], num_frames * BITS)
bits = pieces > 0  # (1, 1, num_frames * 13)
steps = torch.where(bits, 1.0, -1.0) * pieces.abs().mean()
signs = torch.nn.functional.interpolate(steps, size=len(reference), mode="linear")[0, 0]
course.listen("thirteen signs a frame: 650 bit/s", signs)

# %% [markdown]
# You hear a buzz, and in pauses too, because a sign has no level. A tone of 325 Hz goes up and down
# 325 times a second, so it needs 650 signs. Most of speech is at higher frequencies.
#
# ## Naive codec 2: the most similar frame of a table
#
# Take 8192 frames of other speech. Replace each frame of our clip by the most similar one. Its
# number in the table is the token: 13 bits. This is *vector quantization*, and the table is a
# *codebook*.

# %%
recordings = [read_audio(path, SAMPLE_RATE) for path in course.files("train-mini")]
speech = torch.cat(recordings)  # five minutes of synthetic voices
table = speech[: len(speech) // FRAME * FRAME].view(-1, FRAME)
table = table[torch.randperm(len(table))[:8192]]  # (8192, 320)

frames = reference.view(num_frames, FRAME)
toks = torch.cdist(frames, table).argmin(dim=1)  # (num_frames,): the nearest row for each frame
nearest = table[toks].flatten()
course.listen("the most similar of 8192 frames: 650 bit/s", nearest)

# %% [markdown]
# The rhythm is there, the words are hard to understand, and each border of two frames clicks. Yet
# for vectors of 320 numbers, 8192 examples are very few: two frames of the same vowel differ by
# where the wave begins, and this costs most of the 13 bits.
#
# ## The same 13 bits, used well
#
# `demo` is a small FocalCodec that comes with this package. It also has a budget of 13 bits a
# frame.

# %%
codec = FocalCodec.from_pretrained("demo")
toks, lengths = codec.encode(sig, SAMPLE_RATE)  # (1, N) whole numbers, and N
rec_sig = codec.decode(toks, num_samples=len(sig))[0]  # (T,)
print("the first tokens:", toks[0, :8].tolist())
print(f"{codec.bitrate:g} bit/s, {codec.token_rate:g} tokens/s, {codec.vocab_size} codes")
course.listen("FocalCodec demo: 650 bit/s", rec_sig)

# %% [markdown]
# The words are clear, the voice is a little different. The codec does not describe the samples. It
# describes *features*: some hundred numbers for each frame, which say what sound it is. It has five
# parts, which you meet in the next chapters:
#
# ```text
# audio -> encoder -> compressor -> quantizer -> tokens    chapters 2, 3, 4
# tokens -> decompressor -> decoder -> audio               chapters 3, 6
# ```
#
# The encoder computes the features, the compressor makes 13 numbers of them, the quantizer makes 13
# bits of these. The decompressor estimates the features from the bits; the decoder makes a wave.
#
# ## What is a good number for "sounds similar"?
#
# The *signal-to-noise ratio* (SNR) compares samples. It is $10 \log_{10} \left( \sum_t x_t^2 /
# \sum_t (x_t - y_t)^2 \right)$ in decibel (dB), where $x_t$ is sample $t$ of the original and $y_t$
# that of the output. Higher is better: 0 dB means that the error is as large as the signal.
#
# The *mel distance* compares spectrograms: how loud each of 80 frequency bands is, in each frame.
# Loudness is a natural logarithm; its unit is the *nat*, a factor of $e$. Lower is better.


# %%
def snr(output):
    """Signal-to-noise ratio, dB."""
    noise = reference - output[: len(reference)]
    return float(10 * torch.log10(reference.square().sum() / noise.square().sum()))


mel_loss = MelLoss()  # the distance that the decoder is trained with: chapter 6


def mel_distance(output):
    """Mean difference of the log-mel spectrograms, in nats."""
    return float(mel_loss(output[None, : len(reference)], reference[None]))


outputs = {"signs": signs, "nearest frame": nearest, "FocalCodec": rec_sig}
for name, output in outputs.items():
    print(f"{name:14} SNR {snr(output):5.1f} dB    mel distance {mel_distance(output):.2f}")

# %% [markdown]
# Read this table with care. The SNR of the naive table is *higher* than that of the codec, and it
# sounds worse. At such low rates a codec does not repeat the wave. It makes a new wave with the
# same words and a similar voice, so the SNR says nothing. The mel distance agrees with what you
# hear.
#
# **The picture to read.** Time goes to the right, frequency up, bright is loud. In the original
# find the pauses (dark), the vowels (bright below band 40), and the hiss of *s*, *sh* and *f*
# (bright at the top). Which output has them at the same places? What are the vertical lines of
# "nearest frame", and what is wrong in the pauses of "signs"?

# %%
course.show_spectrograms({"original": reference, **outputs})

# %% [markdown]
# **The number to check.** The mel distance of the codec is a little above half of the naive one's.

# %%
course.expect("mel distance, naive", mel_distance(nearest), 1.15, 0.1)
course.expect("mel distance, codec", mel_distance(rec_sig), 0.65, 0.05)
if not course.SHORT:
    assert snr(rec_sig) < snr(nearest), "SNR does not show which one sounds better"

# %% [markdown]
# ## Exercises
#
# 1. How many bytes do the tokens of one hour of speech take? And as 16-bit samples?
# 2. The published FocalCodec at 12.5 Hz has 12.5 tokens of 13 bits a second. What is its bitrate,
#    and how long are 2048 tokens?
# 3. Use 1024 frames of the table instead of 8192, so 10 bits. How much SNR does that cost? What
#    does it tell you about tables of waveforms?

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 1
tokens_of_an_hour = 3600 * 650 / 8  # bytes
samples_of_an_hour = 3600 * 16000 * 2
assert (tokens_of_an_hour, samples_of_an_hour) == (292_500, 115_200_000)

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 2
assert 12.5 * 13 == 162.5  # bit/s
assert round(2048 / 12.5) == 164  # s: almost three minutes of context for a language model

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 3
small = table[:1024]
fewer = small[torch.cdist(frames, small).argmin(dim=1)].flatten()
# About 1 dB. Eight times as many examples bring little: a table of waveforms is a bad description.
assert course.SHORT or 0 < snr(nearest) - snr(fewer) < 2
plt.close("all")
