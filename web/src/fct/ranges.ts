/** Tokens that were coded with a range coder and the file's own frequencies of bits. */

import { UserError } from "../errors.ts";
import { ByteReader, packedBytes } from "./bytes.ts";

const WORD = 0xffffffffn;
const FULL = 0xffffffffffffffffn;
const TOTAL = 1n << 24n;
const MAX_BITS_PER_WORD = 6000; // a bit costs at least log2(256 / 255) bits

/** Read the body "own": sizes, frequencies, words, CRC. */
export function readOwn(reader: ByteReader, numTokens: number, bits: number): Uint32Array {
  const corrupted = new UserError(`${reader.name} is corrupted: its body is impossible.`);
  const size = reader.integer(4, "tokens");
  const wordBytes = size - 2 * bits;
  if (size + 4 > packedBytes(numTokens, bits) || wordBytes < 0 || wordBytes % 4) throw corrupted;
  const ones = reader.take(2 * bits, "tokens");
  const data = reader.take(wordBytes, "tokens");
  reader.checkCrc("tokens");
  reader.checkEnd();
  if (ones.includes(0) || numTokens * bits > (wordBytes / 4) * MAX_BITS_PER_WORD) throw corrupted;
  const coder = new RangeDecoder(data);
  const toks = new Uint32Array(numTokens);
  let before = 0;
  for (let index = 0; index < numTokens; index++) {
    let tok = 0;
    for (let place = 0; place < bits; place++) {
      const afterOne = (before >>> (bits - 1 - place)) & 1;
      const bit = coder.next(ones[afterOne * bits + place]);
      if (bit < 0) throw corrupted;
      tok = tok * 2 + bit;
    }
    toks[index] = before = tok;
  }
  return toks;
}

class RangeDecoder {
  private lower = 0n;
  private range = FULL;
  private point: bigint;
  private offset = 0;

  constructor(private readonly data: Uint8Array) {
    this.point = (this.word() << 32n) | this.word();
  }

  /** The next bit, which is one with frequency ones / 256; -1 if the data are impossible. */
  next(ones: number): number {
    const zeros = ((BigInt(256 - ones) * (TOTAL - 2n)) >> 8n) + 1n;
    const scale = this.range >> 24n;
    const place = ((this.point - this.lower) & FULL) / scale;
    if (place >= TOTAL) return -1;
    const bit = place >= zeros;
    if (bit) this.lower = (this.lower + scale * zeros) & FULL;
    this.range = scale * (bit ? TOTAL - zeros : zeros);
    if (this.range >> 32n === 0n) {
      this.lower = (this.lower << 32n) & FULL;
      this.range <<= 32n;
      this.point = ((this.point & WORD) << 32n) | this.word();
    }
    return bit ? 1 : 0;
  }

  private word(): bigint {
    if (this.offset >= this.data.length) return 0n; // zeros behind the last word
    let value = 0;
    for (let byte = 3; byte >= 0; byte--) value = value * 256 + this.data[this.offset + byte];
    this.offset += 4;
    return BigInt(value);
  }
}
