/** Voice conversion: each frame becomes the mean of its nearest frames of the wanted speaker. */

import { UserError } from "../errors.ts";
import type { Rows } from "./windows.ts";

export const NEIGHBOURS = 4;

/** As focalcodec.knn.convert_feats: nearest by cosine, equal ones in the order of the reference. */
export function convertFeats(qfeats: Rows, reference: Rows, k = NEIGHBOURS): Rows {
  const { width } = qfeats;
  const frames = reference.values.length / width;
  if (reference.width !== width || frames < k) {
    throw new UserError(`The other voice has ${frames} frames, fewer than ${k}. Give more speech.`);
  }
  const scales = Float64Array.from({ length: frames }, (_, row) => {
    let sum = 0;
    for (let at = row * width; at < (row + 1) * width; at++) sum += reference.values[at] ** 2;
    return 1 / Math.max(Math.sqrt(sum), 1e-12);
  });
  const values = new Float32Array(qfeats.values.length);
  for (let at = 0; at < values.length; at += width) {
    const rows = nearest(qfeats.values.subarray(at, at + width), reference, scales, k);
    for (let place = 0; place < width; place++) {
      let sum = 0;
      for (const row of rows) sum += reference.values[row * width + place];
      values[at + place] = sum / k;
    }
  }
  return { width, values };
}

/** Rows of the k nearest frames, the best first. */
function nearest(query: Float32Array, reference: Rows, scales: Float64Array, k: number): number[] {
  const rows: number[] = [];
  const cosines: number[] = [];
  for (let row = 0; row < scales.length; row++) {
    let product = 0;
    const first = row * query.length;
    for (let at = 0; at < query.length; at++) product += query[at] * reference.values[first + at];
    const cosine = product * scales[row];
    if (rows.length === k && cosine <= cosines[k - 1]) continue;
    let place = rows.length === k ? k - 1 : rows.length;
    for (; place > 0 && cosines[place - 1] < cosine; place--) {
      rows[place] = rows[place - 1];
      cosines[place] = cosines[place - 1];
    }
    rows[place] = row;
    cosines[place] = cosine;
  }
  return rows;
}
