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
  const scale = CUTOFF * Math.min(1, to / from); // of the sinc, in samples of the input
  const reach = Math.ceil(CROSSINGS / scale);
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
