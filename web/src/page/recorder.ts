/** Records from the microphone, through an AudioWorklet. */

import type { Sound } from "../audio/wav.ts";
import { UserError } from "../errors.ts";

export class Recorder {
  private blocks: Float32Array[] = [];
  private length = 0;

  private constructor(
    private readonly stream: MediaStream,
    private readonly context: AudioContext,
  ) {}

  /** Ask for the microphone and begin. */
  static async start(): Promise<Recorder> {
    const stream = await microphone();
    const context = new AudioContext();
    const recorder = new Recorder(stream, context);
    try {
      await context.audioWorklet.addModule(new URL("capture.js", document.baseURI));
      await context.resume();
      const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0, channelCount: 1 });
      node.port.onmessage = ({ data }: MessageEvent<Float32Array>) => recorder.add(data);
      context.createMediaStreamSource(stream).connect(node);
    } catch (error) {
      recorder.close();
      throw new UserError(`The microphone can't be read: ${error}. Open a file instead.`);
    }
    return recorder;
  }

  get sampleRate(): number {
    return this.context.sampleRate;
  }

  get seconds(): number {
    return this.length / this.sampleRate;
  }

  /** The last seconds, from a sample on that is a multiple of `align`; `first` is its index. */
  last(seconds: number, align = 1): Sound & { first: number } {
    const wanted = Math.max(0, this.length - Math.round(seconds * this.sampleRate));
    return this.from(Math.ceil(wanted / align) * align);
  }

  /** All samples from one on. */
  from(first: number): Sound & { first: number } {
    const sig = new Float32Array(Math.max(0, this.length - first));
    let offset = this.length;
    for (let index = this.blocks.length - 1; index >= 0 && offset > first; index--) {
      offset -= this.blocks[index].length;
      const skip = Math.max(0, first - offset);
      if (skip < this.blocks[index].length) {
        sig.set(this.blocks[index].subarray(skip), offset + skip - first);
      }
    }
    return { sig, sampleRate: this.sampleRate, first };
  }

  /** End, and give all samples. */
  stop(): Sound {
    this.close();
    const { sig, sampleRate } = this.from(0);
    return { sig, sampleRate };
  }

  private add(block: Float32Array): void {
    this.blocks.push(block);
    this.length += block.length;
  }

  private close(): void {
    for (const track of this.stream.getTracks()) track.stop();
    void this.context.close();
  }
}

async function microphone(): Promise<MediaStream> {
  if (!navigator.mediaDevices) {
    throw new UserError(
      "The browser gives no microphone to this address. Use https or localhost, or open a file.",
    );
  }
  try {
    // as it is: a codec should not hear the browser's own processing
    const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false };
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    const name = error instanceof DOMException ? error.name : "";
    if (name === "NotAllowedError") {
      throw new UserError(
        "The microphone is not allowed on this page. Allow it beside the address, or open a file.",
      );
    }
    if (name === "NotFoundError") {
      throw new UserError("No microphone was found. Connect one, or open a file.");
    }
    throw new UserError(`The microphone does not start (${name || error}). Open a file instead.`);
  }
}
