/** The page's begin: the service worker, the codec, the clips, and what keys and drops do. */

import { fetchJson } from "../codec/bundle.ts";
import { sentence } from "../errors.ts";
import { listCodecs } from "../focalcodec.ts";
import { App } from "./app.ts";
import { decodeAudio, joinSounds } from "./files.ts";
import { isolate } from "./isolate.ts";
import { addButton, element, sayError } from "./view.ts";

interface Clips {
  clips: { title: string; name: string; files: Record<"original" | "opus" | "codec2", string> }[];
  voices: { title: string; files: string[] }[];
}

const CLIP_RATE = 16000;
const OTHERS = [
  { key: "opus", label: "Opus", detail: "6 kbit/s" },
  { key: "codec2", label: "Codec 2", detail: "1.3 kbit/s" },
] as const;

async function main(): Promise<void> {
  if (await isolate()) return; // the page loads again
  const app = new App();
  connect(app);
  try {
    const codecs = await listCodecs();
    const select = element<HTMLSelectElement>("codec");
    select.append(...codecs.map(({ name, title }) => new Option(title, name)));
    element("one-codec").textContent = codecs.length > 1 ? "" : codecs[0].title;
    select.hidden = codecs.length < 2;
    select.addEventListener("change", () => {
      const entry = codecs.find(({ name }) => name === select.value);
      if (entry) void app.load(entry);
    });
    const { clips, voices } = (await fetchJson(new URL("clips.json", document.baseURI))) as Clips;
    for (const clip of clips) addButton(element("clips"), clip.title, () => void openClip(app, clip));
    for (const { title, files } of voices) {
      const voice = async () => joinSounds(await Promise.all(files.map(fetchSound)));
      addButton(element("voices"), title, () => void app.convert(title, voice));
    }
    if (await app.load(codecs[0])) await openClip(app, clips[0]);
  } catch (error) {
    sayError(sentence(error));
  }
}

async function openClip(app: App, { title, name, files }: Clips["clips"][number]): Promise<void> {
  try {
    const original = await fetchSound(files.original);
    const others = OTHERS.map(async (other) => ({ ...other, sound: await fetchSound(files[other.key]) }));
    await app.openSound(name, original, await Promise.all(others), `“${title}”`);
  } catch (error) {
    sayError(sentence(error));
  }
}

async function fetchSound(file: string) {
  const response = await fetch(new URL(file, document.baseURI));
  return decodeAudio(await response.arrayBuffer(), file, CLIP_RATE);
}

function connect(app: App): void {
  chooser("open", "file", (file) => app.openFile(file));
  chooser("voice-open", "voice-file", (file) => app.convertFile(file));
  element("record").addEventListener("click", () => void app.record());
  element("save-tokens").addEventListener("click", () => app.saveTokens());
  element("save-sound").addEventListener("click", () => app.saveSound());
  connectDrops(app);
  document.addEventListener("keydown", (event) => {
    const target = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey || target.matches("select")) return;
    const key = event.key.toLowerCase();
    if (key === " " && target.matches("button, a, input")) return; // the element's own key
    if (key === " " || key === "p") app.toggle();
    else if (key === "r") element("record").click();
    else if (key === "o") element("open").click();
    else if (/^[1-5]$/.test(key)) app.selectNumber(Number(key));
    else return;
    event.preventDefault();
  });
}

/** A button that opens the browser's chooser of files. */
function chooser(button: string, input: string, open: (file: File) => Promise<void>): void {
  const files = element<HTMLInputElement>(input);
  element(button).addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    const file = files.files?.[0];
    files.value = ""; // so that the same file can be chosen again
    if (file) void open(file);
  });
}

/** Files dropped on the panel of the other voice are a voice, elsewhere speech or tokens. */
function connectDrops(app: App): void {
  const voice = element("voice");
  const onVoice = (event: DragEvent) => event.target instanceof Node && voice.contains(event.target);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    voice.classList.toggle("over", onVoice(event));
    element("drop").hidden = onVoice(event);
  });
  const end = () => {
    voice.classList.remove("over");
    element("drop").hidden = true;
  };
  document.addEventListener("dragleave", (event) => event.relatedTarget || end());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    end();
    const file = event.dataTransfer?.files[0];
    if (file) void (onVoice(event) ? app.convertFile(file) : app.openFile(file));
  });
}

void main();
