/** What the user can do: record, open, listen, convert, save. */

import type { Sound } from "../audio/wav.ts";
import { resampledLength } from "../audio/resample.ts";
import type { CodecEntry } from "../codec/bundle.ts";
import { UserError, sentence } from "../errors.ts";
import { FocalCodec, readFct, writeFct, writeWav } from "../focalcodec.ts";
import type { Streamed, Tokens } from "../focalcodec.ts";
import { decodeAudio, save } from "./files.ts";
import { LiveRecording } from "./live.ts";
import { Stage } from "./stage.ts";
import * as view from "./view.ts";
import { element, say, sayError } from "./view.ts";

/** A version of the recording that can be heard. */
export interface Version extends view.Choice {
  sound: Sound;
}

export class App {
  private codec: FocalCodec | null = null;
  private readonly stage = new Stage();
  private name = "";
  private tokens: Tokens | null = null;
  private versions: Version[] = [];
  private selected = "focalcodec";
  private live: LiveRecording | null = null;
  private job = 0; // number of the last thing that the user began

  /** Load a codec, and encode again what is there. */
  async load(entry: CodecEntry): Promise<boolean> {
    const job = this.begin();
    this.codec?.close();
    this.codec = null;
    this.enable();
    const size = view.bytesText(entry.bytes);
    const text = `Loading the codec ${entry.name} (${size}).`;
    say(text, 0);
    try {
      const codec = await FocalCodec.load(entry.name, (part) => job() && say(text, part));
      this.codec = codec;
      const { threads } = codec;
      element("machine").textContent = threads > 1 ? `Runs on ${threads} threads.` : ONE_THREAD;
      this.enable();
      const original = this.versions.find(({ key }) => key === "original");
      const others = this.versions.filter(({ key }) => key !== "focalcodec" && key !== "voice");
      if (original) await this.openSound(this.name, original.sound, others.slice(1));
      else say("Ready. Record something, open a file, or take a clip.");
      return true;
    } catch (error) {
      sayError(sentence(error));
      return false;
    }
  }

  /** Open an audio file or a token file. */
  async openFile(file: File): Promise<void> {
    await this.guarded(async (codec) => {
      if (/\.fct$/i.test(file.name)) return this.openTokens(file.name, await file.arrayBuffer());
      say(`Reading ${file.name}.`);
      const rate = codec.about.sample_rate_input;
      const sound = await decodeAudio(await file.arrayBuffer(), file.name, rate);
      await this.openSound(file.name.replace(/\.[^.]*$/, ""), sound);
    });
  }

  /** Encode, if it was not while it was recorded, and decode a recording. */
  async openSound(
    name: string,
    sound: Sound,
    others: Version[] = [],
    title = name,
    streamed: Streamed | null = null,
  ): Promise<void> {
    await this.guarded(async (codec, current) => {
      this.reset(name, title);
      const duration = sound.sig.length / sound.sampleRate;
      const kbps = (sound.sampleRate * 16) / 1000;
      const detail = `${Math.round(kbps)} kbit/s`;
      this.add({ key: "original", label: "Original", detail, sound });
      for (const other of others) this.add(other);
      this.stage.show({ input: sound });
      const encoding = `Encoding ${duration.toFixed(1)} s.`;
      const progress = (part: number) => current() && say(encoding, part);
      const encoded = streamed ?? (await codec.encode(sound, progress));
      if (!current()) return;
      const header = codec.header(sound.sig.length, sound.sampleRate, name.slice(0, 60));
      view.setFigure("encode-speed", view.speedText(duration, encoded.seconds));
      view.setFigure("pcm", view.bytesText(2 * sound.sig.length));
      await this.showTokens({ header, toks: encoded.toks });
      if (!current()) return;
      say(`${duration.toFixed(1)} s of speech became ${encoded.toks.length} tokens. Play them.`);
    });
  }

  /** Convert the voice to that of a recording. */
  async convert(label: string, voice: () => Promise<Sound>): Promise<void> {
    await this.guarded(async (codec, current) => {
      const { tokens } = this;
      if (!tokens) throw new UserError("First record or open speech, then choose another voice.");
      say(`Converting. The other voice: ${label}.`);
      const frames = await codec.setVoice(await voice());
      const { sound, seconds } = await codec.convert(tokens.toks);
      if (!current()) return;
      const sounds = fit(sound, tokens);
      this.add({ key: "voice", label: "Converted", detail: label, sound: sounds });
      this.select("voice");
      view.setFigure("decode-speed", view.speedText(this.stage.player.duration, seconds));
      const length = (frames * codec.about.hop_length) / codec.about.factor;
      const reference = (length / codec.about.sample_rate_input).toFixed(0);
      say(`The same words in another voice: ${label}, from ${reference} s of speech.`);
    });
  }

  /** Open an audio file as the other voice. */
  async convertFile(file: File): Promise<void> {
    const rate = this.codec?.about.sample_rate_input ?? 16000;
    const label = file.name.replace(/\.[^.]*$/, "");
    await this.convert(label, async () => decodeAudio(await file.arrayBuffer(), file.name, rate));
  }

  /** Begin or end to record. */
  async record(): Promise<void> {
    const recorded = this.endRecording();
    if (recorded) {
      return this.guarded(async () => {
        const { sound, streamed } = await recorded.stop();
        if (!sound.sig.length) {
          throw new UserError("The microphone gave no samples. Check that it is switched on.");
        }
        await this.openSound("recording", sound, [], "recording", streamed);
      });
    }
    await this.guarded(async (codec, current) => {
      say("Waiting for the microphone.");
      const live = await LiveRecording.start(codec, this.stage, () => void this.record());
      if (!current()) return void live.stop().catch(() => {});
      this.reset("recording");
      this.live = live;
      this.showRecording(true);
      say("Recording. Press the button again to stop.");
    });
  }

  toggle(): void {
    if (this.versions.length && !this.live) this.stage.toggle();
  }

  /** Listen to another version, at the same position. */
  select(key: string): void {
    const version = this.versions.find((each) => each.key === key);
    if (!version) return;
    this.selected = key;
    this.stage.player.select(key);
    this.stage.show({ output: version.sound });
    element("out-label").textContent = `Out: ${version.label}, ${version.detail}`;
    view.showChoices(this.versions, key, (chosen) => this.select(chosen));
  }

  selectNumber(number: number): void {
    const version = this.versions[number - 1];
    if (version) this.select(version.key);
  }

  saveTokens(): void {
    if (!this.tokens) return;
    save(writeFct(this.tokens), `${this.name}.fct`, "application/octet-stream");
  }

  saveSound(): void {
    const version = this.versions.find(({ key }) => key === this.selected);
    if (version) save(writeWav(version.sound), `${this.name}.${version.key}.wav`, "audio/wav");
  }

  private async openTokens(name: string, data: ArrayBuffer): Promise<void> {
    await this.guarded(async (codec, current) => {
      const tokens = readFct(new Uint8Array(data), name);
      const { weights, model } = tokens.header;
      if (weights !== codec.about.weights_sha256.slice(0, 16)) {
        throw new UserError(
          `${name} has tokens of ${model} (weights ${weights}), but this codec is` +
            ` ${codec.about.model}. Choose its codec above, if it is there.`,
        );
      }
      this.reset(name.replace(/\.fct$/i, ""));
      view.setFigure("pcm", view.bytesText(2 * tokens.header.numSamples));
      await this.showTokens(tokens);
      if (current()) say(`${name}: ${tokens.toks.length} tokens.`);
    });
  }

  /** Decode tokens, and show them and their figures. */
  private async showTokens(tokens: Tokens): Promise<void> {
    const codec = this.codec!;
    const job = this.job;
    const { header, toks } = tokens;
    const tokenRate = header.sampleRateInput / header.samplesPerToken;
    const seconds = header.numSamples / header.sampleRate;
    this.tokens = tokens;
    if (!this.versions.length) this.stage.player.duration = seconds;
    this.stage.show({ tokenized: { toks, bits: header.bits, tokenRate } });
    element("tokens-label").textContent =
      `Tokens: ${toks.length}, ${tokenRate}/s × ${header.bits} bits`;
    view.setFigure("bitrate", `${codec.bitrate / 1000} kbit/s`);
    view.setFigure("size", view.bytesText(writeFct(tokens).length));
    const text = "Decoding the tokens.";
    const decoded = await codec.decode(toks, (part) => job === this.job && say(text, part));
    if (job !== this.job) return;
    view.setFigure("decode-speed", view.speedText(seconds, decoded.seconds));
    const detail = `${codec.bitrate / 1000} kbit/s`;
    const sound = fit(decoded.sound, tokens);
    this.add({ key: "focalcodec", label: "FocalCodec", detail, sound });
    this.select("focalcodec");
    this.enable();
  }

  private add(version: Version): void {
    this.versions = this.versions.filter(({ key }) => key !== version.key);
    this.versions.push(version);
    this.versions.sort((a, b) => ORDER.indexOf(a.key) - ORDER.indexOf(b.key));
    this.stage.player.set(version.key, version.sound);
    view.showChoices(this.versions, this.selected, (chosen) => this.select(chosen));
    this.enable();
  }

  private reset(name: string, title = name): void {
    void this.endRecording()?.stop().catch(() => {});
    this.stage.clear();
    this.name = name;
    this.tokens = null;
    this.versions = [];
    element("out-label").textContent = "Out";
    element("tokens-label").textContent = "Tokens";
    element("in-label").textContent = `In: ${title}`;
    view.showChoices([], "", () => {});
    view.clearFigures();
    this.enable();
  }

  /** Run what a user wants, with the codec; errors become sentences. */
  private async guarded(
    act: (codec: FocalCodec, current: () => boolean) => Promise<void>,
  ): Promise<void> {
    const { codec } = this;
    if (!codec) return sayError("The codec is not loaded yet. Wait, or reload the page.");
    const current = this.begin();
    try {
      await act(codec, current);
    } catch (error) {
      if (this.codec === codec) sayError(sentence(error));
    }
  }

  private begin(): () => boolean {
    const job = ++this.job;
    return () => job === this.job;
  }

  private enable(): void {
    const ready = this.codec !== null;
    const buttons = document.querySelectorAll<HTMLButtonElement>("#record, #clips button");
    for (const button of buttons) button.disabled = !ready;
    const withTokens = "#voice-open, #voices button, #save-tokens";
    for (const button of document.querySelectorAll<HTMLButtonElement>(withTokens)) {
      button.disabled = !ready || !this.tokens;
    }
    for (const id of ["play", "seek", "save-sound"]) {
      element<HTMLButtonElement>(id).disabled = !this.versions.length;
    }
  }

  private endRecording(): LiveRecording | null {
    const { live } = this;
    this.live = null;
    this.showRecording(false);
    return live;
  }

  private showRecording(on: boolean): void {
    element("record").classList.toggle("recording", on);
    element("record-label").textContent = on ? "Stop" : "Record";
  }
}

const ORDER = ["original", "focalcodec", "opus", "codec2", "voice"];
const ONE_THREAD = "Runs on one thread: this browser or address gives no more.";

/** The decoded sound, cut or filled to the length of the recording. */
function fit({ sig, sampleRate }: Sound, { header }: Tokens): Sound {
  const length = resampledLength(header.numSamples, header.sampleRate, sampleRate);
  if (length <= sig.length) return { sig: sig.slice(0, length), sampleRate };
  const filled = new Float32Array(length);
  filled.set(sig);
  return { sig: filled, sampleRate };
}
