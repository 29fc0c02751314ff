/** Colours of the pictures, light and dark. */

type Colour = [number, number, number];

/** Stops from silence to the loudest. */
const LIGHT: Colour[] = [
  [255, 255, 255],
  [224, 226, 248],
  [150, 154, 228],
  [76, 74, 180],
  [38, 28, 104],
  [18, 10, 48],
];
const DARK: Colour[] = [
  [23, 26, 32],
  [42, 40, 92],
  [98, 78, 178],
  [190, 110, 178],
  [250, 168, 136],
  [255, 238, 204],
];

export interface Palette {
  levels: Uint32Array; // 256 pixels, as ImageData has them
  bits: [string, string]; // of the first and the last bit of a token that is one
  off: string; // of a bit that is zero
  line: string; // of the position
  text: string;
}

export function palette(): Palette {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const stops = dark ? DARK : LIGHT;
  const levels = Uint32Array.from({ length: 256 }, (_, level) => {
    const place = (level / 255) * (stops.length - 1);
    const first = Math.min(stops.length - 2, Math.floor(place));
    const mixed = stops[first].map((value, channel) =>
      Math.round(value + (place - first) * (stops[first + 1][channel] - value)),
    );
    return (255 << 24) | (mixed[2] << 16) | (mixed[1] << 8) | mixed[0];
  });
  return dark
    ? { levels, bits: ["#a4a8ff", "#ffb08f"], off: "#23262e", line: "#ffffff", text: "#a0a5ad" }
    : { levels, bits: ["#3b3fb6", "#b0479a"], off: "#ecebe6", line: "#c8321f", text: "#5c6168" };
}
