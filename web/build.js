/** Builds the page into dist/: scripts, the runtime, and what prepare.py wrote into public/. */

import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const dist = here("dist");
const common = {
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none",
  logLevel: "warning",
  conditions: ["onnxruntime-web-use-extern-wasm"],
};

rmSync(dist, { recursive: true, force: true });
mkdirSync(join(dist, "ort"), { recursive: true });
cpSync(here("public"), dist, { recursive: true });
for (const name of ["index.html", "style.css", "icon.svg"]) cpSync(here(name), join(dist, name));
const runtime = "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded";
for (const end of ["mjs", "wasm"]) cpSync(here(`${runtime}.${end}`), join(dist, "ort", `ort-wasm-simd-threaded.${end}`));

const pages = { page: here("src/page/main.ts"), codec: here("src/focalcodec.ts") };
await build({ ...common, entryPoints: pages, outdir: dist, splitting: true, chunkNames: "shared-[hash]" });
const single = { worker: here("src/codec/worker.ts"), capture: here("src/page/capture.ts") };
await build({ ...common, entryPoints: single, outdir: dist });

const files = readdirSync(dist, { recursive: true, withFileTypes: true })
  .filter((each) => each.isFile())
  .map((each) => relative(dist, join(each.parentPath, each.name)).replaceAll("\\", "/"))
  .sort();
const hash = createHash("sha256");
for (const file of files) hash.update(file).update(readFileSync(join(dist, file)));
const kept = files.filter((file) => !file.startsWith("codecs/") && !file.startsWith("ort/"));
await build({
  ...common,
  entryPoints: { sw: here("src/sw.ts") },
  outdir: dist,
  format: "iife",
  define: { VERSION: `"${hash.digest("hex").slice(0, 16)}"`, FILES: JSON.stringify(["./", ...kept]) },
});
