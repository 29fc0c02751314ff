/** The elements of the page, and what they show. */

export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

const message = element("message");
const progress = element<HTMLProgressElement>("progress");

/** A sentence of what happens; `part` is how much of it is done, 0 to 1, null: no bar. */
export function say(text: string, part: number | null = null): void {
  message.className = "message";
  if (message.textContent !== text) message.textContent = text;
  progress.hidden = part === null;
  if (part !== null) progress.value = part;
}

/** A sentence of what went wrong. */
export function sayError(text: string): void {
  say(text);
  message.className = "message error";
}

/** A label and what is heard in a version of the recording. */
export interface Choice {
  key: string;
  label: string;
  detail: string;
}

/** Radio buttons for the versions. */
export function showChoices(choices: Choice[], checked: string, change: (key: string) => void): void {
  const labels = choices.map(({ key, label, detail }) => {
    const row = document.createElement("label");
    const radio = Object.assign(document.createElement("input"), {
      type: "radio",
      name: "version",
      value: key,
      checked: key === checked,
    });
    radio.addEventListener("change", () => change(key));
    const name = Object.assign(document.createElement("b"), { textContent: label });
    const small = Object.assign(document.createElement("small"), { textContent: detail });
    row.append(radio, name, small);
    return row;
  });
  const group = element("versions");
  const focused = group.contains(document.activeElement);
  group.replaceChildren(group.querySelector("legend")!, ...labels);
  if (focused) group.querySelector<HTMLInputElement>(":checked")?.focus();
}

/** A button in a group. */
export function addButton(group: HTMLElement, text: string, act: () => void): HTMLButtonElement {
  const button = Object.assign(document.createElement("button"), { textContent: text, disabled: true });
  button.addEventListener("click", act);
  group.append(button);
  return button;
}

const FIGURES = ["bitrate", "size", "pcm", "encode-speed", "decode-speed"] as const;

export function setFigure(id: (typeof FIGURES)[number], text: string): void {
  element(id).textContent = text;
}

export function clearFigures(): void {
  for (const id of FIGURES) setFigure(id, "–");
}

/** 1234 bytes as people read them. */
export function bytesText(bytes: number): string {
  if (bytes < 10_000) return `${bytes} bytes`;
  return bytes < 1e6 ? `${Math.round(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** How many times faster than the sound lasts. */
export function speedText(soundSeconds: number, seconds: number): string {
  const speed = soundSeconds / Math.max(seconds, 1e-3);
  return `${speed < 10 ? speed.toFixed(1) : Math.round(speed)}× real time`;
}
