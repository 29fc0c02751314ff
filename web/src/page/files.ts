/** Sound files that a browser can decode, and files to save. */

import { readWav, type Sound } from "../audio/wav.ts";
import { UserError } from "../errors.ts";

/** Samples of an audio file: a WAV at its own rate, others at `sampleRate`; the mean of channels. */
export async function decodeAudio(data: ArrayBuffer, name: string, sampleRate: number): Promise<Sound> {
  if (!data.byteLength) throw new UserError(`${name} is empty.`);
  const wav = readWav(data, name);
  if (wav) return wav;
  let buffer: AudioBuffer;
  try {
    buffer = await new OfflineAudioContext(1, 1, sampleRate).decodeAudioData(data.slice(0));
  } catch {
    throw new UserError(`${name} is not audio that this browser can read. Try WAV, FLAC or MP3.`);
  }
  const sig = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    const samples = buffer.getChannelData(channel);
    for (let index = 0; index < sig.length; index++) {
      sig[index] += samples[index] / buffer.numberOfChannels;
    }
  }
  if (!sig.length) throw new UserError(`${name} has no samples.`);
  return { sig, sampleRate };
}

/** Give a file to the user. */
export function save(data: ArrayBuffer | Uint8Array<ArrayBuffer>, name: string, type: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([data], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Recordings one after another, at the rate of the first. */
export function joinSounds(sounds: Sound[]): Sound {
  const sig = new Float32Array(sounds.reduce((sum, each) => sum + each.sig.length, 0));
  let offset = 0;
  for (const each of sounds) {
    sig.set(each.sig, offset);
    offset += each.sig.length;
  }
  return { sig, sampleRate: sounds[0].sampleRate };
}
