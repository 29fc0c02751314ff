# %% [markdown]
# # 5. Train your codec in two minutes, and break it three times
#
# You train compressor, quantizer and decompressor of chapters 3 and 4, and hear your own codec.
# Then you train three codecs with one fault each. You learn to see a fault in the curves before you
# hear it.
#
# * **You need**: chapters 1 to 4, and an idea of what a loss and a gradient step are.
# * **Time**: 40 minutes; the cells run in four minutes on one core.
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
from torch import nn

from focalcodec import FocalCodec
from focalcodec.audio import read_audio
from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.metrics.codes import code_usage, count_codes
from focalcodec.nn.masking import masked_mean, valid_mask
from focalcodec.training.losses import squared_error

torch.set_num_threads(1)  # the model is small: one core is fastest
demo = FocalCodec.from_pretrained("demo")  # its encoder and its decoder stay as they are

# %% [markdown]
# ## What is trained
#
# ```text
# sig -> encoder -> feats -> COMPRESSOR -> lats -> QUANTIZER -> toks
# toks -> DECOMPRESSOR -> qfeats -> decoder -> rec_sig
# ```
#
# `feats` are the features (chapter 2), `lats` the latents: few numbers a frame. `qfeats` are the
# estimate of `feats` that comes out of the tokens. The training makes `qfeats` similar to `feats`.
# The parts in capitals are trained. The encoder is *frozen*: its weights stay, so its features are
# computed once.


# %%
def features_of(split):
    """Features (N, 256) of each clip of a split."""
    sigs = [read_audio(path, 16000) for path in course.files(split)]
    with torch.no_grad():
        return [demo.sig_to_feats(sig[None])[0] for sig in sigs]


train, valid = features_of("train-mini"), features_of("dev-mini")
power = torch.cat(valid).square().mean()  # mean square of a feature
print(f"{sum(map(len, train))} frames to train on, {sum(map(len, valid))} to test")

# %% [markdown]
# ## The three parts


# %%
def make_parts(bits):
    """Compressor, quantizer and decompressor for tokens of so many bits."""
    sizes = {"focal_window": 7, "focal_level": 2, "focal_factor": 2}
    return nn.ModuleDict(
        {
            "compressor": FocalEncoder(256, bits, [128, 128], [1, 1], **sizes),
            "quantizer": BinarySphericalQuantizer(2**bits),
            "decompressor": FocalDecoder(bits, 256, [128, 128], [1, 1], **sizes),
        }
    )


def through(parts, feats, lengths):
    """Lats (B, N, bits), toks (B, N) and qfeats (B, N, 256) of a batch of feats."""
    lats, _ = parts["compressor"](feats, lengths=lengths)
    toks, codes = parts["quantizer"](lats, lengths=lengths)
    qfeats, _ = parts["decompressor"](codes, lengths=lengths)
    return lats, toks, qfeats


parts = make_parts(13)
print(sum(weight.numel() for weight in parts.parameters()), "weights")

# %% [markdown]
# **First a failure to hear**: these parts with random weights, before any training.


# %%
@torch.no_grad()
def hear(title, parts):
    """Decode the clip of a real person, who is not in the training data."""
    feats = demo.sig_to_feats(course.clip()[None])
    _, _, qfeats = through(parts, feats, torch.tensor([feats.shape[1]]))
    course.listen(title, demo.feats_to_sig(qfeats)[0])


hear("not trained", parts)

# %% [markdown]
# ## A batch
#
# Clips have different lengths. A batch is a tensor, so shorter clips are filled with zeros:
# *padding*. `lengths` says how many frames of each clip are real. A *mask* is true on the real
# frames.


# %%
def draw_batch(random, size=6):
    """Some clips as feats (B, N, 256), with lengths (B,)."""
    clips = [train[i] for i in torch.randint(len(train), (size,), generator=random)]
    lengths = torch.tensor([len(feats) for feats in clips])
    return nn.utils.rnn.pad_sequence(clips, batch_first=True), lengths


feats, lengths = draw_batch(torch.Generator().manual_seed(0))
padding = 1 - valid_mask(lengths, feats.shape[1]).float().mean()
print(tuple(feats.shape), lengths.tolist(), f"{padding:.0%} of the batch is padding")

# %% [markdown]
# ## The loss
#
# $$\text{loss} = \underbrace{\frac{1}{N} \sum_i \lVert \hat f_i - f_i \rVert^2 / D}_{\text{error}}
#   + w \; (\; \underbrace{H_\text{token}}_{\text{small: each token is certain}}
#   - \underbrace{H_\text{codebook}}_{\text{large: all tokens are used}} \;)$$
#
# $f_i$ are the features of frame $i$, $\hat f_i$ their estimate, $D = 256$ their number, $N$ the
# real frames of the batch, and $w = 0.1$ the weight of the *entropy loss* of chapter 4.
# `masked=False` is a fault that we use later: it takes padding for speech.


# %%
def losses(parts, feats, lengths, masked=True):
    """Error of the features, and the two entropies in nats."""
    if not masked:
        lengths = torch.full_like(lengths, feats.shape[1])
    mask = valid_mask(lengths, feats.shape[1])  # (B, N)
    lats, _, qfeats = through(parts, feats, lengths)
    errors = squared_error(qfeats, feats)  # (B, N)
    entropy = parts["quantizer"].entropy_terms(lats, mask, inv_temperature=30.0)
    return errors[mask].mean(), entropy.sample, entropy.codebook


# %% [markdown]
# ## The training
#
# Nothing new here: draw a batch, compute the loss, follow the gradient. Every 50 steps we measure
# the error on the validation clips, relative to `power`: 1 is as bad as to predict zeros.


# %%
@torch.no_grad()
def validate(parts):
    """Relative error over all validation frames, each clip alone."""
    total = 0.0
    for feats in valid:
        qfeats = through(parts, feats[None], torch.tensor([len(feats)]))[2]
        total += float(squared_error(qfeats, feats[None]).sum())
    return total / sum(map(len, valid)) / float(power)


def train_codec(steps, bits=13, entropy_weight=0.1, masked=True):
    """Train a codec; return its parts and its curves."""
    torch.manual_seed(0)
    random, parts, curves = torch.Generator().manual_seed(0), make_parts(bits), []
    optimizer = torch.optim.AdamW(parts.parameters(), lr=0.002, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.002, steps)
    for step in range(1, steps + 1):
        error, token, codebook = losses(parts, *draw_batch(random), masked)
        loss = error + entropy_weight * (token - codebook)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parts.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            curves.append((step, validate(parts), float(token.detach()), float(codebook.detach())))
            print(f"step {step}: relative error {curves[-1][1]:.3f}")
    return parts, curves


good, good_curves = train_codec(course.choose(800, 2))
hear("two minutes of training", good)

# %% [markdown]
# It is speech again, with tokens of your own. Compare with the codec of the package. Its three
# parts are wider, and were trained for two and a half hours, most of the time together with the
# encoder, on up to 75 times as much speech, with altered copies of it.

# %%
course.listen("the codec of the package", demo.decode(demo.encode(course.clip(), 16000)[0])[0])

# %% [markdown]
# ## Read the curves
#
# * **Error** must fall, fast at first. If it stays at 1, nothing is learnt.
# * **Entropy of a token**, $H_\text{token}$, falls: the codes become certain.
# * **Entropy of the codebook**, $H_\text{codebook}$, is at most $\log 2^{13} = 9.0$ nats. In a
#   batch of $n$ frames it is also at most $\log n + H_\text{token}$. Here a batch has some 750 real
#   frames, so that is $6.6 + 1.6 = 8.2$ at the start and $6.6 + 0.9 = 7.5$ at the end. It should
#   stay within one nat of that. It goes up and down with the number of frames of the batch.


# %%
def plot_curves(runs):
    """Draw error and entropies of some trainings."""
    _, axes = plt.subplots(1, 3, figsize=(9, 2.8))
    titles = [
        "relative error (validation)",
        "entropy of a token, nats",
        "entropy of the codebook, nats",
    ]
    for name, curves in runs.items():
        steps, *columns = zip(*curves, strict=True)
        for axis, values, title in zip(axes, columns, titles, strict=True):
            axis.plot(steps, values, label=name)
            axis.set_title(title, fontsize=10)
            axis.set_xlabel("step")
    axes[0].legend(fontsize=8)
    plt.show()


plot_curves({"good": good_curves})


# %%
@torch.no_grad()
def toks_alone(parts):
    """Tokens (N,) of each validation clip, alone."""
    return [through(parts, feats[None], torch.tensor([len(feats)]))[1][0] for feats in valid]


def bits_used(parts, bits=13):
    """Entropy of the tokens of the validation set, in bits, and codes that occur."""
    usage = code_usage(count_codes(toks_alone(parts), 2**bits)[1], 2**bits)
    return usage.entropy_bits, usage.codes_used


used, codes = bits_used(good)
course.expect("relative error", good_curves[-1][1], 0.315, 0.03)
course.expect("bits a token", used, 11.1, 0.2)
print(f"{codes} codes in {sum(map(len, valid))} tokens")

# %% [markdown]
# 3028 tokens can show at most $\log_2 3028 = 11.6$ bits, so these are used well.
#
# ## Break it 1: no entropy loss
#
# Set $w = 0$. Nothing asks the codec to use all its codes. The broken codecs get 400 steps, a
# minute each. To compare: the codec without a fault (`train_codec(400)`) has an error of 0.359, and
# uses 2388 codes, 11.1 bits a token.

# %%
HALF = course.choose(400, 2)
no_entropy, no_entropy_curves = train_codec(HALF, entropy_weight=0.0)
hear("broken 1: no entropy loss", no_entropy)
used_without, codes_without = bits_used(no_entropy)
course.expect("bits a token without the entropy loss", used_without, 10.3, 0.4)
print(f"{codes_without} codes, with the loss {codes}")

# %% [markdown]
# Surprise: it sounds no worse, and its error is even a little lower than 0.359. But it uses fewer
# codes: you store 13 bits and use about ten.
#
# **Sign in the curves**: the entropy of a token *rises*. Many latents are near zero, where a small
# change of the sound flips the bit.
#
# ## Break it 2: too few bits
#
# Four bits are 16 codes: 200 bit/s.

# %%
few_bits, few_bits_curves = train_codec(HALF, bits=4)
hear("broken 2: four bits a token", few_bits)
course.expect("relative error with 4 bits", few_bits_curves[-1][1], 0.47, 0.04)

# %% [markdown]
# **Sign in the curves**: the error stops at a high value, while the entropy of the codebook is flat
# at its maximum, $\log 16 = 2.8$ nats. All codes are used already, so more training helps little.
#
# ## Break it 3: padding is not masked
#
# This fault is common, and hard to see: the curves look as usual. So look at the tokens. The same
# clip, alone and in a batch beside a longer one, must give the same tokens.

# %%
not_masked, not_masked_curves = train_codec(HALF, masked=False)
hear("broken 3: padding is taken for speech, clip alone", not_masked)


# %%
@torch.no_grad()
def equal_tokens(parts, masked):
    """Share of the tokens of the shortest validation clip that stay equal in a padded batch."""
    short, long = min(valid, key=len), max(valid, key=len)
    batch = nn.utils.rnn.pad_sequence([short, long], batch_first=True)
    lengths = torch.tensor([len(short), len(long)])
    if not masked:
        lengths = torch.full_like(lengths, len(long))
    alone = through(parts, short[None], torch.tensor([len(short)]))[1][0]
    padded = through(parts, batch, lengths)[1][0, : len(short)]
    return float((alone == padded).float().mean())


right, wrong = equal_tokens(good, masked=True), equal_tokens(not_masked, masked=False)
assert right == 1.0, "a clip has the same tokens alone and in any padded batch"
course.expect("equal tokens, padding not masked", wrong, 0.86, 0.13)

# %% [markdown]
# Why do tokens change? Focal modulation has a mean over *all* frames of the clip (chapter 3). If
# padding counts, the mean changes, and with it every frame. `masked_mean` of the package leaves
# padding out:

# %%
x = torch.tensor([[[1.0], [3.0], [0.0], [0.0]]])  # two frames, then two of padding
mask = valid_mask(torch.tensor([2]), 4)
print("masked mean:", masked_mean(x, mask).item(), "   plain mean:", x.mean().item())
assert masked_mean(x, mask).item() == 2.0

# %% [markdown]
# ## The picture to read
#
# All four trainings, step by step; the first one is twice as long. Which curve would you notice
# without knowing the fault?

# %%
runs = {
    "good": good_curves,
    "no entropy loss": no_entropy_curves,
    "4 bits": few_bits_curves,
    "not masked": not_masked_curves,
}
plot_curves(runs)

# %% [markdown]
# ## More than two minutes
#
# * Ten minutes: replace 800 by 4000 in the line `good, good_curves = ...`, and run that cell again.
# * A whole recipe, with its own decoder, stops, resumes, logs and an exported codec, takes four
#   minutes: `cd recipes/LibriSpeech`, then `python train.py hparams/focalcodec_50hz_mini.yaml`. Its
#   forward pass and its loss are in `brains.py` of that folder: you will recognise `losses` of this
#   chapter.
#
# ## Exercises
#
# 1. If every token is certain, the codebook entropy of a batch of $n$ frames is at most $\log n$.
#    Why? What follows for a batch of one short clip?
# 2. What is the relative error of a codec whose `qfeats` are always the mean feature? Compute it on
#    the validation clips. Which of the four codecs is better than that?
# 3. Decode with the good codec after setting one bit of all codes to $-1$. Find the bit that raises
#    the error most.

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 1
# n frames have at most n different tokens, each with probability 1/n: entropy log n. A batch of
# one short clip can't show that all codes are used, and the loss would push in a wrong direction.
# So the package computes it over the batches of all processes, and for validation over the set.
uniform = torch.full((120,), 1 / 120)
assert abs(float(-(uniform * uniform.log()).sum()) - float(torch.tensor(120.0).log())) < 1e-4

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 2
# 0.99: the features are far from their mean. All four codecs are better.
mean = torch.cat(train).mean(dim=0)
of_mean = float((torch.cat(valid) - mean).square().mean() / power)
assert course.SHORT or max(curves[-1][1] for curves in runs.values()) < of_mean

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 3
feats, lengths = valid[0][None], torch.tensor([len(valid[0])])
with torch.no_grad():
    lats, _ = good["compressor"](feats, lengths=lengths)
    codes = good["quantizer"].lats_to_codes(lats)
    errors = []
    for bit in range(13):
        changed = codes.clone()
        changed[..., bit] = -codes.abs()[..., bit]
        qfeats, _ = good["decompressor"](changed, lengths=lengths)
        errors.append(float(squared_error(qfeats, feats).mean()))
worst = max(range(13), key=errors.__getitem__)
assert errors[worst] == max(errors)
