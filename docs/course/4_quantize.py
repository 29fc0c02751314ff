# %% [markdown]
# # 4. Binary spherical quantization, by hand
#
# A *quantizer* turns a vector of real numbers into one of few codes. FocalCodec's quantizer has no
# weights: it takes signs. You write it in ten lines, train through it, and compute its entropy loss
# twice: the plain way, and the cheap way that gives the same number.
#
# * **You need**: chapter 1; vectors, and an idea of what a gradient and a probability are.
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
import math
import time

import course
import matplotlib.pyplot as plt
import torch

from focalcodec import FocalCodec
from focalcodec.audio import read_audio
from focalcodec.bsq import BinarySphericalQuantizer

codec = FocalCodec.from_pretrained("demo")
sig = course.clip()
with torch.no_grad():
    feats = codec.sig_to_feats(sig[None])  # (1, N, 256): 256 features of each frame, see chapter 2

# %% [markdown]
# ## A failure to hear: thirteen random signs
#
# We need 13 bits for the 256 features of a frame. The simplest idea: thirteen random directions,
# and on which side of each the features are. To decode, the best linear map from 13 signs to 256
# features, by least squares on other speech.

# %%
with torch.no_grad():
    other = [read_audio(path, 16000)[None] for path in course.files("train-mini", 40)]
    other = torch.cat([codec.sig_to_feats(sig)[0] for sig in other])  # (frames, 256)

mean = other.mean(dim=0)
directions = torch.randn(256, 13, generator=torch.Generator().manual_seed(0))


def random_signs(feats):
    """Thirteen signs (..., 13) of feats (..., 256)."""
    return torch.where((feats - mean) @ directions > 0, 1.0, -1.0)


back = torch.linalg.lstsq(random_signs(other), other - mean).solution  # (13, 256)
rough = random_signs(feats) @ back + mean
course.listen("thirteen random signs", codec.feats_to_sig(rough)[0])

# %% [markdown]
# Signs are not the problem, random directions are. In FocalCodec a network, the *compressor*,
# learns the 13 directions and uses the neighbouring frames (chapter 3). A second one, the
# *decompressor*, goes back.

# %%
with torch.no_grad():
    lats = codec.feats_to_lats(feats)  # (1, N, 13): the compressor's output
    qfeats = codec.lats_to_qfeats(lats)  # (1, N, 256): after signs and decompressor
course.listen("thirteen learnt signs", codec.feats_to_sig(qfeats)[0])


def relative_error(estimate):
    """Squared error over the mean square of the features; 1 is as bad as zeros."""
    return float((estimate - feats).square().mean() / feats.square().mean())


print(f"relative error: random {relative_error(rough):.2f}, learnt {relative_error(qfeats):.2f}")

# %% [markdown]
# ## Signs on a sphere
#
# Let $L$ be the number of bits and $v$ the latents of one frame, $L$ numbers.
#
# 1. Put $v$ on the sphere of radius 1: $u = v / \lVert v \rVert$.
# 2. Take signs: $\hat u = \mathrm{sign}(u) / \sqrt L$. The division puts $\hat u$ on the same
#    sphere.
# 3. The token is the number whose binary digits are the signs: $+$ is 1, $-$ is 0, most significant
#    first.
#
# With $L = 2$ the sphere is a circle, and the four codes are the corners of a square in it.


# %%
def quantize(v):
    """Tokens (...) and codes (..., L) of latents v (..., L)."""
    L = v.shape[-1]
    u = v / v.norm(dim=-1, keepdim=True)
    code = torch.where(u > 0, 1.0, -1.0) / math.sqrt(L)
    digits = 2 ** torch.arange(L - 1, -1, -1)
    return ((code > 0) * digits).sum(dim=-1), code


v = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
toks, codes = quantize(v)
points = v / v.norm(dim=-1, keepdim=True)
_, axis = plt.subplots(figsize=(3.4, 3.2))
axis.scatter(*points.T, c=toks, cmap="tab10", s=8)
axis.scatter(*codes.T, c="black", marker="s", s=40)
for number in range(4):
    x, y = codes[toks == number][0].tolist()
    axis.annotate(f"token {number}", (0.55 * x, 0.55 * y), ha="center", va="center")
axis.set_aspect("equal")
plt.show()

# %% [markdown]
# The package does the same, for any $L$:

# %%
quantizer = BinarySphericalQuantizer(codebook_size=2**13)
toks, codes = quantize(lats)
assert torch.equal(toks, quantizer.lats_to_toks(lats))
assert torch.equal(toks, codec.encode(sig, 16000)[0])
assert torch.allclose(codes, quantizer.lats_to_codes(lats))
print("the latents of a frame:", [round(x, 2) for x in lats[0, 40].tolist()])
print("its token:", toks[0, 40].item(), "in binary:", f"{toks[0, 40].item():013b}")

# %% [markdown]
# There is no table and no search: a codebook of $2^{13}$ vectors exists, but nobody stores it. A
# table of learnt vectors (*vector quantization*) needs a search over 8192 rows, and often most rows
# are never used.
#
# ## The gradient of a sign
#
# To train the compressor we need the gradient of the loss with respect to $u$. The gradient of a
# sign is zero everywhere, so the compressor would learn nothing. The *straight-through* trick: in
# the forward pass use $\hat u$, in the backward pass pretend that $\hat u = u$.
#
# $$\text{output} = u + \mathrm{stop}(\hat u - u)$$
#
# $\mathrm{stop}$ is `detach()` in PyTorch: a constant for the gradient.


# %%
def straight_through(u):
    """Codes of u in the forward pass, u itself in the backward pass."""
    code = torch.where(u > 0, 1.0, -1.0) / math.sqrt(u.shape[-1])
    return u + (code - u).detach()


u = torch.tensor([0.6, -0.8], requires_grad=True)
target = torch.tensor([0.0, 1.0])

plain = torch.where(u > 0, 1.0, -1.0) / math.sqrt(2)
print("plain: has a gradient?", plain.requires_grad)

output = straight_through(u)
(output - target).square().sum().backward()
print("output", output.tolist(), "   gradient", u.grad.tolist())
assert torch.allclose(u.grad, 2 * (output - target).detach())

# %% [markdown]
# The sphere matters here. $u$ and $\hat u$ have the same length, so their distance has a limit
# (exercise 2). Without the sphere, $u$ could grow without end, far away from its code.
#
# ## The entropy loss
#
# Nothing so far asks the compressor to use all tokens, or to be certain. Define a probability of
# each code $c$ for a point $u$, larger where $c$ is near:
#
# $$p(c \mid u) = \frac{e^{2 \beta \, u \cdot c}}{\sum_{c'} e^{2 \beta \, u \cdot c'}}$$
#
# $\beta$ is the *inverse temperature*: the larger, the more certain. The sum is over all $2^L$
# codes. The *entropy* $H(p) = -\sum_c p(c) \log p(c)$ is 0 if one code has all the probability, and
# $L \log 2$ if all codes are equally likely. With the natural logarithm its unit is the *nat*; one
# bit is $\log 2 = 0.69$ nats. We want
#
# * a **small entropy of each token**, $H_\text{token} = \mathrm{mean}_i \, H(p(\cdot \mid u_i))$:
#   each token is certain;
# * a **large entropy of the codebook**, $H_\text{codebook} = H(\mathrm{mean}_i \, p(\cdot \mid
#   u_i))$: all codes are used equally often.
#
# **The plain way.** Form all codes and all probabilities:


# %%
def plain_entropies(v, beta):
    """Entropy of a token, and of the codebook, from all 2^L probabilities of each frame."""
    L = v.shape[-1]
    u = v / v.norm(dim=-1, keepdim=True)
    every_code = BinarySphericalQuantizer(2**L).codebook  # (2^L, L)
    p = (2 * beta * u @ every_code.T).softmax(dim=-1)  # (frames, 2^L)
    mean_p = p.mean(dim=0)
    log_p, log_mean = p.clamp(min=1e-5).log(), mean_p.clamp(min=1e-5).log()  # no log of 0
    return -(p * log_p).sum(dim=-1).mean(), -(mean_p * log_mean).sum()


v = torch.randn(500, 13, generator=torch.Generator().manual_seed(0))
token, codebook = plain_entropies(v, beta=30.0)
print(f"entropy of a token {token:.4f}, of the codebook {codebook:.4f} nats")

# %% [markdown]
# That is right, and expensive: 8192 numbers for each frame. A batch of 12,800 frames takes
# gigabytes.
#
# **Why the exact one is cheap.** $u \cdot c$ is a sum over bits, so $e^{2 \beta u \cdot c}$ is a
# product over bits, and so is the probability: *given $u$, the bits are independent*. Bit $k$ is 1
# with probability
#
# $$p_k = \sigma(4 \beta u_k / \sqrt L), \qquad \sigma(x) = 1 / (1 + e^{-x}).$$
#
# 1. The entropy of a token is then a sum of $L$ entropies of one bit: 13 numbers instead of 8192.
#    (The package also reproduces the clamp of the logarithm at $10^{-5}$ that you see above.)
# 2. The codebook needs the mean over frames of a product over 13 bits. Split the bits into two
#    halves: $p(c \mid u) = a(c_1 \mid u) \, b(c_2 \mid u)$, with $2^6$ and $2^7$ values. Then
#    $\mathrm{mean}_i \, a_i b_i^T$ is *one product of two matrices*, $(2^6, \text{frames})$ times
#    $(\text{frames}, 2^7)$. All 8192 mean probabilities, and no tensor of frames $\times$ 8192.

# %%
bit_p = torch.sigmoid(4 * 30.0 * v / v.norm(dim=-1, keepdim=True) / math.sqrt(13))  # (frames, 13)


def half(bit_p):
    """Probabilities (frames, 2^l) of all values of l independent bits."""
    joint = torch.ones(len(bit_p), 1)
    for p in bit_p.T:
        joint = torch.stack([joint * (1 - p)[:, None], joint * p[:, None]], dim=-1).flatten(1)
    return joint


first, second = half(bit_p[:, :6]), half(bit_p[:, 6:])  # (frames, 64), (frames, 128)
mean_p = (first.T @ second / len(v)).flatten()  # (8192,)
by_hand = -(mean_p * mean_p.clamp(min=1e-5).log()).sum()

terms = BinarySphericalQuantizer(2**13).entropy_terms(v, inv_temperature=30.0)
print(f"codebook: plain {codebook:.4f}, by hand {by_hand:.4f}, package {terms.codebook:.4f}")
assert abs(by_hand - codebook) < 1e-3 and abs(terms.codebook - codebook) < 1e-3
assert abs(terms.sample - token) < 1e-3

# %% [markdown]
# **A shortcut that is wrong.** Bits are independent given $u$, not on average. If one adds the
# entropies of the 13 mean bits, one gets an upper bound. A loss with it can be at its best while
# few codes are used:

# %%
mean_bit = bit_p.mean(dim=0)
bound = -(mean_bit * mean_bit.log() + (1 - mean_bit) * (1 - mean_bit).log()).sum()
print(f"sum of 13 bits: {bound:.2f} nats, true: {codebook:.2f} nats, most: {13 * math.log(2):.2f}")
assert bound > codebook

# %% [markdown]
# ## The picture to read: cost as the number of bits grows
#
# For each frame, the plain way needs $2^L$ exponentials and logarithms, and keeps $2^L$ numbers.
# The exact one needs some $2^{L/2}$ of them; the rest is one product of matrices, which processors
# do fastest. The vertical axis is logarithmic: one step is ten times as long.


# %%
def milliseconds(function, *arguments, **options):
    """Shortest of three runs."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        function(*arguments, **options)
        times.append(1000 * (time.perf_counter() - start))
    return min(times)


sizes = [6, 8, 10, 12] if course.SHORT else [6, 8, 10, 12, 13, 14]
plain_ms, exact_ms = [], []
for L in sizes:
    points, size = torch.randn(1000, L), BinarySphericalQuantizer(2**L)
    plain_ms.append(milliseconds(plain_entropies, points, 30.0))
    exact_ms.append(milliseconds(size.entropy_terms, points, inv_temperature=30.0))
plt.semilogy(sizes, plain_ms, "o-", label="plain")
plt.semilogy(sizes, exact_ms, "o-", label="package")
plt.xlabel("bits")
plt.ylabel("ms for 1000 frames")
plt.legend()
plt.show()

# %% [markdown]
# **The numbers to check**: the errors of random and learnt signs, and how many bits a token of
# `demo` is worth on this clip. 155 tokens can show at most $\log_2 155 = 7.3$ bits.

# %%
counts = toks.unique(return_counts=True)[1] / toks.numel()
course.expect("relative error, random signs", relative_error(rough), 0.85, 0.05)
course.expect("relative error, learnt signs", relative_error(qfeats), 0.28, 0.03)
course.expect("bits of the tokens of the clip", float(-(counts * counts.log2()).sum()), 7.2, 0.1)

# %% [markdown]
# ## Exercises
#
# 1. What are the token and the code of $v = (3, -1, 0.5)$?
# 2. How far can $u$ be from its code, at most? Find the worst $u$ on the sphere for $L = 13$, and
#    check the distance with `quantize`.
# 3. Make the *soft* probabilities hard: raise $\beta$ to 10,000 in `entropy_terms` for `lats` of
#    the clip. Which entropy goes to zero, and what does the other one become?

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 1
tok, code = quantize(torch.tensor([3.0, -1.0, 0.5]))
assert tok == 0b101 == 5
assert torch.allclose(code, torch.tensor([1.0, -1.0, 1.0]) / math.sqrt(3))

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 2
# All of u in one coordinate: u = (1, 0, ..., 0). The inner product with its code is 1 / sqrt(13),
# so the squared distance is 2 - 2 / sqrt(13).
worst = torch.zeros(13)
worst[0] = 1.0
distance = (worst - quantize(worst)[1]).norm()
assert abs(distance - math.sqrt(2 - 2 / math.sqrt(13))) < 1e-5

# %% tags=["solution"] jupyter={"source_hidden": true} cellView="form"
# @title Solution 3
hard = quantizer.entropy_terms(lats, inv_temperature=10_000.0)
assert hard.sample < 0.05  # each token is certain
# The codebook's entropy becomes that of the histogram of the tokens, here in nats.
assert abs(hard.codebook + float((counts * counts.log()).sum())) < 0.05
