/** WAV files: read with the samples as they are, and written as 32-bit floats. */

import { UserError } from "../errors.ts";

/** A mono signal: samples about [-1, 1] and their rate, Hz. */
export interface Sound {
  sig: Float32Array<ArrayBuffer>;
  sampleRate: number;
}

const PCM = 1;
const FLOAT = 3;
const EXTENSIBLE = 0xfffe;
const HEADER_BYTES = 44;

/** Read a WAV file of PCM or floats, the mean of its channels; null if it is another file. */
export function readWav(data: ArrayBuffer, name: string): Sound | null {
  const view = new DataView(data);
  const tag = (at: number) => String.fromCharCode(...new Uint8Array(data, at, 4));
  if (data.byteLength < 12 || tag(0) !== "RIFF" || tag(8) !== "WAVE") return null;
  let format: { kind: number; channels: number; sampleRate: number; bits: number } | null = null;
  for (let at = 12; at + 8 <= data.byteLength; ) {
    const [id, size] = [tag(at), view.getUint32(at + 4, true)];
    at += 8;
    if (id === "fmt " && at + 16 <= data.byteLength) {
      const kind = view.getUint16(at, true);
      const inner = kind === EXTENSIBLE && at + 26 <= data.byteLength;
      format = {
        kind: inner ? view.getUint16(at + 24, true) : kind,
        channels: view.getUint16(at + 2, true),
        sampleRate: view.getUint32(at + 4, true),
        bits: view.getUint16(at + 14, true),
      };
    }
    if (id === "data" && format) {
      const sample = sampleReader(view, format.kind, format.bits);
      if (!sample || !format.channels || !format.sampleRate) return null;
      const { channels, bits, sampleRate } = format;
      const frame = (channels * bits) / 8;
      const length = Math.floor(Math.min(size, data.byteLength - at) / frame);
      const cut = size !== 0xffffffff && at + size > data.byteLength;
      if (!length || cut) throw new UserError(`${name} is truncated or empty. Copy it again.`);
      const sig = new Float32Array(length);
      for (let index = 0; index < length; index++) {
        let sum = 0;
        for (let channel = 0; channel < channels; channel++) {
          sum += sample(at + index * frame + (channel * bits) / 8);
        }
        sig[index] = sum / channels;
      }
      return { sig, sampleRate };
    }
    at += size + (size & 1);
  }
  throw new UserError(`${name} is truncated: it has no samples. Copy it again.`);
}

function sampleReader(view: DataView, kind: number, bits: number) {
  const readers: Record<string, (at: number) => number> = {
    [`${PCM} 8`]: (at) => (view.getUint8(at) - 128) / 128,
    [`${PCM} 16`]: (at) => view.getInt16(at, true) / 2 ** 15,
    [`${PCM} 24`]: (at) => (view.getUint16(at, true) + view.getInt8(at + 2) * 65536) / 2 ** 23,
    [`${PCM} 32`]: (at) => view.getInt32(at, true) / 2 ** 31,
    [`${FLOAT} 32`]: (at) => view.getFloat32(at, true),
    [`${FLOAT} 64`]: (at) => view.getFloat64(at, true),
  };
  return readers[`${kind} ${bits}`];
}

/** A WAV file of 32-bit floats: the samples exactly. */
export function writeWav({ sig, sampleRate }: Sound): ArrayBuffer {
  const data = new ArrayBuffer(HEADER_BYTES + 4 * sig.length);
  const view = new DataView(data);
  const text = (at: number, tag: string) =>
    [...tag].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, data.byteLength - 8, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, FLOAT, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, 4 * sampleRate, true);
  view.setUint16(32, 4, true);
  view.setUint16(34, 32, true);
  text(36, "data");
  view.setUint32(40, 4 * sig.length, true);
  new Float32Array(data, HEADER_BYTES).set(sig);
  return data;
}
