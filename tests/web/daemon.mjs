// A daemon of its own for a test file: its models, its configuration, its end.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import path from "node:path";
import readline from "node:readline";

const cache = path.join(process.env.XDG_CACHE_HOME ?? path.join(homedir(), ".cache"), "llm-manager");

// The first file of the cache's folder `kind` that is named so.
export function modelFile(kind, pattern) {
  const folder = path.join(cache, kind);
  const found = existsSync(folder) ? readdirSync(folder).filter((name) => pattern.test(name)) : [];
  assert.ok(found.length > 0, `no model like ${pattern} in ${folder}: run scripts/bootstrap --test-models`);
  return path.join(folder, found[0]);
}

function program(variable) {
  const file = process.env[variable];
  assert.ok(file && existsSync(file), `${variable} names no program: run these tests by ctest`);
  return file;
}

// The first line that a child prints; what it prints after that is read away.
export async function listening(child) {
  for await (const line of readline.createInterface({ input: child.stdout })) {
    child.stdout.resume();
    return /^listening on (http:\/\/\S+)$/.exec(line)?.[1];
  }
  return undefined;
}

// TinyLlama as `model` and a small embedding model, with the real engine. `environment`: more of it for the daemon.
// `fake`: the lines of a model for the fake worker, which is then `model` instead, and all that there is.
export async function startDaemon(configuration, environment = {}, fake = undefined) {
  const llama = fake === undefined ? modelFile("models", /tinyllama.*\.gguf$/) : "fake.gguf";
  const folder = mkdtempSync(path.join(tmpdir(), "lm-web-"));
  const log = path.join(folder, "stderr.log");
  mkdirSync(path.join(folder, "models"));
  if (fake === undefined) {
    symlinkSync(llama, path.join(folder, "models", path.basename(llama)));
    symlinkSync(modelFile("models-test", /^tiny-embed\.gguf$/), path.join(folder, "models", "tiny-embed.gguf"));
  } else {
    writeFileSync(path.join(folder, "models", llama), fake);
  }
  writeFileSync(path.join(folder, "llm_config.yaml"), configuration);
  let child;
  async function launch(address) {
    child = spawn(
      program("LLM_MANAGER"),
      ["serve", "--config", path.join(folder, "llm_config.yaml"), "--data", path.join(folder, "data"),
        "--models", path.join(folder, "models"), "--listen", address],
      { stdio: ["ignore", "pipe", openSync(log, "a")],
        env: { PATH: process.env.PATH, HOME: folder, LLM_MANAGER_WORKER: program(fake === undefined ? "LLM_MANAGER_REAL_WORKER" : "LLM_MANAGER_FAKE_WORKER"), ...environment } });
    const base = await listening(child);
    assert.ok(base, `the daemon did not start: ${readFileSync(log, "utf8")}`);
    return base;
  }
  async function end() {
    const ended = new Promise((resolve) => child.once("exit", (code) => resolve(code)));
    child.kill("SIGTERM");
    const code = await ended;
    if (code !== 0) console.log(readFileSync(log, "utf8"));
    assert.equal(code, 0);
  }
  const base = await launch("127.0.0.1:0");
  return {
    base,
    model: path.basename(llama, ".gguf"),
    pid: () => child.pid,
    // Down until `again`, which is at the same address.
    down: end,
    again: () => launch(new URL(base).host),
    async stop() {
      await end();
      rmSync(folder, { recursive: true });
    },
  };
}
