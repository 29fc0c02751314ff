/** The header of a token file: the model, the rates and the length (docs/token_files.md). */

import { UserError } from "../errors.ts";
import { ByteReader, crc32, integerBytes } from "./bytes.ts";

export interface TokenHeader {
  model: string; // name of the model
  weights: string; // 16 hexadecimal digits of the SHA-256 of its weights
  bits: number; // per token
  samplesPerToken: number; // at sampleRateInput
  sampleRateInput: number; // of the encoder's input, Hz
  sampleRateOutput: number; // of the decoder's output, Hz
  sampleRate: number; // of the original audio, Hz
  numSamples: number; // of the original audio, at sampleRate
  id: string; // name of the clip
}

export const PACKED = 0;
export const OWN = 1;
export const TABLE = 2;
export const PACKETS = 3;
export const VOICED = 4;

const MAGIC = [70, 67, 84]; // FCT
const VERSION = 1;
const TEXT_BYTES = 255;
const NUMBERS = [
  ["samplesPerToken", 2],
  ["sampleRateInput", 3],
  ["sampleRateOutput", 3],
  ["sampleRate", 3],
  ["numSamples", 5],
] as const;

/** Bytes of the header of a file with packed tokens. */
export function headerBytes(header: TokenHeader, numTokens: number): Uint8Array {
  const model = text("model", header.model, 1);
  const id = text("id", header.id, 0);
  checkNumbers(header, numTokens);
  const weights = header.weights.match(/^[0-9a-f]{16}$/) ? header.weights.match(/../g) : null;
  if (!weights) throw new UserError(`weights: ${header.weights} are not 16 hexadecimal digits.`);
  const data = [...MAGIC, VERSION, PACKED, header.bits, model.length, id.length];
  data.push(...weights.map((pair) => parseInt(pair, 16)));
  for (const [name, size] of NUMBERS) data.push(...integerBytes(header[name], size));
  data.push(...integerBytes(numTokens, 4), ...model, ...id);
  return Uint8Array.from([...data, ...integerBytes(crc32(Uint8Array.from(data)), 4)]);
}

/** Read a header and nothing after it. In packets, `numTokens` and `numSamples` are 0. */
export function readHeader(reader: ByteReader): {
  header: TokenHeader;
  numTokens: number;
  body: number;
} {
  const { name } = reader;
  const magic = reader.take(3, "header");
  if (!MAGIC.every((byte, index) => byte === magic[index])) {
    throw new UserError(`${name} is not a token file: it does not begin with FCT.`);
  }
  const version = reader.integer(1, "header");
  if (version !== VERSION) {
    throw new UserError(`${name} has version ${version} of the format; this page reads version 1.`);
  }
  const [body, bits, modelBytes, idBytes] = reader.take(4, "header");
  const weights = [...reader.take(8, "header")].map((byte) => byte.toString(16).padStart(2, "0"));
  const numbers = NUMBERS.map(([, size]) => reader.integer(size, "header"));
  const numTokens = reader.integer(4, "header");
  const texts = [reader.take(modelBytes, "header"), reader.take(idBytes, "header")];
  reader.checkCrc("header");
  const [samplesPerToken, sampleRateInput, sampleRateOutput, sampleRate, numSamples] = numbers;
  const [model, id] = texts.map((bytes) => decoded(bytes, name));
  const rates = { samplesPerToken, sampleRateInput, sampleRateOutput, sampleRate, numSamples };
  const header = { model, weights: weights.join(""), bits, ...rates, id };
  if (body !== PACKETS) checkNumbers(header, numTokens, name);
  else if (numTokens || numSamples) {
    throw new UserError(`${name} is corrupted: it has packets and a length.`);
  }
  return { header, numTokens, body };
}

/** Check the numbers, and that the tokens last as long as the audio. */
export function checkNumbers(header: TokenHeader, numTokens: number, name = "The header"): void {
  const limits = [...NUMBERS.map(([key, size]) => [header[key], 256 ** size - 1])];
  limits.push([numTokens, 256 ** 4 - 1], [header.bits, 32]);
  if (!limits.every(([value, most]) => Number.isInteger(value) && value >= 1 && value <= most)) {
    throw new UserError(`${name} is corrupted: a number in its header is out of range.`);
  }
  // a model may drop the end of the audio: two tokens and one second are allowed
  const longest = (numTokens + 2) * header.samplesPerToken + header.sampleRateInput;
  if (header.numSamples * header.sampleRateInput > longest * header.sampleRate) {
    throw new UserError(`${name} has ${numTokens} tokens, too few for the length of its audio.`);
  }
}

function text(name: string, value: string, least: number): Uint8Array {
  const bytes = new TextEncoder().encode(value);
  if (bytes.length < least || bytes.length > TEXT_BYTES || /\p{Cc}|\p{Zl}|\p{Zp}/u.test(value)) {
    throw new UserError(`${name}: give ${least} to ${TEXT_BYTES} bytes of one line.`);
  }
  return bytes;
}

function decoded(bytes: Uint8Array, name: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new UserError(`${name} is corrupted: a name in its header is not UTF-8.`);
  }
}
