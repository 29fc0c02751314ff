/** Audio to tokens while it arrives: EncoderSession of focalcodec.onnx_runtime, for one stream. */

import { InferenceSession, Tensor } from "onnxruntime-web/wasm";
import { Resampler } from "../audio/resample.ts";
import type { Sound } from "../audio/wav.ts";
import type { StepFile } from "./bundle.ts";

/** The step of a causal codec and its state: rings of the last frames. */
export class EncoderSession {
  private readonly rings: Float32Array[];
  private readonly sizes: number[]; // values of a frame
  private readonly queue: number[] = []; // samples of a chunk that is not complete
  private resampler: Resampler | null = null;
  private chunks = 0;

  constructor(
    private readonly session: InferenceSession,
    private readonly step: StepFile,
    private readonly sampleRate: number,
  ) {
    this.sizes = step.rings.map(({ shape }) => product(shape.slice(1)));
    this.rings = step.rings.map(({ shape }) => new Float32Array(product(shape)));
  }

  /** Tokens that are complete after more samples; their rate is that of the stream's first ones. */
  async push({ sig, sampleRate }: Sound): Promise<number[]> {
    this.resampler ??= new Resampler(sampleRate, this.sampleRate);
    return this.run(this.resampler.push(sig));
  }

  /** Tokens of the samples that are left, at the end of the stream; the next one can begin. */
  async flush(): Promise<number[]> {
    const toks = await this.run(this.resampler?.flush() ?? []);
    if (this.queue.length) toks.push(...(await this.advance(this.queue.splice(0))));
    for (const ring of this.rings) ring.fill(0);
    this.resampler = null;
    this.chunks = 0;
    return toks;
  }

  private async run(sig: ArrayLike<number>): Promise<number[]> {
    const toks: number[] = [];
    for (let at = 0; at < sig.length; at++) {
      this.queue.push(sig[at]);
      if (this.queue.length === this.step.chunk) {
        toks.push(...(await this.advance(this.queue.splice(0))));
      }
    }
    return toks;
  }

  /** Tokens of a chunk. */
  private async advance(sig: number[]): Promise<number[]> {
    const inputs: Record<string, Tensor> = {
      sig: new Tensor("float32", Float32Array.from(sig), [1, sig.length]),
      chunks: new Tensor("int64", BigInt64Array.of(BigInt(this.chunks)), [1]),
    };
    this.step.rings.forEach(({ ring, shape }, index) => {
      inputs[ring] = new Tensor("float32", this.rings[index], [1, ...shape]);
    });
    const outputs = await this.session.run(inputs);
    if (sig.length === this.step.chunk) this.keep(outputs); // else nothing follows
    return [...(outputs.toks.data as BigInt64Array)].map(Number);
  }

  /** Write the new frames into the rings. */
  private keep(outputs: InferenceSession.ReturnType): void {
    this.step.rings.forEach(({ new: name, shape, frames }, index) => {
      const values = outputs[name].data as Float32Array;
      const size = this.sizes[index];
      for (let frame = Math.max(0, frames - shape[0]); frame < frames; frame++) {
        const place = (this.chunks * frames + frame) % shape[0];
        this.rings[index].set(values.subarray(frame * size, (frame + 1) * size), place * size);
      }
    });
    this.chunks += 1;
  }
}

function product(shape: number[]): number {
  return shape.reduce((size, axis) => size * axis, 1);
}
