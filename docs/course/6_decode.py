# %% [markdown]
# # 6. Decode: Vocos, the mel loss, and what a GAN adds
#
# The *decoder* makes a wave out of features. Here you hear why the phase matters, rebuild the last
# layer of Vocos by hand, train with the mel loss, and take the GAN away from a decoder that was
# trained with one.
#
# * **You need**: chapters 1, 2 and 5; complex numbers.
# * **Time**: 40 minutes; the cells run in three minutes on one core.
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
from focalcodec.training.discriminators import Discriminators
from focalcodec.training.losses import (
    MelLoss,
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
)
from focalcodec.vocos import ISTFT

torch.set_num_threads(1)
codec = FocalCodec.from_pretrained("demo")
sig = course.clip()  # (T,)
sig = sig[: len(sig) // 320 * 320]  # whole frames

# %% [markdown]
# ## A failure to hear: the right loudness, the wrong phase
#
# The *short-time Fourier transform* (STFT) of a wave is a table of complex numbers $S = m \, e^{i
# \varphi}$: for each frame and frequency a magnitude $m$ (how loud) and a phase $\varphi$ (where in
# the cycle). With both, the wave comes back exactly. We keep $m$ and change $\varphi$.

# %%
WINDOW = torch.hann_window(1024)
spectrum = torch.stft(sig, 1024, 320, window=WINDOW, return_complex=True)  # (513, frames)
magnitude, phase = spectrum.abs(), spectrum.angle()


def wave(magnitude, phase):
    """The wave of this magnitude and phase."""
    return torch.istft(torch.polar(magnitude, phase), 1024, 320, window=WINDOW)


course.listen("true phase", wave(magnitude, phase))
course.listen("zero phase", wave(magnitude, torch.zeros_like(phase)))
noise = 2 * torch.pi * torch.rand(phase.shape, generator=torch.Generator().manual_seed(0))
course.listen("random phase", wave(magnitude, noise))

# %% [markdown]
# Zero phase sounds like a robot, random phase like a large hall. A decoder must predict the phase
# too, and the features do not contain it: the encoder of `demo` starts from a spectrogram.
#
# ## Vocos
#
# Older vocoders predict samples, 16000 a second, with layers that work at that rate. *Vocos*
# predicts the STFT, 50 columns a second, and leaves the rest to the inverse Fourier transform. So
# it is small and fast:
#
# 1. a *backbone*: eight ConvNeXt blocks (a convolution over seven frames, then a small network for
#    each frame), at 50 frames a second;
# 2. a *head*: a linear map to $2 \times 513$ numbers. The first half, through $e^x$, is the
#    magnitude. The second half is the phase $\varphi$, used as $\cos \varphi + i \sin \varphi$, so
#    any number is a phase;
# 3. the inverse STFT, which adds the frames, 320 samples apart.
#
# The head by hand, on the decoder of `demo` (four blocks):

# %%
decoder = codec.decoder
with torch.no_grad():
    feats = codec.sig_to_feats(sig[None])  # (1, N, 256)
    hidden, _ = decoder.backbone(feats)  # (1, N, 256)
    log_magnitude, angle = decoder.head.proj(hidden).chunk(2, dim=-1)  # (1, N, 513) each
    columns = torch.polar(log_magnitude.exp().clamp(max=100.0), angle)
    by_hand = ISTFT(n_fft=1024, hop_length=320)(columns)  # (1, N * 320)
    difference = (by_hand - codec.feats_to_sig(feats)).abs().max()
print("largest difference to the package:", float(difference))
assert difference < 1e-4
course.listen("decoded from clean features", by_hand[0])

# %% [markdown]
# ## The mel loss
#
# How should the decoder be trained? Not by the difference of samples: if every sample changes its
# sign, the wave sounds the same, and the squared error is four times its power. The *mel loss*
# compares what we hear: the log-mel spectrograms of output $y$ and original $x$,
#
# $$\text{mel loss} = \frac{1}{80 N} \sum_{i, b} \left| \log M_{i b}(y) - \log M_{i b}(x) \right|$$
#
# $M_{ib}$ is the loudness of band $b$ in frame $i$. One unit is a factor of $e$.

# %%
mel_loss = MelLoss()
inverted = -sig  # sounds the same
print("mel loss of the inverted wave:", float(mel_loss(inverted[None], sig[None])))
print("squared error over power:", float((inverted - sig).square().mean() / sig.square().mean()))
print("mel loss of zero phase:", float(mel_loss(wave(magnitude, phase * 0)[None], sig[None])))
assert mel_loss(inverted[None], sig[None]) < 1e-4

# %% [markdown]
# ## What a GAN adds: take it away
#
# The decoder of `demo` was trained for two hours as a *GAN*, a generative adversarial network: with
# the mel loss, and *discriminators*. A discriminator is a network that learns to tell real waves
# from decoded ones; the decoder learns to fool it. What does that add? We continue the training
# with the mel loss *alone*, and listen to what goes.

# %%
recordings = [read_audio(path, 16000) for path in course.files("train-mini")]
with torch.no_grad():
    clips = [(codec.sig_to_feats(sig[None])[0], sig) for sig in recordings]


def draw_crops(random, size=8, frames=40):
    """Crops of 0.8 s: feats (B, 40, 256) and the waves (B, 12800) that belong to them."""
    pairs = []
    while len(pairs) < size:
        feats, sig = clips[torch.randint(len(clips), (), generator=random)]
        last = len(sig) // 320 - frames
        if last >= 0:
            start = int(torch.randint(last + 1, (), generator=random))
            pairs.append((feats[start : start + frames], sig[320 * start : 320 * (start + frames)]))
    return [torch.stack(column) for column in zip(*pairs, strict=True)]


def train_mel(decoder, steps):
    """Train a decoder with the mel loss alone; return the loss of each step."""
    random, curve = torch.Generator().manual_seed(0), []
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=0.0003, betas=(0.8, 0.99))
    for _ in range(steps):
        feats, sig = draw_crops(random)
        loss = mel_loss(decoder.run(feats)[0], sig).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(float(loss.detach()))
    return curve


other = FocalCodec.from_pretrained("demo")  # a copy
curve = train_mel(other.decoder, course.choose(400, 2))
with torch.no_grad():
    without_gan = other.feats_to_sig(feats)
    with_gan = codec.feats_to_sig(feats)
course.listen("trained with a GAN", with_gan[0])
course.listen("the same, then trained with the mel loss alone", without_gan[0])

# %% [markdown]
# Listen to vowels with headphones: is there a difference? Now ask the loss:

# %%
test = [read_audio(path, 16000) for path in course.files("dev-mini")]


@torch.no_grad()
def mel_distance(codec):
    """Mean mel loss of the decoder on the validation clips, from clean features."""
    values = []
    for sig in test:
        output = codec.feats_to_sig(codec.sig_to_feats(sig[None]))[:, : len(sig)]
        values.append(float(mel_loss(output, sig[None, : output.shape[1]])))
    return sum(values) / len(values)


distances = mel_distance(codec), mel_distance(other)
print(f"mel distance with GAN {distances[0]:.3f}, without {distances[1]:.3f}")

# %% [markdown]
# The loss says that the second decoder is *better* by 18 %. Do you agree? A judge that predicts the
# opinion of listeners (Distill-MOS, 1 to 5) does not: it gives the two sounds above 2.8 and 2.2,
# and the 24 validation clips 3.1 and 2.8 on average. 400 steps are enough to lose a part of what
# two hours with discriminators gave. A decoder of this size that was trained with the mel loss
# *from the start* had 1.2, and 2.0 with discriminators of spectrograms ([demo.md](../demo.md)). So
# a better loss is not always a better sound. The mel loss does not measure everything: 80 bands do
# not show whether a tone is clean within its band. And where several outputs are possible, a
# distance is smallest at their mean, which is not one of them.
#
# **The picture to read.** Not mel bands, but all frequencies up to 3 kHz of half a second. The
# stripes are the *harmonics* of the voice: multiples of its pitch. Dark gaps between them are a
# clean voice. Up to which frequency has each output gaps?

# %%
outputs = {"original": sig, "with GAN": with_gan[0], "mel loss alone": without_gan[0]}
_, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True)
for axis, (name, output) in zip(axes, outputs.items(), strict=True):
    columns = torch.stft(output[16000:24000], 1024, 80, window=WINDOW, return_complex=True).abs()
    axis.imshow(
        columns[:192].clamp(min=1e-2).log(), origin="lower", aspect="auto", extent=(1, 1.5, 0, 3000)
    )
    axis.set_title(name)
    axis.set_xlabel("s")
axes[0].set_ylabel("Hz")
plt.show()

# %% [markdown]
# ## A GAN by hand
#
# The package has the discriminators of HiFi-GAN: five look at every second, third, fifth, seventh
# or eleventh sample, three at the wave in three resolutions. Each gives *scores*. The losses are
# *hinge* losses:
#
# * discriminator: $\max(0, 1 - D(x)) + \max(0, 1 + D(y))$: real $x$ above 1, decoded $y$ below
#   $-1$;
# * decoder: $\max(0, 1 - D(y))$: be taken for real;
# * decoder, *feature matching*: the inner layers of the discriminator should see no difference.
#
# We train small discriminators against our last decoder, which stays as it is.


# %%
def train_discriminator(decoder, steps):
    """Train discriminators against a frozen decoder; return them and the loss of each step."""
    torch.manual_seed(0)
    random, curve = torch.Generator().manual_seed(0), []
    discriminator = Discriminators(channel_divisor=32, num_scales=0)
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=0.001, betas=(0.8, 0.99))
    for _ in range(steps):
        feats, real = draw_crops(random, size=4)
        with torch.no_grad():
            fake, _ = decoder.run(feats)
        real_scores, _ = discriminator(real)
        fake_scores, _ = discriminator(fake)
        loss = hinge_discriminator_loss(real_scores, fake_scores).mean() / len(real_scores)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(float(loss.detach()))
    return discriminator, curve


discriminator, scored = train_discriminator(other.decoder, course.choose(200, 2))
last = sum(scored[-50:]) / len(scored[-50:])
print(f"loss of a discriminator: {scored[0]:.2f} before, {last:.2f} after {len(scored)} steps")

# %% [markdown]
# 2 means that it sees no difference, 0 that it is always right. After 200 steps these small ones
# just begin to see one. What the decoder would get from them in one step of a GAN:

# %%
crop_feats, real = draw_crops(torch.Generator().manual_seed(1), size=4)
fake, _ = other.decoder.run(crop_feats)
scores, maps = discriminator(fake)
_, real_maps = discriminator(real)
adversarial = hinge_generator_loss(scores).mean()
matching = feature_matching_loss(real_maps, maps).mean()
mel = mel_loss(fake, real).mean()
loss = 45.0 * mel + adversarial + 54.0 * matching  # the weights of the published training
loss.backward()
print(f"mel {mel:.2f}, adversarial {adversarial:.2f}, feature matching {matching:.3f}")
assert all(p.grad.isfinite().all() for p in other.decoder.parameters() if p.grad is not None)

# %% [markdown]
# A step with discriminators takes several times as long, and a GAN needs many: two hours here, and
# about three million steps in the paper. `python train.py hparams/vocos_16khz_mini.yaml` in
# `recipes/LibriSpeech` trains one.
#
# **The numbers to check.**

# %%
course.expect("mel distance with GAN", distances[0], 0.405, 0.02)
course.expect("mel distance, mel loss alone", distances[1], 0.33, 0.02)
course.expect("loss of a discriminator", last, 1.95, 0.1)

# %% [markdown]
# ## Exercises
#
# 1. How many numbers a second does the head of Vocos predict, and how many a decoder of samples?
# 2. What is the mel loss between a wave and the same wave at a tenth of its level? Predict, then
#    compute, for one second of noise (`torch.randn(1, 16000)`) and for `sig`.
# 3. Shift the wave by 8 samples (half a millisecond). Compare mel loss and squared error over
#    power.

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 1
# 50 x 1026 = 51,300: more numbers than 16,000 samples, but all layers before the head run at 50
# frames a second instead of 16,000 samples.
assert 50 * 1026 == 51_300

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 2
# log 10 = 2.3. For sig 2.297: bands below 1e-5 count as 1e-5, because log 0 is not finite.
loud = torch.randn(1, 16000)
assert abs(float(mel_loss(0.1 * loud, loud)) - 2.3026) < 1e-3

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 3
shifted = sig.roll(8)
assert float((shifted - sig).square().mean() / sig.square().mean()) > 0.3
assert float(mel_loss(shifted[None], sig[None])) < 0.1
