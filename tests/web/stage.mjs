// What the dashboard is looked at with: a daemon with a real model, stand-ins for Ollama and for a hub of models, and a
// browser. Variables: those of daemon.mjs, FAKE_OLLAMA, FAKE_HUB, PYTHON; CHROMIUM where it is not Debian's.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";

import { chromium } from "playwright-core";

import { listening, modelFile, startDaemon } from "./daemon.mjs";

async function standIn(file, ...options) {
  const child = spawn(process.env.PYTHON ?? "python3", [file, ...options], { stdio: ["ignore", "pipe", "inherit"] });
  const url = await listening(child);
  assert.ok(url, `${file} did not start`);
  return {
    url,
    async stop() {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      if (child.exitCode === null && child.signalCode === null && child.kill("SIGTERM")) await ended;
    },
  };
}

export async function openBrowser() {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  assert.ok(existsSync(executablePath), `there is no ${executablePath}: run scripts/bootstrap --browser`);
  // Tests run as root in containers, where Chromium's own sandbox does not.
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
}

const modelName = path.basename(modelFile("models", /tinyllama.*\.gguf$/), ".gguf");

// Everything that there is to see; `rate`: bytes a second and connection of the hub.
export async function setStage({ rate = 400_000, configuration = "" } = {}) {
  const parts = [];
  const stop = async () => {
    for (const part of parts.reverse()) await part.stop();
  };
  try {
    const ollama = await standIn(process.env.FAKE_OLLAMA, "--model", "qwen-a,memory=64M,family=qwen3", "--model", "qwen-b,memory=32M,family=qwen3");
    parts.push(ollama);
    const hub = await standIn(process.env.FAKE_HUB, "--repository", "example/tiny-GGUF",
      "--file", modelFile("models-test", /^tiny-chat\.gguf$/), "--rate", String(rate));
    parts.push(hub);
    // It says the same each time, and not for ever.
    const daemon = await startDaemon(
      "residency: {keep_alive: 30min}\n" +
      `models: {llm: {model_path: ${modelName}, temperature: 0, max_tokens: 300}}\n` +
      `ollama: {url: "${ollama.url}"}\n${configuration}`,
      { HF_ENDPOINT: hub.url, LLM_MANAGER_TEST_USER_KEY: "user-key-of-the-test", LLM_MANAGER_TEST_ADMIN_KEY: "admin-key-of-the-test" });
    parts.push(daemon);
    const browser = await openBrowser();
    parts.push({ stop: () => browser.close() });
    return { ollama, hub, daemon, browser, model: "llm", stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
