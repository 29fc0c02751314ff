# %% [markdown]
# # 3. Focal modulation, by hand
#
# A frame of 20 ms is shorter than most sounds of speech: frames around it help to describe it. A
# layer of a network that looks at other frames is a *context* layer. FocalCodec uses *focal
# modulation*. You write it in 15 lines, put it beside attention and convolution, and measure what
# each costs as clips grow.
#
# * **You need**: chapters 1 and 2; matrices and what a layer of a neural network is.
# * **Time**: 45 minutes; the cells run in a minute.
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
import time

import course
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from focalcodec import FocalCodec
from focalcodec.focalnet import FocalModulation

torch.set_num_threads(1)
sig = course.clip()
codec = FocalCodec.from_pretrained("demo")

# %% [markdown]
# ## A failure to hear: no context
#
# The compressor and the decompressor of `demo` are made of focal modulation. In the copy below we
# close all *gates* (explained soon), so that each frame sees only itself. The weights are otherwise
# the same.


# %%
def without_context(levels):
    """A copy of the demo codec with the gates of these levels of context closed."""
    copy = FocalCodec.from_pretrained("demo")
    for module in copy.modules():
        if isinstance(module, FocalModulation):
            for level in levels:  # the last rows of in_proj make the gates
                row = level - module.num_gates
                module.in_proj.weight.data[row] = 0.0
                module.in_proj.bias.data[row] = 0.0
    return copy


def resynthesis(codec):
    """Encode and decode the clip."""
    toks, lengths = codec.encode(sig, 16000)
    return codec.decode(toks, lengths, num_samples=len(sig))[0]


course.listen("no context: each frame by itself", resynthesis(without_context([0, 1, 2])))
course.listen("the codec as it is", resynthesis(codec))

# %% [markdown]
# ## What focal modulation does
#
# Let $x_i$ be the vector of frame $i$, with $D$ numbers. For each frame:
#
# 1. **Query** $q_i$: a linear map of $x_i$. What this frame is.
# 2. **Context at level 1, 2, ...**: $z^1_i, z^2_i, \dots$ Each level is a *depth-wise* convolution
#    of the level before: each of the $D$ channels is averaged over a few frames around $i$, with
#    learnt weights, then GELU, a smooth $\max(0, x)$. Level 0 is a linear map of $x_i$. The number
#    of frames, the *kernel*, grows, so level 2 sees farther than level 1.
# 3. **The last level is global**: the mean over all frames of the clip.
# 4. **Gates** $g^1_i, g^2_i, \dots$: one number for each level and frame, a linear map of $x_i$.
#    They say how much of each level this frame gets.
# 5. **Modulator** $m_i$: the gated sum of the levels, then a linear map $h$.
# 6. **Output**: $y_i = \mathrm{out}(q_i \odot m_i)$. $\odot$ multiplies number by number: the
#    context *modulates* the query.
#
# In one line, with $K$ the number of levels before the global one:
#
# $$y_i = \mathrm{out}\Big( q_i \odot h\Big( \sum_{k=1}^{K+1} g^k_i \, z^k_i \Big) \Big)$$
#
# Now in code, for $x$ of shape (N, D). The weights are those of a layer of the package, so that we
# can compare the results.

# %%
D = 16
layer = FocalModulation(dim=D, focal_window=3, focal_level=2, focal_factor=2)


def convolve(z, conv):
    """Depth-wise convolution over time of z (N, D), zeros before and after."""
    width = conv.weight.shape[-1]
    padded = F.pad(z.T[None], (width // 2, width // 2))
    return F.conv1d(padded, conv.weight, conv.bias, groups=z.shape[1])[0].T


def focal_modulation(x):
    """Focal modulation of x (N, D), with the weights of `layer`."""
    query, z, gates = layer.in_proj(x).split([D, D, 3], dim=1)  # (N, D), (N, D), (N, 3)
    total = 0
    for level, conv in enumerate([layer.layers[0][0], layer.layers[1][0]]):
        z = F.gelu(convolve(z, conv))  # context of this level
        total = total + gates[:, level, None] * z
    everywhere = F.gelu(z.mean(dim=0, keepdim=True))  # (1, D): the global level
    total = total + gates[:, 2, None] * everywhere
    weight, bias = layer.context_proj.matrix()  # h
    return layer.out_proj(query * (total @ weight.T + bias))


x = torch.randn(40, D, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    difference = (focal_modulation(x) - layer(x[None])[0][0]).abs().max()
print("largest difference to the package:", float(difference))
assert difference < 1e-5

# %% [markdown]
# ## The same job by attention, and by convolution
#
# * **Self-attention**: each frame compares itself with every other frame: a table of $N \times N$
#   weights.
# * **Convolution**: a fixed weighted sum over the nearest frames. It never sees farther than its
#   kernel, and its weights do not depend on the frame.

# %%
to_qkv = nn.Linear(D, 3 * D)
plain_conv = nn.Conv1d(D, D, kernel_size=5, padding=2)


def attention(x):
    """One head of self-attention on x (N, D)."""
    query, key, value = to_qkv(x).chunk(3, dim=1)  # (N, D) each
    weights = (query @ key.T / x.shape[1] ** 0.5).softmax(dim=1)  # (N, N)
    return weights @ value


def convolution(x):
    """Convolution over five frames of x (N, D)."""
    return plain_conv(x.T[None])[0].T


# %% [markdown]
# ## The picture to read: who influences whom
#
# We compute how much the output of frame $i$ changes with the input of frame $j$. Bright is much.
# Rows are outputs, columns are inputs.


# %%
def influence(function):
    """Size of the derivative of output frame i with respect to input frame j: (N, N)."""
    jacobian = torch.autograd.functional.jacobian(function, x)  # (N, D, N, D)
    return jacobian.pow(2).sum(dim=(1, 3)).sqrt()


methods = {"convolution": convolution, "attention": attention, "focal modulation": focal_modulation}
_, axes = plt.subplots(1, 3, figsize=(9, 3.2))
for axis, (name, function) in zip(axes, methods.items(), strict=True):
    axis.imshow((influence(function) + 1e-4).log10(), vmin=-4, vmax=0)
    axis.set_title(name)
    axis.set_xlabel("input frame")
axes[0].set_ylabel("output frame")
plt.show()

far = {name: float(influence(function)[5, 35]) for name, function in methods.items()}
print("influence of frame 35 on frame 5:", far)
assert far["convolution"] == 0 and far["attention"] > 0 and far["focal modulation"] > 0

# %% [markdown]
# Convolution: a stripe. Attention: everything, each pair by itself. Focal modulation: strong near
# the diagonal, in steps that are the levels. Far from it, weak, and nearly equal along a row: the
# mean.
#
# ## What it costs
#
# Count multiplications for $N$ frames of width $D$:
#
# | | multiplications | if $N$ doubles |
# |---|---|---|
# | attention | $3 N D^2 + 2 N^2 D$ | up to four times |
# | convolution, kernel $k$ | $N k D^2$ | twice |
# | focal modulation, kernels $k_1, k_2$ | $4 N D^2 + N D (k_1 + k_2 + 3)$ | twice |
#
# Focal modulation sees the whole clip like attention, at the growth of a convolution. Measured:

# %%
lengths = [250, 500, 1000] if course.SHORT else [250, 500, 1000, 2000, 4000]  # frames: 5 to 80 s


@torch.no_grad()
def milliseconds(function, x):
    """Shortest of three runs."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        function(x)
        times.append(1000 * (time.perf_counter() - start))
    return min(times)


spent = {
    name: [milliseconds(methods[name], torch.randn(n, D)) for n in lengths]
    for name in ("attention", "focal modulation")
}
for name, values in spent.items():
    plt.loglog(lengths, values, "o-", label=name)
plt.xticks(lengths, lengths)
plt.minorticks_off()
plt.xlabel("frames")
plt.ylabel("ms")
plt.legend()
plt.show()


def multiplications(n, d, kernels=None):
    """Multiplications of attention; with kernels, of focal modulation."""
    if kernels is None:
        return 3 * n * d**2 + 2 * n**2 * d
    return 4 * n * d**2 + n * d * (sum(kernels) + 3)


hour = 3600 * 50  # frames
ratio = multiplications(hour, 256) / multiplications(hour, 256, [7, 9])
print(f"an hour of speech: attention takes {ratio:.0f} times as many multiplications")
assert 340 < ratio < 350

# %% [markdown]
# Both axes are logarithmic. A clip of 3 s has 150 frames: there attention is as fast. The
# difference comes with length. It is not the only reason. In the paper's ablations, focal
# modulation also gave fewer word errors than Conformer blocks, which have attention: 2.75 against
# 3.58 %.
#
# ## A focal block in the codec
#
# A block is focal modulation, then a *feed-forward* network for each frame, both with a residual
# path ($x + f(x)$) and a norm. The compressor of `demo` has two blocks: 256 numbers a frame become
# 188, then 128, then 13. What is context worth in it? We close gates again and compare the features
# before and after the tokens. The error is relative: 0 is perfect, 1 is as bad as zeros. (There is
# another reason why it is above 0: the tokens were trained to give the features of Whisper, which
# are not exactly those of the small encoder.)


# %%
@torch.no_grad()
def feature_error(codec):
    """Relative error of the features after the tokens."""
    feats = codec.sig_to_feats(sig[None])
    return float((codec.feats_to_qfeats(feats) - feats).square().mean() / feats.square().mean())


names = {"all levels": [], "no mean": [2], "no convolutions": [0, 1], "no context": [0, 1, 2]}
errors = {name: feature_error(without_context(levels)) for name, levels in names.items()}
for name, error in errors.items():
    print(f"{name:16} {error:.2f}")
course.expect("relative error, all levels", errors["all levels"], 0.28, 0.03)
course.expect("relative error, no context", errors["no context"], 0.82, 0.08)

# %% [markdown]
# ## Exercises
#
# 1. Two chained depth-wise convolutions have kernels 7 and 9. How many frames does the second level
#    see?
# 2. Clips of a batch have different lengths, so short ones are filled with zeros: *padding*. Append
#    20 frames of zeros to `x` and compute `focal_modulation` again. Which frames change? How does
#    the package avoid it? (See the arguments: `help(layer.forward)`.)
# 3. Attention does not know the order of frames. Does focal modulation? Shuffle the frames of `x`,
#    apply both functions, undo the shuffle.

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 1
assert 7 + (9 - 1) == 15  # 7 frames to the left and right of the centre

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 2
with torch.no_grad():
    padded = torch.cat([x, torch.zeros(20, D)])
    changed = (focal_modulation(padded)[:40] - focal_modulation(x)).abs().amax(dim=1) > 0
    assert changed.all()  # all of them: the mean has changed
    # With `mask`, the mean and the convolutions take the valid frames only.
    mask = torch.arange(60)[None] < 40
    masked = layer(padded[None], mask=mask)[0][0, :40]
    assert torch.allclose(masked, focal_modulation(x), atol=1e-5)

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 3
order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
back = order.argsort()
with torch.no_grad():
    assert torch.allclose(attention(x[order])[back], attention(x), atol=1e-5)
    # The convolutions of focal modulation know it.
    assert not torch.allclose(focal_modulation(x[order])[back], focal_modulation(x), atol=1e-3)
