/** Band-limited resampling: a sum of the nearest samples, weighted by a windowed sinc. */

const CROSSINGS = 32; // zeros of the sinc on each side
const CUTOFF = 0.94; // of the lower rate's half
const BETA = 9; // of the Kaiser window: about 90 dB below

/** Number of samples after resampling: the nearest, halves up, at least one. */
export function resampledLength(length: number, from: number, to: number): number {
  return Math.max(Math.min(1, length), Math.floor((2 * length * to + from) / (2 * from)));
}

/** Change the rate of a signal; rates are integers, Hz. */
export function resample(
  sig: Float32Array<ArrayBuffer>,
  from: number,
  to: number,
): Float32Array<ArrayBuffer> {
  if (from === to) return sig;
  const shared = divisor(from, to);
  const [phases, step] = [to / shared, from / shared];
  const scale = scaleOf(from, to);
  const reach = reachOf(from, to);
  const filters = new Map<number, Float32Array>();
  const out = new Float32Array(resampledLength(sig.length, from, to));
  for (let index = 0; index < out.length; index++) {
    const whole = Math.floor((index * step) / phases);
    const phase = (index * step) % phases;
    let filter = filters.get(phase);
    if (!filter) filters.set(phase, (filter = weights(phase / phases, scale, reach)));
    const first = whole - reach + 1;
    const begin = Math.max(0, -first);
    const end = Math.min(2 * reach, sig.length - first);
    let sum = 0;
    for (let tap = begin; tap < end; tap++) sum += filter[tap] * sig[first + tap];
    out[index] = sum;
  }
  return out;
}

/** Resamples a signal that arrives in parts; what it gives, joined, is `resample` of the whole. */
export class Resampler {
  private kept = new Float32Array(0); // input from sample `first` on
  private first = 0;
  private made = 0; // samples of the output

  constructor(
    private readonly from: number,
    private readonly to: number,
  ) {}

  /** Output that depends on no later input. */
  push(sig: Float32Array): Float32Array {
    const joined = new Float32Array(this.kept.length + sig.length);
    joined.set(this.kept);
    joined.set(sig, this.kept.length);
    this.kept = joined;
    const { from, to } = this;
    const shared = divisor(from, to);
    const [phases, step] = [to / shared, from / shared];
    const reach = from === to ? 0 : reachOf(from, to);
    const usable = this.first + this.kept.length - reach; // positions with all later samples
    const out = this.upTo(Math.max(this.made, Math.floor((usable * phases) / step)), phases / step);
    // an output at a whole number of periods has phase 0 in a part as in the whole
    const begin = Math.floor(Math.max(0, (this.made * step) / phases - reach) / step) * step;
    this.kept = this.kept.slice(begin - this.first);
    this.first = begin;
    return out;
  }

  /** The rest of the output, at the end of the signal. */
  flush(): Float32Array {
    const { from, to } = this;
    return this.upTo(resampledLength(this.first + this.kept.length, from, to), to / from);
  }

  private upTo(end: number, ratio: number): Float32Array {
    const before = Math.round(this.first * ratio);
    const out = resample(this.kept, this.from, this.to).slice(this.made - before, end - before);
    this.made = end;
    return out;
  }
}

/** Samples of the input on each side that a sample of the output depends on. */
function reachOf(from: number, to: number): number {
  return Math.ceil(CROSSINGS / scaleOf(from, to));
}

/** Of the sinc, in samples of the input. */
function scaleOf(from: number, to: number): number {
  return CUTOFF * Math.min(1, to / from);
}

/** Weights of the samples around a position that is `fraction` after a sample. */
function weights(fraction: number, scale: number, reach: number): Float32Array {
  return Float32Array.from({ length: 2 * reach }, (_, tap) => {
    const distance = tap - reach + 1 - fraction;
    const place = distance / reach;
    if (Math.abs(place) >= 1) return 0;
    const window = bessel(BETA * Math.sqrt(1 - place * place)) / bessel(BETA);
    const angle = Math.PI * scale * distance;
    return scale * window * (angle === 0 ? 1 : Math.sin(angle) / angle);
  });
}

/** Modified Bessel function of order 0. */
function bessel(x: number): number {
  let [sum, term] = [1, 1];
  for (let k = 1; term > 1e-12 * sum; k++) sum += term *= (x / (2 * k)) ** 2;
  return sum;
}

function divisor(a: number, b: number): number {
  return b ? divisor(b, a % b) : a;
}
