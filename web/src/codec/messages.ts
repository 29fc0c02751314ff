/** What the page and the worker of the codec send to each other. */

import type { Sound } from "../audio/wav.ts";
import type { About, CodecEntry } from "./bundle.ts";

/** Tokens of a recording, and the time that the codec took for it, s. */
export interface Encoded {
  toks: Uint32Array<ArrayBuffer>;
  sig: Float32Array<ArrayBuffer>; // the samples that were encoded, at `sample_rate_input`
  seconds: number;
}

/** Tokens that are complete after the last part of a stream, and the time for it, s. */
export interface Streamed {
  toks: Uint32Array<ArrayBuffer>;
  seconds: number;
}

export interface Decoded {
  sound: Sound;
  seconds: number;
}

export interface Loaded {
  about: About;
  streams: boolean; // whether it takes `push` and `flush`
  threads: number;
}

/** Calls of the worker: what each takes and gives. */
export interface Calls {
  load: { takes: { entry: CodecEntry; base: string }; gives: Loaded };
  encode: { takes: { sound: Sound }; gives: Encoded };
  decode: { takes: { toks: Uint32Array }; gives: Decoded };
  push: { takes: { sound: Sound }; gives: Streamed }; // to a stream
  flush: { takes: object; gives: Streamed }; // the end of a stream
  reference: { takes: { sound: Sound }; gives: number }; // frames of the wanted voice
  convert: { takes: { toks: Uint32Array }; gives: Decoded };
}

export type Kind = keyof Calls;

export interface Request<K extends Kind = Kind> {
  id: number;
  kind: K;
  content: Calls[K]["takes"];
}

export type Reply =
  | { id: number; progress: number }
  | { id: number; result: Calls[Kind]["gives"] }
  | { id: number; error: string };
