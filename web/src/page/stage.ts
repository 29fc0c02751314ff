/** The three pictures and the player: in, tokens, out. */

import type { Sound } from "../audio/wav.ts";
import { Lane, type Span } from "./lane.ts";
import { Player } from "./player.ts";
import { element } from "./view.ts";

const LONGEST_VIEW = 12; // seconds that a picture shows at most

export interface Tokenized {
  toks: ArrayLike<number | undefined>;
  bits: number;
  tokenRate: number;
}

export class Stage {
  readonly player = new Player();
  private readonly lanes = {
    in: new Lane(element<HTMLCanvasElement>("in")),
    tokens: new Lane(element<HTMLCanvasElement>("tokens")),
    out: new Lane(element<HTMLCanvasElement>("out")),
  };
  private input: Sound | null = null;
  private output: Sound | null = null;
  private tokenized: Tokenized | null = null;
  private page = 0; // number of the view
  private live: Span | null = null; // while recording

  constructor() {
    for (const lane of Object.values(this.lanes)) {
      lane.onseek = (part) => this.seek(this.span.begin + part * (this.span.end - this.span.begin));
    }
    const seek = element<HTMLInputElement>("seek");
    seek.addEventListener("input", () => this.seek(Number(seek.value)));
    element("play").addEventListener("click", () => this.toggle());
    this.player.onend = () => this.drawLine();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    new ResizeObserver(() => this.redraw()).observe(element("stage"));
    const frame = () => {
      this.player.tick();
      if (this.player.playing) this.drawLine();
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  clear(): void {
    this.player.clear();
    this.input = this.output = this.tokenized = this.live = null;
    this.page = 0;
    this.redraw();
  }

  show(what: { input?: Sound | null; output?: Sound | null; tokenized?: Tokenized }): void {
    if (what.input !== undefined) this.input = what.input;
    if (what.output !== undefined) this.output = what.output;
    if (what.tokenized) this.tokenized = what.tokenized;
    this.redraw();
  }

  /** Pictures of a recording that goes on: its last seconds, which begin at `first` s. */
  showLive(last: Sound, first: number, span: Span, tokenized: Tokenized): void {
    this.live = span;
    this.tokenized = tokenized;
    this.lanes.in.spectrogram(last, { begin: span.begin - first, end: span.end - first });
    this.lanes.in.draw(null);
    this.drawTokens();
  }

  toggle(): void {
    if (this.player.playing) this.player.pause();
    else this.player.play();
    this.drawLine();
  }

  seek(time: number): void {
    this.player.seek(time);
    this.drawLine();
  }

  private get span(): Span {
    if (this.live) return this.live;
    const { duration } = this.player;
    if (duration <= LONGEST_VIEW) return { begin: 0, end: Math.max(duration, 0.1) };
    return { begin: this.page * LONGEST_VIEW, end: (this.page + 1) * LONGEST_VIEW };
  }

  private redraw(): void {
    const { lanes, span } = this;
    if (this.input) lanes.in.spectrogram(this.input, span);
    else if (!this.live) lanes.in.clear();
    if (this.output) lanes.out.spectrogram(this.output, span);
    else lanes.out.clear();
    this.drawTokens();
    this.drawLine();
  }

  private drawTokens(): void {
    const { tokenized, lanes } = this;
    if (tokenized) {
      lanes.tokens.tokens(tokenized.toks, tokenized.bits, tokenized.tokenRate, this.span);
    } else lanes.tokens.clear();
    lanes.tokens.draw(null);
  }

  private drawLine(): void {
    const { time, duration, playing } = this.player;
    const page = duration > LONGEST_VIEW ? Math.min(Math.floor(time / LONGEST_VIEW), 1e6) : 0;
    if (page !== this.page) {
      this.page = page;
      return this.redraw();
    }
    const { begin, end } = this.span;
    const part = duration && !this.live ? (time - begin) / (end - begin) : null;
    for (const lane of Object.values(this.lanes)) lane.draw(part);
    const seek = element<HTMLInputElement>("seek");
    seek.max = String(duration || 1);
    seek.value = String(time);
    seek.setAttribute("aria-valuetext", `${time.toFixed(1)} of ${duration.toFixed(1)} seconds`);
    element("time").textContent = `${time.toFixed(1)} / ${duration.toFixed(1)} s`;
    element("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    const shape = playing ? "M7 4h4v16H7zM13 4h4v16h-4z" : "M7 4v16l13-8z";
    element("play-shape").setAttribute("d", shape);
    this.showToken(time);
  }

  private showToken(time: number): void {
    const { tokenized } = this;
    const tok = tokenized?.toks[Math.floor(time * (tokenized.tokenRate ?? 0))];
    const bits = tok?.toString(2).padStart(tokenized!.bits, "0");
    element("token").textContent = tok === undefined || this.live ? "" : `${tok} = ${bits}`;
  }
}
