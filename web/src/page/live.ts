/** A recording that goes on: its picture, and draft tokens of its last seconds. */

import type { Sound } from "../audio/wav.ts";
import type { FocalCodec } from "../focalcodec.ts";
import { Recorder } from "./recorder.ts";
import type { Stage } from "./stage.ts";
import { setFigure } from "./view.ts";

const SHOWN_SECONDS = 6;
const DRAFT_SECONDS = 3; // encoded again and again
const PICTURES_PER_SECOND = 10;
const LONGEST_SECONDS = 600;

/** Tokens while a person speaks are drafts: the whole recording is encoded at its end. */
export class LiveRecording {
  private readonly toks: (number | undefined)[] = [];
  private readonly timer: number;
  private busy = false;

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

  stop(): Sound {
    clearInterval(this.timer);
    return this.recorder.stop();
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
    if (!this.busy && recorder.seconds > 0.5) void this.draft();
    if (recorder.seconds > LONGEST_SECONDS) this.tooLong();
  }

  private async draft(): Promise<void> {
    const { about } = this.codec;
    this.busy = true;
    // from a sample on that begins a token
    const align = Math.round((this.recorder.sampleRate * about.hop_length) / about.sample_rate_input);
    const part = this.recorder.last(DRAFT_SECONDS, align);
    try {
      const { toks } = await this.codec.encode(part);
      const first = part.first / align;
      toks.forEach((tok, index) => (this.toks[first + index] = tok));
    } catch {
      // the whole recording is encoded at its end, and says what is wrong
    }
    this.busy = false;
  }
}
