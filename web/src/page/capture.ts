/** The AudioWorklet of the microphone: it sends the samples in blocks. */

const BLOCK = 2048;

declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, processor: new () => AudioWorkletProcessor): void;

class Capture extends AudioWorkletProcessor {
  private block = new Float32Array(BLOCK);
  private filled = 0;

  process(inputs: Float32Array[][]): boolean {
    const samples = inputs[0]?.[0];
    for (let done = 0; samples && done < samples.length; ) {
      const some = samples.subarray(done, done + BLOCK - this.filled);
      this.block.set(some, this.filled);
      this.filled += some.length;
      done += some.length;
      if (this.filled === BLOCK) {
        this.port.postMessage(this.block, [this.block.buffer]);
        this.block = new Float32Array(BLOCK);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
