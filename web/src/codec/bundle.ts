/** The folder that `focalcodec export CODEC FOLDER --format onnx` makes: onnx.json and graphs. */

import { UserError } from "../errors.ts";
import type { WindowPlan } from "./windows.ts";

export const GRAPHS = ["encoder", "decompressor", "decoder"] as const;
export type GraphName = (typeof GRAPHS)[number];

interface GraphFile {
  file: string;
  bytes: number;
  sha256: string;
}

/** A step of a stream: `chunk` items, and rings of frames that are its state. */
export interface StepFile extends GraphFile {
  chunk: number;
  rings: { ring: string; new: string; shape: number[]; frames: number }[];
}

/** What onnx.json says of a codec. */
export interface About {
  format: string;
  format_version: number;
  opset: number;
  model: string;
  weights_sha256: string;
  sample_rate_input: number;
  sample_rate_output: number;
  hop_length: number; // samples of the input for each token
  factor: number; // frames of feats for each token
  decoder_hop: number; // samples of the output for each frame
  bits_per_token: number;
  dim: number; // values of a frame
  graphs: Record<GraphName, GraphFile> & { encoder_step?: StepFile }; // of causal codecs
}

/** Windows of long recordings, in frames of feats, and of the decompressor in tokens. */
export interface Plans {
  encode: WindowPlan;
  feats: WindowPlan;
  decompress: WindowPlan;
  fade: number; // tokens over which two windows are cross-faded
  decode: WindowPlan;
}

/** A line of codecs.json, which the build writes. */
export interface CodecEntry {
  name: string;
  title: string;
  folder: string;
  bytes: number; // of all graphs
  plans: Plans;
}

export interface Bundle {
  about: About;
  graphs: Record<GraphName, Uint8Array<ArrayBuffer>>;
  step: Uint8Array<ArrayBuffer> | null; // encoder_step
}

const NUMBERS = ["opset", "sample_rate_input", "sample_rate_output", "hop_length", "factor"] as const;
const MORE_NUMBERS = ["decoder_hop", "bits_per_token", "dim"] as const;
const LATEST_OPSET = 23; // of the onnxruntime-web that is built in

/** Fetch and check a bundle; `progress` is given the part that has arrived. */
export async function fetchBundle(
  folder: URL,
  progress: (part: number) => void = () => {},
): Promise<Bundle> {
  const about = checkAbout(await fetchJson(new URL("onnx.json", folder)), folder);
  const named = GRAPHS.map((name) => about.graphs[name]);
  const { encoder_step: step } = about.graphs;
  const wanted = step ? [...named, step] : named;
  const total = wanted.reduce((sum, { bytes }) => sum + bytes, 0);
  let arrived = 0;
  const count = (bytes: number) => progress(Math.min(1, (arrived += bytes) / total));
  const files = await Promise.all(wanted.map((graph) => fetchGraph(folder, graph, count)));
  const [encoder, decompressor, decoder, last = null] = files;
  return { about, graphs: { encoder, decompressor, decoder }, step: last };
}

/** Check what onnx.json says. */
export function checkAbout(given: unknown, folder: URL): About {
  const about = given as About;
  const where = `The codec in ${folder.pathname}`;
  if (about?.format !== "focalcodec-onnx") throw new UserError(`${where} is of another format.`);
  if (about.format_version !== 1) {
    throw new UserError(`${where} has version ${about.format_version}; this page reads version 1.`);
  }
  const wrong = [...NUMBERS, ...MORE_NUMBERS].find(
    (name) => !Number.isInteger(about[name]) || about[name] < 1,
  );
  const graphs: Partial<About["graphs"]> = about.graphs ?? {};
  const isFile = (graph?: GraphFile) => /^[^/\\]+$/.test(graph?.file ?? "");
  const { encoder_step: step } = graphs;
  const isStep = !step || (isFile(step) && step.chunk >= 1 && Array.isArray(step.rings));
  const missing = GRAPHS.find((name) => !isFile(graphs[name])) ?? (isStep ? null : "encoder_step");
  if (wrong || missing || !/^[0-9a-f]{64}$/.test(about.weights_sha256)) {
    throw new UserError(`${where} is damaged: ${wrong ?? missing ?? "weights_sha256"} is wrong.`);
  }
  if (about.opset > LATEST_OPSET) {
    throw new UserError(`${where} has opset ${about.opset}; this page runs up to ${LATEST_OPSET}.`);
  }
  return about;
}

async function fetchGraph(folder: URL, graph: GraphFile, count: (bytes: number) => void) {
  const response = await fetchFile(new URL(graph.file, folder));
  const data = new Uint8Array(graph.bytes);
  let size = 0;
  const reader = response.body!.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    if (size + part.value.length <= data.length) data.set(part.value, size);
    size += part.value.length;
    count(part.value.length);
  }
  // without a secure context (http of another machine) browsers compute no hash
  const hash = crypto.subtle ? await sha256(data) : graph.sha256;
  if (size !== graph.bytes || hash !== graph.sha256) {
    throw new UserError(`${graph.file} of the codec is damaged or not complete. Reload the page.`);
  }
  return data;
}

async function sha256(data: Uint8Array<ArrayBuffer>): Promise<string> {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Fetch JSON of this site. */
export async function fetchJson(url: URL): Promise<unknown> {
  const response = await fetchFile(url);
  try {
    return await response.json();
  } catch {
    throw new UserError(`${url.pathname} is damaged. Reload the page.`);
  }
}

async function fetchFile(url: URL): Promise<Response> {
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) {
    const why = response ? `the server says ${response.status}` : "there is no connection";
    throw new UserError(`${url.pathname} can't be loaded: ${why}. Check the connection and reload.`);
  }
  return response;
}
