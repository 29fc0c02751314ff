/** A picture over time, with a line at the position: a spectrogram, or the bits of tokens. */

import { spectrogram } from "../audio/spectrogram.ts";
import type { Sound } from "../audio/wav.ts";
import { palette } from "./colours.ts";

/** Times at the left and right edge, s. */
export interface Span {
  begin: number;
  end: number;
}

const BANDS = 64;

/** A canvas whose picture is kept, so that only the line is drawn again. */
export class Lane {
  onseek: (part: number) => void = () => {};
  private readonly kept = document.createElement("canvas");

  constructor(readonly canvas: HTMLCanvasElement) {
    const seek = (event: PointerEvent) => {
      const { left, width } = canvas.getBoundingClientRect();
      this.onseek(Math.min(1, Math.max(0, (event.clientX - left) / width)));
    };
    canvas.addEventListener("pointerdown", seek);
    canvas.addEventListener("pointermove", (event) => event.buttons & 1 && seek(event));
  }

  /** Draw the line at a part of the width, 0 to 1, or none. */
  draw(part: number | null): void {
    const { canvas, kept } = this;
    const context = canvas.getContext("2d")!;
    if (canvas.width !== kept.width || canvas.height !== kept.height) {
      canvas.width = kept.width;
      canvas.height = kept.height;
    }
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (kept.width && kept.height) context.drawImage(kept, 0, 0);
    if (part === null || part < 0 || part > 1) return;
    context.fillStyle = palette().line;
    const width = Math.max(1, Math.round(devicePixelRatio * 1.5));
    context.fillRect(Math.round(part * canvas.width - width / 2), 0, width, canvas.height);
  }

  clear(): void {
    this.begin();
  }

  spectrogram(sound: Sound, span: Span): void {
    const context = this.begin();
    const { width, height } = this.kept;
    const columns = Math.max(1, Math.min(900, Math.ceil(width / devicePixelRatio)));
    const { sig, sampleRate } = sound;
    const picture = spectrogram(sig, sampleRate, span.begin, span.end, columns, BANDS);
    const image = new ImageData(columns, BANDS);
    const pixels = new Uint32Array(image.data.buffer);
    const { levels } = palette();
    for (let column = 0; column < columns; column++) {
      for (let band = 0; band < BANDS; band++) {
        const level = Math.round(255 * picture.levels[column * BANDS + band]);
        pixels[(BANDS - 1 - band) * columns + column] = levels[level];
      }
    }
    const small = document.createElement("canvas");
    [small.width, small.height] = [columns, BANDS];
    small.getContext("2d")!.putImageData(image, 0, 0);
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0, 0, width, height);
  }

  /** A column for each token, a row for each bit, the most significant at the top. */
  tokens(toks: ArrayLike<number | undefined>, bits: number, tokenRate: number, span: Span): void {
    const context = this.begin();
    const { width, height } = this.kept;
    const { bits: colours, off } = palette();
    const column = width / ((span.end - span.begin) * tokenRate);
    const row = height / bits;
    const gap = column >= 5 ? Math.max(1, Math.round(column / 8)) : 0;
    const gradient = context.createLinearGradient(0, 0, 0, height);
    colours.forEach((colour, place) => gradient.addColorStop(place, colour));
    const last = Math.min(toks.length, Math.ceil(span.end * tokenRate));
    for (let index = Math.max(0, Math.floor(span.begin * tokenRate)); index < last; index++) {
      const tok = toks[index];
      if (tok === undefined) continue;
      const left = Math.round((index - span.begin * tokenRate) * column);
      const right = Math.round((index + 1 - span.begin * tokenRate) * column);
      for (let bit = 0; bit < bits; bit++) {
        context.fillStyle = (tok >>> (bits - 1 - bit)) & 1 ? gradient : off;
        const top = Math.round(bit * row);
        const tall = Math.max(1, Math.round((bit + 1) * row) - top - Math.max(1, gap));
        context.fillRect(left, top, Math.max(1, right - left - gap), tall);
      }
    }
  }

  private begin(): CanvasRenderingContext2D {
    const { width, height } = this.canvas.getBoundingClientRect();
    this.kept.width = Math.max(1, Math.round(width * devicePixelRatio));
    this.kept.height = Math.max(1, Math.round(height * devicePixelRatio));
    return this.kept.getContext("2d")!;
  }
}
