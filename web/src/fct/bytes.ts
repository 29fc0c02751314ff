/** Bytes of token files: a reader that checks the CRC-32, and packed values. */

import { UserError } from "../errors.ts";

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** CRC-32 as in zlib. */
export function crc32(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = (crc >>> 8) ^ TABLE[(crc ^ byte) & 255];
  return (crc ^ 0xffffffff) >>> 0;
}

/** Little-endian bytes of an integer below 2^53. */
export function integerBytes(value: number, size: number): number[] {
  return Array.from({ length: size }, (_, place) => Math.floor(value / 256 ** place) % 256);
}

/** The file ended before the bytes that were wanted. */
export class TruncatedError extends UserError {}

/** Reads a file from its begin to its end. */
export class ByteReader {
  offset = 0;
  private checked = 0;

  constructor(
    readonly data: Uint8Array,
    readonly name: string,
  ) {}

  take(count: number, part: string): Uint8Array {
    if (this.offset + count > this.data.length) {
      throw new TruncatedError(
        `${this.name} is truncated in its ${part}, after ${this.data.length} bytes. Copy it again.`,
      );
    }
    this.offset += count;
    return this.data.subarray(this.offset - count, this.offset);
  }

  integer(size: number, part: string): number {
    return this.take(size, part).reduceRight((value, byte) => value * 256 + byte, 0);
  }

  /** Compare the bytes since the last check with the stored CRC-32 that follows them. */
  checkCrc(part: string): void {
    const found = crc32(this.data.subarray(this.checked, this.offset));
    const stored = this.integer(4, part);
    this.checked = this.offset;
    if (found !== stored) {
      throw new UserError(
        `${this.name} is corrupted: the CRC of its ${part} differs. Copy it again, or encode the` +
          " audio again.",
      );
    }
  }

  checkEnd(): void {
    if (this.offset < this.data.length) {
      throw new UserError(
        `${this.name} has bytes after its end at ${this.offset}. Give one token file, not several` +
          " joined.",
      );
    }
  }
}

/** Number of bytes of packed values. */
export function packedBytes(count: number, bits: number): number {
  return Math.ceil((count * bits) / 8);
}

/** Values as bits, the most significant first; zero bits fill the last byte. */
export function pack(values: ArrayLike<number>, bits: number): Uint8Array {
  const data = new Uint8Array(packedBytes(values.length, bits));
  let place = 0;
  for (let index = 0; index < values.length; index++) {
    for (let bit = bits - 1; bit >= 0; bit--, place++) {
      if ((values[index] >>> bit) & 1) data[place >> 3] |= 128 >> (place & 7);
    }
  }
  return data;
}

/** Undo `pack`. */
export function unpack(data: Uint8Array, count: number, bits: number, name: string): Uint32Array {
  const values = new Uint32Array(count);
  let place = 0;
  for (let index = 0; index < count; index++) {
    let value = 0;
    for (let bit = 0; bit < bits; bit++, place++) {
      value = value * 2 + ((data[place >> 3] >> (7 - (place & 7))) & 1);
    }
    values[index] = value;
  }
  if (place & 7 && data[place >> 3] & (255 >> (place & 7))) {
    throw new UserError(`${name} is corrupted: the bits that fill a byte are not zero.`);
  }
  return values;
}
