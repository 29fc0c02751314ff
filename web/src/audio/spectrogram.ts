/** The picture of a signal: levels of mel bands over time. */

const SIZE = 512; // samples of a spectrum
const FLOOR_DB = -80;

/** Levels 0..1, one column after the other, the lowest band first. */
export interface Picture {
  columns: number;
  bands: number;
  levels: Float32Array;
}

/** Levels of `columns` spectra at equal distances between two times, s; silence outside. */
export function spectrogram(
  sig: Float32Array,
  sampleRate: number,
  begin: number,
  end: number,
  columns: number,
  bands = 64,
): Picture {
  const levels = new Float32Array(columns * bands);
  const filters = melFilters(sampleRate, bands);
  const [real, imaginary] = [new Float32Array(SIZE), new Float32Array(SIZE)];
  for (let column = 0; column < columns; column++) {
    const time = begin + ((column + 0.5) / columns) * (end - begin);
    const first = Math.round(time * sampleRate) - SIZE / 2;
    if (first + SIZE <= 0 || first >= sig.length) continue;
    for (let index = 0; index < SIZE; index++) real[index] = (sig[first + index] ?? 0) * HANN[index];
    imaginary.fill(0);
    transform(real, imaginary);
    filters.forEach(([low, middle, high], band) => {
      let power = 1e-12;
      for (let bin = Math.ceil(low); bin < high; bin++) {
        const weight = bin < middle ? (bin - low) / (middle - low) : (high - bin) / (high - middle);
        power += weight * (real[bin] ** 2 + imaginary[bin] ** 2);
      }
      const decibels = 10 * Math.log10(power) - 25;
      levels[column * bands + band] = Math.min(1, Math.max(0, 1 - decibels / FLOOR_DB));
    });
  }
  return { columns, bands, levels };
}

const HANN = Float32Array.from(
  { length: SIZE },
  (_, index) => 0.5 - 0.5 * Math.cos((2 * Math.PI * index) / SIZE),
);

/** First, middle and last bin of each band, up to 8 kHz; a band has at least two bins. */
function melFilters(sampleRate: number, bands: number): [number, number, number][] {
  const mel = (hertz: number) => 1127 * Math.log(1 + hertz / 700);
  const top = mel(Math.min(8000, sampleRate / 2));
  const bin = (place: number) =>
    (700 * (Math.exp((place * top) / (bands + 1) / 1127) - 1) * SIZE) / sampleRate;
  return Array.from({ length: bands }, (_, band) => {
    const middle = bin(band + 1);
    return [Math.min(bin(band), middle - 1), middle, Math.max(bin(band + 2), middle + 1)];
  });
}

/** Fourier transform in place; the length is a power of two. */
function transform(real: Float32Array, imaginary: Float32Array): void {
  const size = real.length;
  for (let index = 1, other = 0; index < size; index++) {
    let bit = size >> 1;
    for (; other & bit; bit >>= 1) other ^= bit;
    other ^= bit;
    if (index < other) {
      [real[index], real[other]] = [real[other], real[index]];
      [imaginary[index], imaginary[other]] = [imaginary[other], imaginary[index]];
    }
  }
  for (let length = 2; length <= size; length <<= 1) {
    const half = length >> 1;
    for (let place = 0; place < half; place++) {
      const angle = (-2 * Math.PI * place) / length;
      const [c, s] = [Math.cos(angle), Math.sin(angle)];
      for (let start = place; start < size; start += length) {
        const far = start + half;
        const re = real[far] * c - imaginary[far] * s;
        const im = real[far] * s + imaginary[far] * c;
        real[far] = real[start] - re;
        imaginary[far] = imaginary[start] - im;
        real[start] += re;
        imaginary[start] += im;
      }
    }
  }
}
