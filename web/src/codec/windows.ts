/** Windows over a long recording: those of focalcodec.long_audio, with its numbers. */

/** Frames of a window; the first `left` and the last `right` are context only. */
export interface WindowPlan {
  size: number;
  left: number;
  right: number;
}

/** Items from `begin` to `end`; of the frames made from them, `start` to `stop` are kept. */
export interface Window {
  begin: number;
  end: number;
  start: number;
  stop: number | null; // null: to the end
}

/** Cut `count` items into windows; a recording that fits one window is one window. */
export function cutWindows(count: number, plan: WindowPlan, perFrame = 1): Window[] {
  const size = plan.size * perFrame;
  const stop = plan.size - plan.right;
  const step = (stop - plan.left) * perFrame;
  const windows: Window[] = [];
  let [begin, start] = [0, 0];
  // one item more than a window: the last window never has context only
  for (; count - begin > size; begin += step, start = plan.left) {
    windows.push({ begin, end: begin + size, start, stop });
  }
  windows.push({ begin, end: count, start, stop: null });
  return windows;
}

/** Rows of floats, such as feats (frames, width). */
export interface Rows {
  width: number;
  values: Float32Array;
}

/** Put blocks of rows one after another. */
export function joinRows(blocks: Rows[]): Rows {
  const width = blocks[0].width;
  const values = new Float32Array(blocks.reduce((sum, block) => sum + block.values.length, 0));
  let offset = 0;
  for (const block of blocks) {
    values.set(block.values, offset);
    offset += block.values.length;
  }
  return { width, values };
}

/** Rows from `start` to `stop`. */
export function someRows(rows: Rows, start: number, stop: number | null): Rows {
  const { width, values } = rows;
  return { width, values: values.subarray(start * width, stop === null ? undefined : stop * width) };
}

/** Fade linearly from the rows that the last window gives for the same times, in place. */
export function crossFade(tail: Rows, rows: Rows): void {
  const fade = tail.values.length / tail.width;
  for (let row = 0; row < fade; row++) {
    const weight = (row + 1) / (fade + 1);
    for (let place = row * rows.width; place < (row + 1) * rows.width; place++) {
      rows.values[place] = tail.values[place] + weight * (rows.values[place] - tail.values[place]);
    }
  }
}
