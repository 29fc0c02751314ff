/** The worker: it loads a codec and runs one call after another, so that the page never waits. */

import { resample } from "../audio/resample.ts";
import { UserError, sentence } from "../errors.ts";
import { Codec, checkSig, setUpRuntime } from "./codec.ts";
import { convertFeats } from "./knn.ts";
import type { Calls, Decoded, Kind, Reply, Request, Streamed } from "./messages.ts";
import type { EncoderSession } from "./stream.ts";
import type { Rows } from "./windows.ts";

type Handler<K extends Kind> = (
  content: Calls[K]["takes"],
  progress: (part: number) => void,
) => Promise<Calls[K]["gives"]>;

let codec: Codec | null = null;
let reference: Rows | null = null;

const handlers: { [K in Kind]: Handler<K> } = {
  async load({ entry, base }, progress) {
    const threads = setUpRuntime(new URL(base));
    await codec?.release();
    codec = reference = null;
    codec = await Codec.load(new URL(entry.folder, base), entry.plans, progress);
    return { about: codec.about, streams: codec.stream !== null, threads };
  },

  async encode({ sound }, progress) {
    const { about } = loaded();
    const begin = performance.now();
    const sig = resample(sound.sig, sound.sampleRate, about.sample_rate_input);
    const toks = await loaded().sigToToks(sig, progress);
    return { toks, sig, seconds: (performance.now() - begin) / 1000 };
  },

  async push({ sound }) {
    if (sound.sig.length) checkSig(sound.sig);
    return streamed((stream) => stream.push(sound));
  },

  async flush() {
    return streamed((stream) => stream.flush());
  },

  async decode({ toks }, progress) {
    return decoded(() => loaded().toksToQfeats(toks), progress);
  },

  async reference({ sound }) {
    const rate = loaded().about.sample_rate_input;
    reference = await loaded().sigToFeats(resample(sound.sig, sound.sampleRate, rate));
    return reference.values.length / reference.width;
  },

  async convert({ toks }, progress) {
    const voice = reference;
    if (!voice) throw new UserError("There is no other voice yet. Choose a recording of one.");
    return decoded(async () => convertFeats(await loaded().toksToQfeats(toks), voice), progress);
  },
};

function loaded(): Codec {
  if (!codec) throw new UserError("The codec is not loaded. Reload the page.");
  return codec;
}

async function streamed(call: (stream: EncoderSession) => Promise<number[]>): Promise<Streamed> {
  const { stream, about } = loaded();
  if (!stream) throw new UserError(`${about.model} has no streams: export a causal codec.`);
  const begin = performance.now();
  const toks = Uint32Array.from(await call(stream));
  return { toks, seconds: (performance.now() - begin) / 1000 };
}

async function decoded(feats: () => Promise<Rows>, progress: (part: number) => void): Promise<Decoded> {
  const begin = performance.now();
  const sig = await loaded().featsToSig(await feats(), progress);
  const seconds = (performance.now() - begin) / 1000;
  return { sound: { sig, sampleRate: loaded().about.sample_rate_output }, seconds };
}

let last: Promise<void> = Promise.resolve();

self.onmessage = ({ data }: MessageEvent<Request>) => {
  last = last.then(() => answer(data));
};

async function answer<K extends Kind>({ id, kind, content }: Request<K>): Promise<void> {
  const send = (reply: Reply) => self.postMessage(reply);
  try {
    const result = await handlers[kind](content, (progress) => send({ id, progress }));
    send({ id, result });
  } catch (error) {
    send({ id, error: sentence(error) });
  }
}
