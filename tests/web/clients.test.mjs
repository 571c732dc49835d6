// The daemon as people's programs see it. LLM_MANAGER, LLM_MANAGER_REAL_WORKER: set by ctest.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync, openSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import path from "node:path";
import readline from "node:readline";
import { after, before, describe, test } from "node:test";

import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const QUESTION = [{ role: "user", content: "What is the capital of France?" }];
const cache = path.join(process.env.XDG_CACHE_HOME ?? path.join(homedir(), ".cache"), "llm-manager");

function modelFile(kind, pattern) {
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

let folder, daemon, base, openai, anthropic, model;

before(async () => {
  const llama = modelFile("models", /tinyllama.*\.gguf$/);
  model = path.basename(llama, ".gguf");
  folder = mkdtempSync(path.join(tmpdir(), "lm-web-"));
  mkdirSync(path.join(folder, "models"));
  symlinkSync(llama, path.join(folder, "models", path.basename(llama)));
  symlinkSync(modelFile("models-test", /^tiny-embed\.gguf$/), path.join(folder, "models", "tiny-embed.gguf"));
  writeFileSync(path.join(folder, "llm_config.yaml"), "residency: {keep_alive: forever}\n");
  const errors = openSync(path.join(folder, "stderr.log"), "a");
  daemon = spawn(
    program("LLM_MANAGER"),
    ["serve", "--config", path.join(folder, "llm_config.yaml"), "--data", path.join(folder, "data"),
      "--models", path.join(folder, "models"), "--listen", "127.0.0.1:0"],
    { stdio: ["ignore", "pipe", errors],
      env: { PATH: process.env.PATH, HOME: folder, LLM_MANAGER_WORKER: program("LLM_MANAGER_REAL_WORKER") } });
  for await (const line of readline.createInterface({ input: daemon.stdout })) {
    base = /^listening on (http:\/\/\S+)$/.exec(line)?.[1];
    break;
  }
  assert.ok(base, `the daemon did not start: ${readFileSync(path.join(folder, "stderr.log"), "utf8")}`);
  openai = new OpenAI({ baseURL: `${base}/v1`, apiKey: "none needed", maxRetries: 0 });
  anthropic = new Anthropic({ baseURL: base, apiKey: "none needed", maxRetries: 0 });
});

after(async () => {
  if (daemon) {
    const ended = new Promise((resolve) => daemon.once("exit", (code) => resolve(code)));
    daemon.kill("SIGTERM");
    const code = await ended;
    if (code !== 0) console.log(readFileSync(path.join(folder, "stderr.log"), "utf8"));
    assert.equal(code, 0);
  }
  if (folder) rmSync(folder, { recursive: true });
});

describe("openai", () => {
  test("models.list and retrieve", async () => {
    const ids = [];
    for await (const each of openai.models.list()) ids.push(each.id);
    assert.deepEqual(ids.sort(), ["tiny-embed", model].sort());
    assert.equal((await openai.models.retrieve(model)).id, model);
  });

  test("chat: Paris", async () => {
    const answer = await openai.chat.completions.create({ model, messages: QUESTION, temperature: 0, max_tokens: 24 });
    assert.match(answer.choices[0].message.content, /Paris/);
    assert.equal(answer.model, model);
    assert.ok(answer.usage.completion_tokens > 0);
  });

  test("chat, streaming: Paris, in pieces", async () => {
    const stream = await openai.chat.completions.create(
      { model, messages: QUESTION, temperature: 0, max_tokens: 24, stream: true, stream_options: { include_usage: true } });
    let text = "", pieces = 0, usage;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      pieces += 1;
      usage = chunk.usage ?? usage;
    }
    assert.match(text, /Paris/);
    assert.ok(pieces > 5, `${pieces} pieces`);
    assert.ok(usage.completion_tokens > 0);
  });

  test("a stream that the client ends leaves the model free for the next", async () => {
    const stream = await openai.chat.completions.create(
      { model, messages: [{ role: "user", content: "Tell me a long story." }], max_tokens: 2000, stream: true });
    for await (const chunk of stream) {
      assert.ok(chunk);
      break;
    }
    const answer = await openai.chat.completions.create({ model, messages: QUESTION, temperature: 0, max_tokens: 24 });
    assert.match(answer.choices[0].message.content, /Paris/);
  });

  test("structured output", async () => {
    const schema = { type: "object", properties: { city: { type: "string", enum: ["Paris", "Rome"] } }, required: ["city"],
      additionalProperties: false };
    const answer = await openai.chat.completions.create({ model, messages: QUESTION, temperature: 0, max_tokens: 40,
      response_format: { type: "json_schema", json_schema: { name: "answer", schema, strict: true } } });
    assert.ok(["Paris", "Rome"].includes(JSON.parse(answer.choices[0].message.content).city));
  });

  test("responses", async () => {
    const answer = await openai.responses.create(
      { model, input: "What is the capital of France?", temperature: 0, max_output_tokens: 24 });
    assert.match(answer.output_text, /Paris/);
  });

  test("embeddings", async () => {
    const answer = await openai.embeddings.create({ model: "tiny-embed", input: ["one", "two"] });
    assert.deepEqual(answer.data.map((each) => each.embedding.length), [64, 64]);
    assert.ok(answer.data[0].embedding.every(Number.isFinite));
    assert.ok(answer.data[0].embedding.some((x, i) => x !== answer.data[1].embedding[i]));
  });

  test("errors are of the package's own types", async () => {
    await assert.rejects(openai.chat.completions.create({ model: "tinylama", messages: QUESTION }), (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError, error);
      assert.equal(error.status, 404);
      assert.equal(error.code, "model_not_found");
      assert.equal(error.param, "model");
      assert.match(error.message, /tinyllama/);
      return true;
    });
    await assert.rejects(openai.models.retrieve("nothing"), OpenAI.NotFoundError);
    await assert.rejects(openai.chat.completions.create({ model, messages: "no list" }), OpenAI.BadRequestError);
    await assert.rejects(
      openai.chat.completions.create({ model, messages: QUESTION }, { headers: { "X-Deadline-Ms": "soon" } }), OpenAI.BadRequestError);
  });
});

describe("anthropic", () => {
  test("messages: Paris", async () => {
    const answer = await anthropic.messages.create({ model, max_tokens: 24, temperature: 0, messages: QUESTION });
    assert.equal(answer.type, "message");
    assert.match(answer.content[0].text, /Paris/);
  });

  test("messages, streaming: Paris", async () => {
    const stream = anthropic.messages.stream({ model, max_tokens: 24, temperature: 0, messages: QUESTION });
    let text = "";
    stream.on("text", (piece) => { text += piece; });
    const answer = await stream.finalMessage();
    assert.match(text, /Paris/);
    assert.equal(answer.content[0].text, text);
    assert.ok(answer.usage.output_tokens > 0);
  });

  test("errors are of the package's own types", async () => {
    await assert.rejects(anthropic.messages.create({ model: "nothing", max_tokens: 2, messages: QUESTION }), (error) => {
      assert.ok(error instanceof Anthropic.NotFoundError, error);
      assert.equal(error.error.error.type, "not_found_error");
      return true;
    });
  });
});
