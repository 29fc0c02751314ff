/** A codec on onnxruntime-web: recordings of any length, in windows. */

import { InferenceSession, Tensor, env } from "onnxruntime-web/wasm";
import { UserError } from "../errors.ts";
import { GRAPHS, fetchBundle, type About, type GraphName, type Plans } from "./bundle.ts";
import { EncoderSession } from "./stream.ts";
import { crossFade, cutWindows, joinRows, someRows, type Rows } from "./windows.ts";

type Sessions = Record<GraphName, InferenceSession>;
type Done = (part: number) => void;

/** Set the folder of onnxruntime's files and the number of threads, before a codec is loaded. */
export function setUpRuntime(folder: URL): number {
  const cores = Math.min(4, navigator.hardwareConcurrency || 1);
  env.wasm.numThreads = globalThis.crossOriginIsolated ? cores : 1;
  env.wasm.wasmPaths = new URL("ort/", folder).href;
  env.logLevel = "error";
  return env.wasm.numThreads;
}

/** Audio to tokens and back; the methods are those of focalcodec.onnx_runtime. */
export class Codec {
  private constructor(
    readonly about: About,
    private readonly plans: Plans,
    private readonly sessions: Sessions,
    private readonly step: InferenceSession | null,
    readonly stream: EncoderSession | null, // of a causal codec
  ) {}

  /** Load the graphs of a folder. */
  static async load(folder: URL, plans: Plans, progress?: Done): Promise<Codec> {
    const { about, graphs, step } = await fetchBundle(folder, progress);
    const sessions: Partial<Sessions> = {};
    for (const name of GRAPHS) sessions[name] = await start(name, graphs[name], about.model);
    const file = about.graphs.encoder_step;
    const last = step && (await start("encoder_step", step, about.model));
    const stream = file && last && new EncoderSession(last, file, about.sample_rate_input);
    return new Codec(about, plans, sessions as Sessions, last, stream ?? null);
  }

  /** Samples at `sample_rate_input` to tokens. */
  async sigToToks(sig: Float32Array, done: Done = () => {}): Promise<Uint32Array<ArrayBuffer>> {
    checkSig(sig);
    const { hop_length: hop, factor } = this.about;
    const toks: number[] = [];
    for (const window of cutWindows(sig.length, this.plans.encode, hop / factor)) {
      const outputs = await this.encoder(sig.subarray(window.begin, window.end));
      const made = [...(outputs.toks.data as BigInt64Array)].map(Number);
      const stop = window.stop === null ? undefined : window.stop / factor;
      for (const tok of made.slice(window.start / factor, stop)) toks.push(tok);
      done(window.end / sig.length);
    }
    return Uint32Array.from(toks);
  }

  /** Samples at `sample_rate_input` to feats, such as those of another voice. */
  async sigToFeats(sig: Float32Array): Promise<Rows> {
    checkSig(sig);
    const { hop_length: hop, factor } = this.about;
    const blocks: Rows[] = [];
    for (const window of cutWindows(sig.length, this.plans.feats, hop / factor)) {
      const outputs = await this.encoder(sig.subarray(window.begin, window.end));
      blocks.push(someRows(this.rows(outputs.feats), window.start, window.stop));
    }
    return joinRows(blocks);
  }

  /** Tokens to qfeats. */
  async toksToQfeats(toks: Uint32Array): Promise<Rows> {
    const { factor, bits_per_token: bits, dim, model } = this.about;
    if (!toks.length || toks.some((tok) => tok >= 2 ** bits)) {
      throw new UserError(`The tokens are not of ${model}: there are none, or one is too large.`);
    }
    const { decompress: plan, fade } = this.plans;
    const span = Math.min(fade, plan.size - plan.left - plan.right) * factor;
    const blocks: Rows[] = [];
    let tail: Rows | null = null;
    for (const window of cutWindows(toks.length, plan)) {
      const some = BigInt64Array.from(toks.subarray(window.begin, window.end), BigInt);
      const inputs = { toks: new Tensor("int64", some, [1, some.length]) };
      const outputs = await this.run("decompressor", inputs, some.length);
      const rows: Rows = { width: dim, values: outputs.qfeats.data as Float32Array };
      const stop = (window.stop ?? some.length) * factor;
      const kept = someRows(rows, window.start * factor, stop);
      if (tail) crossFade(tail, kept);
      tail = someRows(rows, stop, stop + span);
      blocks.push(kept);
    }
    return joinRows(blocks);
  }

  /** Feats or qfeats to samples at `sample_rate_output`. */
  async featsToSig(feats: Rows, done: Done = () => {}): Promise<Float32Array<ArrayBuffer>> {
    const { dim, decoder_hop: hop } = this.about;
    const count = feats.values.length / dim;
    const blocks: Rows[] = [];
    for (const window of cutWindows(count, this.plans.decode)) {
      const values = someRows(feats, window.begin, window.end).values.slice();
      const inputs = { feats: new Tensor("float32", values, [1, values.length / dim, dim]) };
      const outputs = await this.run("decoder", inputs, values.length / dim);
      const sig: Rows = { width: hop, values: outputs.rec_sig.data as Float32Array };
      blocks.push(someRows(sig, window.start, window.stop));
      done(window.end / count);
    }
    return joinRows(blocks).values as Float32Array<ArrayBuffer>;
  }

  /** Free the memory of the sessions. */
  async release(): Promise<void> {
    await Promise.all(GRAPHS.map((name) => this.sessions[name].release()));
    await this.step?.release();
  }

  private encoder(sig: Float32Array) {
    return this.run("encoder", { sig: new Tensor("float32", sig, [1, sig.length]) }, sig.length);
  }

  private run(name: GraphName, inputs: Record<string, Tensor>, length: number) {
    const lengths = new Tensor("int64", BigInt64Array.of(BigInt(length)), [1]);
    return this.sessions[name].run({ ...inputs, lengths });
  }

  private rows(tensor: Tensor): Rows {
    return { width: this.about.dim, values: tensor.data as Float32Array };
  }
}

async function start(name: string, graph: Uint8Array, model: string): Promise<InferenceSession> {
  try {
    return await InferenceSession.create(graph);
  } catch (error) {
    throw new UserError(`The ${name} of ${model} does not run in this browser: ${error}`);
  }
}

export function checkSig(sig: Float32Array): void {
  if (!sig.length) throw new UserError("There are no samples. Record or open some speech.");
  if (!sig.every(Number.isFinite)) throw new UserError("A sample is not a number. Repair the file.");
}
