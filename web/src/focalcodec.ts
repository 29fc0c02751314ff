/** The codec for any page: calls of its worker as promises, and token files. */

import type { Sound } from "./audio/wav.ts";
import { fetchJson, type About, type CodecEntry } from "./codec/bundle.ts";
import type { Calls, Kind, Loaded, Reply, Request } from "./codec/messages.ts";
import { UserError } from "./errors.ts";
import type { TokenHeader } from "./fct/header.ts";

export { readWav, writeWav, type Sound } from "./audio/wav.ts";
export { resample } from "./audio/resample.ts";
export type { Decoded, Encoded, Streamed } from "./codec/messages.ts";
export { readFct, writeFct, type Tokens } from "./fct/file.ts";

type Progress = (part: number) => void;

interface Waiting {
  resolve: (result: Calls[Kind]["gives"]) => void;
  reject: (error: Error) => void;
  progress: Progress;
}

/** The folder of this script: it has the worker, the codecs and their list. */
const HOME = new URL(".", import.meta.url);

/** Codecs that this site has, the first is the default. */
export async function listCodecs(): Promise<CodecEntry[]> {
  return (await fetchJson(new URL("codecs.json", HOME))) as CodecEntry[];
}

/** Audio to tokens and back, in a worker. */
export class FocalCodec {
  private constructor(
    private readonly worker: CodecWorker,
    readonly about: About,
    readonly threads: number,
    readonly streams: boolean,
  ) {}

  /** Load a codec by its name, or the first of the list. */
  static async load(name = "", progress?: Progress): Promise<FocalCodec> {
    const entries = await listCodecs();
    const entry = name ? entries.find((each) => each.name === name) : entries[0];
    if (!entry) {
      const names = entries.map((each) => each.name).join(", ");
      throw new UserError(`There is no codec ${name} on this site, only ${names}.`);
    }
    const worker = new CodecWorker();
    try {
      const content = { entry, base: HOME.href };
      const { about, threads, streams }: Loaded = await worker.call("load", content, progress);
      return new FocalCodec(worker, about, threads, streams);
    } catch (error) {
      worker.close();
      throw error;
    }
  }

  /** Tokens of a recording of any length and rate. */
  encode(sound: Sound, progress?: Progress) {
    return this.worker.call("encode", { sound }, progress);
  }

  /** Tokens that are complete after the next part of a stream; only where `streams` is true. */
  push(sound: Sound) {
    return this.worker.call("push", { sound });
  }

  /** Tokens at the end of a stream; `push` begins the next one. */
  flush() {
    return this.worker.call("flush", {});
  }

  /** Sound of tokens. */
  decode(toks: Uint32Array, progress?: Progress) {
    return this.worker.call("decode", { toks }, progress);
  }

  /** Set the voice of `convert`: a recording of a person. Gives its number of frames. */
  setVoice(sound: Sound) {
    return this.worker.call("reference", { sound });
  }

  /** Sound of tokens in the voice of `setVoice`. */
  convert(toks: Uint32Array, progress?: Progress) {
    return this.worker.call("convert", { toks }, progress);
  }

  /** Bits per second of the tokens. */
  get bitrate(): number {
    const { sample_rate_input: rate, hop_length: hop, bits_per_token: bits } = this.about;
    return (rate / hop) * bits;
  }

  /** Header of a token file, for a recording of `numSamples` at `sampleRate`, Hz. */
  header(numSamples: number, sampleRate: number, id = ""): TokenHeader {
    return {
      model: this.about.model,
      weights: this.about.weights_sha256.slice(0, 16),
      bits: this.about.bits_per_token,
      samplesPerToken: this.about.hop_length,
      sampleRateInput: this.about.sample_rate_input,
      sampleRateOutput: this.about.sample_rate_output,
      sampleRate,
      numSamples,
      id,
    };
  }

  /** Stop the worker. */
  close(): void {
    this.worker.close();
  }
}

class CodecWorker {
  private readonly worker = new Worker(new URL("worker.js", HOME), { type: "module" });
  private readonly waiting = new Map<number, Waiting>();
  private count = 0;

  constructor() {
    this.worker.onmessage = ({ data }: MessageEvent<Reply>) => this.receive(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.fail("The codec's worker did not start or ended. Reload the page.");
    };
  }

  call<K extends Kind>(
    kind: K,
    content: Calls[K]["takes"],
    progress: Progress = () => {},
  ): Promise<Calls[K]["gives"]> {
    const request: Request<K> = { id: ++this.count, kind, content };
    return new Promise((resolve, reject) => {
      this.waiting.set(request.id, { resolve: resolve as Waiting["resolve"], reject, progress });
      this.worker.postMessage(request);
    });
  }

  close(): void {
    this.worker.terminate();
    this.fail("The codec was closed.");
  }

  private receive(reply: Reply): void {
    const call = this.waiting.get(reply.id);
    if (!call) return;
    if ("progress" in reply) return call.progress(reply.progress);
    this.waiting.delete(reply.id);
    if ("error" in reply) call.reject(new UserError(reply.error));
    else call.resolve(reply.result);
  }

  private fail(message: string): void {
    for (const { reject } of this.waiting.values()) reject(new UserError(message));
    this.waiting.clear();
  }
}
