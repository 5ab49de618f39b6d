// llama.cpp, the build that comes with node-llama-cpp, on a decoder: prints one JSON line.
//
// usage: node llama.mjs FOLDER_OF_PACKAGES (vulkan|cpu) MODEL.gguf PROMPT STEPS RUNS

import { cpus } from "node:os";
import { join } from "node:path";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [packages, device, model, ...numbers] = process.argv.slice(2);
const [length, steps, runs] = numbers.map(Number);
const home = join(packages, "node_modules", "node-llama-cpp");
const { version } = JSON.parse(readFileSync(join(home, "package.json")));
const { getLlama } = await import(pathToFileURL(join(home, "dist", "index.js")));

const finish = (report) => {
  process.stdout.write(JSON.stringify(report) + "\n", () => process.reallyExit(0));
};

const load = async () => {
  const vulkan = device === "vulkan";
  const llama = await getLlama({ gpu: vulkan && "vulkan", build: "never", logLevel: "error", vramPadding: 0, ramPadding: 0 });
  const names = await llama.getGpuDeviceNames();
  if (vulkan && names.length === 0) {
    throw new Error("llama.cpp lists no Vulkan device: it would run on the CPU");
  }
  const options = { modelPath: model, gpuLayers: vulkan ? "max" : 0, ignoreMemorySafetyChecks: true };
  const loaded = await llama.loadModel(options);
  const sizes = { contextSize: 256, batchSize: 256, ignoreMemorySafetyChecks: true };
  const context = await loaded.createContext({ ...sizes, threads: cpus().length });
  const about = `llama.cpp ${llama.llamaCppRelease.release} of node-llama-cpp ${version}`;
  const vocab = loaded.fileInfo.metadata.llama.vocab_size;
  return { about, names: vulkan ? names : [], vocab, layers: loaded.gpuLayers, sequence: context.getSequence() };
};

// The most probable tokens that follow, `count` of them.
const follow = async (sequence, tokens, count) => {
  const found = [];
  for await (const token of sequence.evaluate(tokens, { temperature: 0, yieldEogToken: true })) {
    found.push(token);
    if (found.length === count) break;
  }
  return found;
};

const main = async () => {
  const { about, names, vocab, layers, sequence } = await load();
  const prompt = Array.from({ length }, (_, index) => (index * 7919) % vocab);
  const first = await follow(sequence, prompt, 1);
  const started = Number(process.env.PEER_STARTED ?? performance.timeOrigin / 1e3);
  const first_s = Date.now() / 1e3 - started;
  const ms = { prompt: [], decode: [] };
  let decoded = [];
  for (let run = 0; run < runs; run++) {
    await sequence.clearHistory();
    const start = performance.now();
    await follow(sequence, prompt, 1);
    const middle = performance.now();
    decoded = await follow(sequence, [1], steps);
    ms.prompt.push(middle - start);
    ms.decode.push((performance.now() - middle) / steps);
  }
  finish({ about, devices: names, gpu_layers: layers, first_s, ms, tokens: [...first, ...decoded] });
};

main().catch((error) => finish({ error: String(error.message ?? error) }));
