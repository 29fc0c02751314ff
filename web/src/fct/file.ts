/** Token files, `.fct`: written packed; read packed, with own frequencies, or in packets. */

import { UserError } from "../errors.ts";
import { ByteReader, TruncatedError, crc32, integerBytes, pack, packedBytes, unpack } from "./bytes.ts";
import * as kinds from "./header.ts";
import { checkNumbers, headerBytes, readHeader, type TokenHeader } from "./header.ts";
import { readOwn } from "./ranges.ts";

export interface Tokens {
  header: TokenHeader;
  toks: Uint32Array;
}

/** Bytes of a file with packed tokens, as `focalcodec encode` writes them. */
export function writeFct({ header, toks }: Tokens): Uint8Array<ArrayBuffer> {
  const most = 2 ** header.bits;
  if (toks.some((tok) => tok >= most)) throw new UserError(`toks: ${header.bits} bits are too few.`);
  const head = headerBytes(header, toks.length);
  const body = pack(toks, header.bits);
  const file = new Uint8Array(head.length + body.length + 4);
  file.set(head);
  file.set(body, head.length);
  file.set(integerBytes(crc32(body), 4), head.length + body.length);
  return file;
}

/** Read a whole token file; `name` is used in messages. */
export function readFct(data: Uint8Array, name = "The file"): Tokens {
  const reader = new ByteReader(data, name);
  const { header, numTokens, body } = readHeader(reader);
  if (body === kinds.PACKED) {
    const packed = reader.take(packedBytes(numTokens, header.bits), "tokens");
    reader.checkCrc("tokens");
    reader.checkEnd();
    return { header, toks: unpack(packed, numTokens, header.bits, name) };
  }
  if (body === kinds.OWN) return { header, toks: readOwn(reader, numTokens, header.bits) };
  if (body === kinds.PACKETS) return readPackets(reader, header);
  throw new UserError(`${name} ${refusal(body)}. Decode it with the command line: focalcodec decode.`);
}

function refusal(body: number): string {
  if (body === kinds.VOICED) return "has merged tokens or a voice, which this page can't decode";
  if (body === kinds.TABLE) return "needs a table of frequencies, which this page does not have";
  return `has a body of kind ${body}, which is of a later version`;
}

/** Tokens that were written while they arrived; without an end, those of all whole packets. */
function readPackets(reader: ByteReader, header: TokenHeader): Tokens {
  const toks: number[] = [];
  let numSamples: number | null = null;
  try {
    while (numSamples === null) {
      const first = reader.integer(4, "packet");
      const count = reader.integer(2, "packet");
      const body = reader.take(count ? packedBytes(count, header.bits) : 5, "packet");
      reader.checkCrc("packet");
      if (first !== toks.length) throw new UserError(`${reader.name} lacks tokens between packets.`);
      if (count) for (const tok of unpack(body, count, header.bits, reader.name)) toks.push(tok);
      else numSamples = body.reduceRight((value, byte) => value * 256 + byte, 0);
    }
    reader.checkEnd();
  } catch (error) {
    if (!(error instanceof TruncatedError)) throw error; // else its writer was stopped
  }
  if (!toks.length) throw new UserError(`${reader.name} has no tokens: its writer ended early.`);
  const encoded = toks.length * header.samplesPerToken * header.sampleRate;
  const lasts = Math.max(1, Math.floor(encoded / header.sampleRateInput));
  const complete = { ...header, numSamples: numSamples ?? lasts };
  checkNumbers(complete, toks.length, reader.name);
  return { header: complete, toks: Uint32Array.from(toks) };
}
