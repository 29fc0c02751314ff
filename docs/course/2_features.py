# %% [markdown]
# # 2. Features: a spectrogram against a speech encoder
#
# Chapter 1 said: do not describe the samples, describe *features*. Which ones? You compare a
# spectrogram, which needs no training, with a trained encoder, and measure what each of its layers
# keeps.
#
# * **You need**: chapter 1. What a Fourier transform does: it splits a sound into frequencies.
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
from focalcodec.audio import read_audio
from focalcodec.encoders.logmel import LogMel, mel_bands

sig = course.clip()  # (T,)
codec = FocalCodec.from_pretrained("demo")

# %% [markdown]
# ## The spectrogram
#
# Take a window of 1024 samples, 64 ms. Its Fourier transform says how loud each frequency is. Move
# the window by 320 samples and repeat: 50 columns a second, the *spectrogram*. Then
#
# * join its 513 frequencies, 0 to 8000 Hz, to 80 *mel* bands: narrow for low frequencies, wide for
#   high ones, like our hearing;
# * take the logarithm, because we hear ratios of loudness;
# * shift and scale to numbers around zero.

# %%
spectrogram = LogMel(n_mels=80)
mel, _ = spectrogram.run(sig[None])  # (1, N, 80)
print(tuple(mel.shape), f"{len(sig) / 16000:.2f} s")
course.show_spectrograms({"a real person": sig})

# %% [markdown]
# ## Back to sound
#
# A spectrogram says how loud, not *when in the wave*: it has no *phase*. We must invent it. The
# algorithm of Griffin and Lim starts with random phases, makes a wave, takes the phases of that
# wave, and repeats.

# %%
WINDOW = torch.hann_window(1024)


def griffin_lim(loudness, rounds=32):
    """A wave (T,) with about this spectrogram (513, N)."""
    torch.manual_seed(0)
    phase = 2 * torch.pi * torch.rand(loudness.shape)
    for _ in range(rounds):
        wave = torch.istft(torch.polar(loudness, phase), 1024, 320, window=WINDOW)
        phase = torch.stft(wave, 1024, 320, window=WINDOW, return_complex=True).angle()
        phase = phase[:, : loudness.shape[1]]
    return wave


def from_mel(feats, encoder):
    """A wave of the log-mel feats (1, N, bands) of `encoder`."""
    bands = mel_bands(16000, 1024, encoder.dim, 0.0, 8000.0)  # (bands, 513)
    loud = (feats[0] * encoder.scale + encoder.offset).exp()  # back to loudness, (N, bands)
    return griffin_lim((loud @ torch.linalg.pinv(bands).T).clamp(min=0.0).T)


course.listen("original", sig)
course.listen("80 real numbers a frame, invented phase", from_mel(mel, spectrogram))

# %% [markdown]
# The words are clear, the voice sounds as if it came through a tube. 80 real numbers a frame are
# enough to understand every word, but they are not 13 bits.
#
# ## A failure to hear: 13 bits of a spectrogram
#
# Take 13 bands and keep one bit of each: louder or softer than its mean in other speech?

# %%
few_bands = LogMel(n_mels=13)
paths = course.files("train-mini")
feats = [few_bands.run(read_audio(path, 16000)[None])[0][0] for path in paths]
other = torch.cat(feats)  # (frames, 13)
mean = other.mean(dim=0)
loud_mean = torch.stack([x[x > m].mean() for x, m in zip(other.T, mean, strict=True)])
soft_mean = torch.stack([x[x <= m].mean() for x, m in zip(other.T, mean, strict=True)])

feats, _ = few_bands.run(sig[None])
bits = feats > mean  # (1, N, 13): 13 bits a frame
course.listen(
    "13 bits a frame of a spectrogram", from_mel(torch.where(bits, loud_mean, soft_mean), few_bands)
)

# %% [markdown]
# You hear whispering noise with the rhythm of speech. All bands are loud in a vowel and soft in a
# pause, so most bits say the same thing again, and no bit describes the pitch, the height of the
# voice.
#
# ## A speech encoder
#
# The published FocalCodec uses the first six layers of *WavLM*, a network that was trained on
# 94,000 hours of speech to predict hidden parts of a recording from the rest. To do that, it must
# find out what speech is made of. It has 94 million weights here, and is not in this package.
# `demo` has a small encoder of 2 million weights. It was trained to give the same output as the
# encoder of *Whisper*, a speech recogniser. (To train a small network on the output of a large one
# is called *distillation*.) Then encoder and the parts that make tokens were trained together.
#
# It starts from the spectrogram. Then six layers of convolutions, which are weighted sums over
# neighbouring frames (chapter 3), give 256 numbers a frame each.

# %%
with torch.no_grad():
    feats = codec.sig_to_feats(sig[None])
print(tuple(feats.shape), sum(x.numel() for x in codec.encoder.parameters()), "weights")
course.listen("256 real numbers a frame of the encoder", codec.feats_to_sig(feats)[0])
course.listen("13 bits a frame of these", codec.decode(codec.encode(sig, 16000)[0])[0])

# %% [markdown]
# ## What does each layer keep?
#
# A *probe* is a small model that tries to read something from features. If it can, the features
# keep it. Our probe is the smallest one, a linear map, found by least squares. We read two things
# from one frame:
#
# * **the sound**: the 80 mel bands. Figure: $R^2$, the share of their variance that is predicted. 1
#   is all.
# * **the voice**: which of eight speakers? Figure: share of right frames. A guess has 0.125.
#
# First the output of each layer, for clips to learn from, and others to test on. A *hook* is a
# function that PyTorch calls with the output of a layer.

# %%
layers = [*codec.encoder.backbone.layers, codec.encoder.head]  # six layers, and the output
outputs = []


def keep_output(layer, inputs, output):
    """Append the output (N, 256) of a layer to `outputs`."""
    outputs.append((output[0] if isinstance(output, tuple) else output)[0])


hooks = [layer.register_forward_hook(keep_output) for layer in layers]


@torch.no_grad()
def features_of(split):
    """Features of all frames of a split at each layer, mel bands, speakers, and frames of clips."""
    rows, mels, speakers = [], [], []
    for path in course.files(split):
        outputs.clear()
        sig = read_audio(path, 16000)[None]
        codec.sig_to_feats(sig)
        mels.append(spectrogram.run(sig)[0][0])
        rows.append([x[: len(mels[-1])] for x in outputs])
        speakers += [course.speaker(path)] * len(mels[-1])
    feats = [torch.cat(layer) for layer in zip(*rows, strict=True)]
    return feats, torch.cat(mels), torch.tensor(speakers), [len(mel) for mel in mels]


train, train_mel, train_speakers, train_lengths = features_of("train-mini")
test, test_mel, test_speakers, test_lengths = features_of("dev-mini")
for hook in hooks:
    hook.remove()
print(len(train_mel), "frames to learn from,", len(test_mel), "to test on")


# %%
def probe(x, y, new_x):
    """Predict y from x by a linear map, and apply it to new_x."""
    mean, std = x.mean(dim=0), x.std(dim=0) + 1e-5
    x, new_x = (x - mean) / std, (new_x - mean) / std
    x, new_x = (torch.nn.functional.pad(z, (0, 1), value=1.0) for z in (x, new_x))  # a constant
    weights = torch.linalg.solve(x.T @ x + torch.eye(x.shape[1]), x.T @ y)
    return new_x @ weights


def sound_kept(x, new_x):
    """R^2 of the mel bands."""
    error = (probe(x, train_mel, new_x) - test_mel).square().mean()
    return float(1 - error / (test_mel - train_mel.mean(dim=0)).square().mean())


def voice_kept(x, new_x):
    """Share of frames with the right speaker."""
    labels = torch.nn.functional.one_hot(train_speakers, 8).float()
    return float((probe(x, labels, new_x).argmax(dim=1) == test_speakers).float().mean())


sound = [sound_kept(x, new_x) for x, new_x in zip(train, test, strict=True)]
voice = [voice_kept(x, new_x) for x, new_x in zip(train, test, strict=True)]

# %% [markdown]
# **The picture to read.** From left to right: the layers, from the input to the output.

# %%
names = [*(f"layer {number}" for number in range(1, 7)), "output"]
_, axes = plt.subplots(1, 2, figsize=(9, 2.8))
for axis, values, title in zip(
    axes, (sound, voice), ("sound, $R^2$", "voice, share right"), strict=True
):
    axis.plot(names, values, "o-")
    axis.set_title(title)
    axis.set_ylim(0.7, 1.0)
    axis.tick_params("x", rotation=45)
plt.show()
print("sound:", [round(x, 3) for x in sound])
print("voice:", [round(x, 3) for x in voice])

# %% [markdown]
# Each layer keeps less of the voice; of the sound, later layers keep a little less. No loss of the
# training asked for this, but the large encoder belongs to a speech recogniser, which does not need
# to say who speaks. That is the choice of every speech codec:
#
# * **low layers** keep the voice and the details: better sound, more bits;
# * **high layers** of large encoders keep the words and less of the rest: fewer bits, a less
#   similar voice. (We have not measured words here: [probes.md](../probes.md) says how.)
#
# FocalCodec takes layer 6 of the 24 of WavLM-large as a compromise.
#
# **The numbers to check.** And what is left after 13 bits?

# %%
course.expect("voice, layer 1", voice[0], 0.88, 0.03)
course.expect("voice, output", voice[-1], 0.74, 0.04)
course.expect("sound, output", sound[-1], 0.92, 0.02)


@torch.no_grad()
def after_tokens(feats, lengths):
    """Features after 13 bits a frame, clip by clip."""
    return torch.cat([codec.feats_to_qfeats(clip[None])[0] for clip in feats.split(lengths)])


train_q = after_tokens(train[-1], train_lengths)
test_q = after_tokens(test[-1], test_lengths)
course.expect("voice, after 13 bits", voice_kept(train_q, test_q), 0.57, 0.04)
course.expect("sound, after 13 bits", sound_kept(train_q, test_q), 0.84, 0.02)
if not course.SHORT:
    assert voice == sorted(voice, reverse=True), "each layer keeps less of the voice"

# %% [markdown]
# ## Exercises
#
# 1. How many bits a second are 80 mel bands of 32 bits each, at 50 frames a second? How many times
#    more than the budget?
# 2. Probe the mel bands themselves for the voice. Why do the encoder's first layers have a higher
#    figure than the spectrogram from which they are computed?
# 3. The mean of a clip's predictions is more certain than one frame. What share of *clips* has the
#    right speaker at layer 1? `test_lengths` has the frames of each clip.

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 1
assert 80 * 32 * 50 == 128_000  # bit/s
assert round(128_000 / 650) == 197

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 2
of_mel = voice_kept(train_mel, test_mel)
# A layer sees neighbouring frames, and its numbers are not linear in the bands. A linear probe
# measures what is easy to read, not what is there.
assert course.SHORT or of_mel < voice[0]

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 3
labels = torch.nn.functional.one_hot(train_speakers, 8).float()
scores = probe(train[0], labels, test[0])  # (frames, 8)
predicted = torch.stack([clip.mean(dim=0).argmax() for clip in scores.split(test_lengths)])
speakers = torch.stack([clip[0] for clip in test_speakers.split(test_lengths)])
assert course.SHORT or (predicted == speakers).float().mean() > 0.9
