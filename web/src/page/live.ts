/** A recording that goes on: its picture, and its tokens. */

import type { Sound } from "../audio/wav.ts";
import type { FocalCodec, Streamed } from "../focalcodec.ts";
import { Recorder } from "./recorder.ts";
import type { Stage } from "./stage.ts";
import { setFigure } from "./view.ts";

const SHOWN_SECONDS = 6;
const DRAFT_SECONDS = 3; // encoded again and again
const PICTURES_PER_SECOND = 10;
const LONGEST_SECONDS = 600;

/** A recording and, of a codec for streams, its tokens. */
export interface Recorded {
  sound: Sound;
  streamed: Streamed | null;
}

/**
 * A causal codec gives the tokens as the samples arrive. Of another one they are drafts: the whole
 * recording is encoded at its end.
 */
export class LiveRecording {
  private readonly toks: (number | undefined)[] = [];
  private readonly timer: number;
  private busy = false;
  private pushed = 0; // samples
  private seconds = 0; // for the tokens of a stream
  private failed: unknown = null;

  private constructor(
    private readonly recorder: Recorder,
    private readonly codec: FocalCodec,
    private readonly stage: Stage,
    private readonly tooLong: () => void,
  ) {
    this.timer = window.setInterval(() => this.tick(), 1000 / PICTURES_PER_SECOND);
  }

  static async start(codec: FocalCodec, stage: Stage, tooLong: () => void): Promise<LiveRecording> {
    return new LiveRecording(await Recorder.start(), codec, stage, tooLong);
  }

  async stop(): Promise<Recorded> {
    clearInterval(this.timer);
    const sound = this.recorder.stop();
    if (!this.codec.streams) return { sound, streamed: null };
    // nothing is awaited between the two: another recording may begin
    const rest = this.push(sound.sig.slice(this.pushed));
    const end = this.codec.flush();
    await rest;
    this.add(await end);
    if (this.failed) throw this.failed;
    return { sound, streamed: { toks: Uint32Array.from(this.toks as number[]), seconds: this.seconds } };
  }

  private tick(): void {
    const { recorder, codec, stage } = this;
    const last = recorder.last(SHOWN_SECONDS);
    setFigure("bitrate", `${codec.bitrate / 1000} kbit/s`);
    const end = Math.max(recorder.seconds, SHOWN_SECONDS);
    const { bits_per_token: bits, sample_rate_input: rate, hop_length: hop } = codec.about;
    const tokenized = { toks: this.toks, bits, tokenRate: rate / hop };
    const span = { begin: end - SHOWN_SECONDS, end };
    stage.showLive(last, last.first / recorder.sampleRate, span, tokenized);
    if (!this.busy && (codec.streams || recorder.seconds > 0.5)) {
      this.busy = true;
      const done = () => void (this.busy = false);
      const work = codec.streams ? this.push(recorder.from(this.pushed).sig) : this.draft();
      work.then(done, done); // of a draft, the end says what is wrong
    }
    if (recorder.seconds > LONGEST_SECONDS) this.tooLong();
  }

  private async push(sig: Float32Array<ArrayBuffer>): Promise<void> {
    if (this.failed || !sig.length) return;
    this.pushed += sig.length;
    try {
      this.add(await this.codec.push({ sig, sampleRate: this.recorder.sampleRate }));
    } catch (error) {
      this.failed = error; // said at the end
    }
  }

  private add({ toks, seconds }: Streamed): void {
    for (const tok of toks) this.toks.push(tok);
    this.seconds += seconds;
  }

  private async draft(): Promise<void> {
    const { about } = this.codec;
    // from a sample on that begins a token
    const align = Math.round((this.recorder.sampleRate * about.hop_length) / about.sample_rate_input);
    const part = this.recorder.last(DRAFT_SECONDS, align);
    const { toks } = await this.codec.encode(part);
    const first = part.first / align;
    toks.forEach((tok, index) => (this.toks[first + index] = tok));
  }
}
