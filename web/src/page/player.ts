/** Plays one of several versions of a recording; a change of version keeps the position. */

import type { Sound } from "../audio/wav.ts";

const FADE_SECONDS = 0.015;

interface Voice {
  source: AudioBufferSourceNode;
  gain: GainNode;
}

export class Player {
  onend: () => void = () => {};
  duration = 0;
  private context: AudioContext | null = null;
  private readonly sounds = new Map<string, Sound>();
  private readonly buffers = new Map<string, AudioBuffer>();
  private voices = new Map<string, Voice>();
  private selected = "";
  private offset = 0;
  private started: number | null = null; // time of the context

  get playing(): boolean {
    return this.started !== null;
  }

  /** Position, s. */
  get time(): number {
    if (this.started === null || !this.context) return this.offset;
    return Math.min(this.duration, this.offset + this.context.currentTime - this.started);
  }

  clear(): void {
    this.pause();
    this.sounds.clear();
    this.buffers.clear();
    this.offset = this.duration = 0;
  }

  set(key: string, sound: Sound): void {
    this.sounds.set(key, sound);
    this.buffers.delete(key);
    this.duration = Math.max(this.duration, sound.sig.length / sound.sampleRate);
    if (this.playing) this.seek(this.time);
  }

  select(key: string): void {
    this.selected = key;
    const now = this.context?.currentTime ?? 0;
    for (const [name, { gain }] of this.voices) {
      gain.gain.setTargetAtTime(name === key ? 1 : 0, now, FADE_SECONDS / 3);
    }
  }

  /** Start all versions together, of which one is heard. */
  play(): void {
    if (this.playing || !this.sounds.size) return;
    const context = (this.context ??= new AudioContext());
    void context.resume();
    if (this.offset >= this.duration - 0.01) this.offset = 0;
    for (const [key, sound] of this.sounds) {
      const source = context.createBufferSource();
      source.buffer = this.buffer(context, key, sound);
      const gain = context.createGain();
      gain.gain.value = key === this.selected ? 1 : 0;
      source.connect(gain).connect(context.destination);
      source.start(0, this.offset);
      this.voices.set(key, { source, gain });
    }
    this.started = context.currentTime;
  }

  pause(): void {
    this.offset = this.time;
    this.started = null;
    for (const { source } of this.voices.values()) source.stop();
    this.voices = new Map();
  }

  seek(time: number): void {
    const { playing } = this;
    this.pause();
    this.offset = Math.min(Math.max(0, time), this.duration);
    if (playing) this.play();
  }

  /** Call it for each picture: it notices the end. */
  tick(): void {
    if (!this.playing || this.time < this.duration) return;
    this.pause();
    this.offset = 0;
    this.onend();
  }

  private buffer(context: AudioContext, key: string, sound: Sound): AudioBuffer {
    let buffer = this.buffers.get(key);
    if (!buffer) {
      buffer = context.createBuffer(1, sound.sig.length, sound.sampleRate);
      buffer.copyToChannel(sound.sig, 0);
      this.buffers.set(key, buffer);
    }
    return buffer;
  }
}
