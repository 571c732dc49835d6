// The daemon as Ollama's own client sees it: a real local model, and the stand-in for Ollama behind the daemon.
// LLM_MANAGER, LLM_MANAGER_REAL_WORKER, FAKE_OLLAMA, PYTHON: set by ctest.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, describe, test } from "node:test";

import { Ollama } from "ollama";

import { listening, startDaemon } from "./daemon.mjs";

const MESSAGES = [{ role: "user", content: "What is the capital of France?" }];
const COLD = { temperature: 0, num_predict: 24 };
const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
let upstream, behind, daemon, ollama, model;

async function api(path, body) {
  const response = await fetch(daemon.base + path, body && { method: "POST", body: JSON.stringify(body) });
  return response.json();
}

const refused = (status, message) => (error) => {
  assert.equal(error.name, "ResponseError", error);
  assert.equal(error.status_code, status);
  assert.match(error.message, message);
  return true;
};

// Until a condition holds; Ollama's API has no events to wait for.
async function until(what, condition) {
  for (const end = Date.now() + 20_000; Date.now() < end;) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(`${what}: not within 20 s`);
}

async function resident(name) {
  return (await ollama.ps()).models.find((each) => each.name === name);
}

async function collected(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return { parts, last: parts.at(-1), text: parts.map((each) => each.message?.content ?? each.response).join("") };
}

before(async () => {
  behind = spawn(process.env.PYTHON, [process.env.FAKE_OLLAMA, "--model", "qwen-a,memory=16M", "--model", "minilm,memory=8M,kind=embedding"],
    { stdio: ["ignore", "pipe", "inherit"] });
  upstream = await listening(behind);
  assert.ok(upstream, "the stand-in did not start");
  daemon = await startDaemon(`residency: {keep_alive: 10min}\nollama: {url: "${upstream}"}\n`);
  model = daemon.model;
  ollama = new Ollama({ host: daemon.base });
});

after(async () => {
  await daemon?.stop();
  const ended = new Promise((resolve) => behind.once("exit", resolve));
  if (behind.exitCode === null && behind.kill("SIGTERM")) await ended;
});

describe("a local model", () => {
  test("what there is", async () => {
    assert.match((await ollama.version()).version, /^\d+\.\d+\.\d+$/);
    assert.equal(await (await fetch(daemon.base)).text(), "Ollama is running");
    assert.equal((await fetch(daemon.base, { method: "HEAD" })).status, 200);
    const { models } = await ollama.list();
    assert.deepEqual(models.map((each) => each.name).sort(), ["minilm:latest", "qwen-a:latest", "tiny-embed", model].sort());
    const listed = models.find((each) => each.name === model);
    assert.equal(listed.model, model);
    assert.ok(listed.size > 3e8);
    assert.match(listed.digest, /^[0-9a-f]{64}$/);
    assert.ok(new Date(listed.modified_at) < new Date());
    assert.deepEqual(listed.capabilities, ["completion"]);
    assert.deepEqual(models.find((each) => each.name === "tiny-embed").capabilities, ["embedding"]);
    assert.equal(new Set(models.map((each) => each.digest)).size, models.length);
  });

  test("show", async () => {
    const shown = await ollama.show({ model: `${model}:latest` });
    assert.equal(shown.details.format, "gguf");
    assert.equal(shown.details.family, "llama");
    assert.equal(shown.details.parameter_size, "1.1B");
    assert.match(shown.details.quantization_level, /IQ2_XXS/);
    assert.equal(shown.model_info["llama.context_length"], 2048);
    assert.ok(shown.capabilities.includes("completion"));
    assert.match(shown.template, /<\|user\|>/);
  });

  test("load by asking nothing, and chat", async () => {
    const loaded = await ollama.chat({ model, messages: [] });
    assert.equal(loaded.done_reason, "load");
    assert.deepEqual(loaded.message, { role: "assistant", content: "" });
    assert.equal(loaded.total_duration, undefined);
    const answer = await ollama.chat({ model, messages: MESSAGES, options: COLD });
    assert.match(answer.message.content, /Paris/);
    assert.equal(answer.message.role, "assistant");
    assert.equal(answer.model, model);
    assert.equal(answer.done, true);
    assert.ok(["stop", "length"].includes(answer.done_reason));
    for (const figure of ["total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"])
      assert.ok(answer[figure] >= 0, figure);
    assert.ok(answer.eval_count > 5 && answer.prompt_eval_count > 10);
    assert.ok(answer.total_duration >= answer.eval_duration);
    const shown = await resident(model);
    assert.ok(shown.size > 1e7);
    assert.equal(shown.size_vram, 0);
    assert.ok(new Date(shown.expires_at) > new Date());
  });

  test("chat, streaming", async () => {
    const { parts, text, last } = await collected(await ollama.chat({ model, messages: MESSAGES, options: COLD, stream: true }));
    assert.match(text, /Paris/);
    assert.ok(parts.length > 5, `${parts.length} parts`);
    assert.ok(parts.slice(0, -1).every((part) => part.done === false && part.done_reason === undefined));
    assert.equal(last.done, true);
    assert.equal(last.message.content, "");
    assert.ok(last.eval_count > 5);
  });

  test("streaming is what is meant where nothing is said", async () => {
    const response = await fetch(`${daemon.base}/api/chat`, { method: "POST", body: JSON.stringify({ model, messages: MESSAGES, options: { num_predict: 2 } }) });
    assert.equal(response.headers.get("content-type"), "application/x-ndjson");
    const lines = (await response.text()).split("\n");
    assert.equal(lines.pop(), "", "the last line has its end");
    assert.equal(JSON.parse(lines.at(-1)).done_reason, "length");
    assert.equal(JSON.parse(lines.at(-1)).eval_count, 2);
  });

  test("the same seed says the same, stop stops, and what is ignored is named", async () => {
    const ask = (options) => ollama.generate({ model, prompt: "Name a colour.", options: { num_predict: 12, ...options } });
    const [one, two] = [await ask({ seed: 7, temperature: 1 }), await ask({ seed: 7, temperature: 1 })];
    assert.equal(one.response, two.response);
    const stopped = await ollama.chat({ model, messages: MESSAGES, options: { ...COLD, stop: ["Paris"] } });
    assert.doesNotMatch(stopped.message.content, /Paris/);
    assert.equal(stopped.done_reason, "stop");
    const response = await fetch(`${daemon.base}/api/generate`, { method: "POST",
      body: JSON.stringify({ model, prompt: "Hi", stream: false, options: { num_predict: 1, num_ctx: 4096, top_k: 3 } }) });
    assert.equal(response.headers.get("x-ignored-options"), "num_ctx");
  });

  test("generate, with a system prompt, and raw", async () => {
    const answer = await ollama.generate({ model, prompt: MESSAGES[0].content, system: "Answer in one sentence.", options: COLD });
    assert.match(answer.response, /Paris/);
    assert.equal(answer.context, undefined);
    const { text, last } = await collected(await ollama.generate(
      { model, prompt: "Paris is the capital of", raw: true, stream: true, options: { temperature: 0, num_predict: 2 } }));
    const completed = await (await fetch(`${daemon.base}/v1/completions`, { method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ model, prompt: "Paris is the capital of", temperature: 0, max_tokens: 2 }) })).json();
    assert.equal(text, completed.choices[0].text, "the bare prompt, as a completion has it");
    assert.equal(last.done_reason, "length");
    assert.equal(last.prompt_eval_count < answer.prompt_eval_count, true, "no template around it");
  });

  test("a stream that the client ends leaves the model free for the next", async () => {
    const stream = await ollama.chat({ model, messages: [{ role: "user", content: "Tell me a long story." }], options: { num_predict: 1500 }, stream: true });
    let aborted;
    try {
      for await (const part of stream) {
        assert.ok(part);
        stream.abort();
      }
    } catch (error) {
      aborted = error.name;
    }
    assert.equal(aborted, "AbortError");
    await until("free", async () => (await api("/api/v1/instances")).instances.every((each) => each.active === 0));
  });

  test("format: a schema", async () => {
    const schema = { type: "object", properties: { city: { type: "string", enum: ["Paris", "Rome"] } }, required: ["city"] };
    const answer = await ollama.chat({ model, messages: MESSAGES, format: schema, options: { temperature: 0, num_predict: 40 } });
    assert.ok(["Paris", "Rome"].includes(JSON.parse(answer.message.content).city));
    await assert.rejects(ollama.chat({ model, messages: MESSAGES, format: "xml" }), refused(400, /invalid format/));
  });

  test("tools: a conversation with a call and its result", async () => {
    const tools = [{ type: "function", function: { name: "weather", description: "The weather in a city",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } } }];
    const answer = await ollama.chat({ model, tools, options: COLD, messages: [
      { role: "user", content: "How is the weather in Rome?" },
      { role: "assistant", content: "", tool_calls: [{ function: { name: "weather", arguments: { city: "Rome" } } }] },
      { role: "tool", tool_name: "weather", content: "sunny, 25 degrees" }] });
    assert.equal(answer.done, true);
    assert.equal(typeof answer.message.content, "string");
    for (const call of answer.message.tool_calls ?? []) assert.equal(typeof call.function.arguments, "object");
  });

  test("think, on a model that does not", async () => {
    for (const think of [true, false, "low"]) {
      const answer = await ollama.chat({ model, messages: MESSAGES, think, options: COLD });
      assert.match(answer.message.content, /Paris/);
    }
  });

  test("pictures for a model without eyes", async () => {
    await assert.rejects(ollama.chat({ model, messages: [{ role: "user", content: "What is this?", images: [PNG] }] }),
      refused(400, /does not support vision/));
    await assert.rejects(ollama.generate({ model, prompt: "What is this?", images: [PNG] }), refused(400, /does not support vision/));
  });

  test("embed and embeddings", async () => {
    const answer = await ollama.embed({ model: "tiny-embed", input: ["one", "two"] });
    assert.deepEqual(answer.embeddings.map((each) => each.length), [64, 64]);
    assert.notDeepEqual(answer.embeddings[0], answer.embeddings[1]);
    assert.ok(answer.prompt_eval_count > 0);
    const { embedding } = await ollama.embeddings({ model: "tiny-embed", prompt: "one" });
    embedding.forEach((x, i) => assert.ok(Math.abs(x - answer.embeddings[0][i]) < 1e-4));
    const short = await ollama.embed({ model: "tiny-embed", input: "one", dimensions: 8 });
    assert.equal(short.embeddings[0].length, 8);
    assert.ok(Math.abs(short.embeddings[0].reduce((sum, x) => sum + x * x, 0) - 1) < 1e-3);
    assert.deepEqual((await ollama.embed({ model: "tiny-embed", input: [] })).embeddings, []);
  });

  test("keep_alive", async () => {
    await ollama.generate({ model, prompt: "", keep_alive: -1 });
    await until("for ever", async () => new Date((await resident(model)).expires_at).getUTCFullYear() > 2300);
    await ollama.chat({ model, messages: MESSAGES, options: { num_predict: 1 }, keep_alive: "5m" });
    await until("five minutes", async () => new Date((await resident(model)).expires_at) < Date.now() + 301_000);
    const told = await ollama.generate({ model, prompt: "", keep_alive: 0 });
    assert.equal(told.done_reason, "unload");
    await until("unloaded", async () => !(await resident(model)));
    assert.equal((await ollama.chat({ model, messages: [], keep_alive: 0 })).done_reason, "unload", "of the unloaded, too");
    assert.equal(await resident(model), undefined, "nothing is loaded for that");

    await api("/api/v1/models/pin", { model });
    await until("pinned", async () => await resident(model));
    await ollama.chat({ model, messages: MESSAGES, options: { num_predict: 1 }, keep_alive: 0 });
    await ollama.generate({ model, prompt: "", keep_alive: 0 });
    assert.match((await ollama.chat({ model, messages: MESSAGES, options: COLD })).message.content, /Paris/);
    const { instances } = await api("/api/v1/instances");
    assert.equal(instances.find((each) => each.model === model).state, "ready");
    await api("/api/v1/models/unpin", { model });
    await until("unloaded, no longer pinned", async () => !(await resident(model)));
  });

  test("errors", async () => {
    await assert.rejects(ollama.chat({ model: "nope", messages: MESSAGES }), refused(404, /^model 'nope' not found/));
    await assert.rejects(ollama.chat({ model: "nope", messages: MESSAGES, stream: true }), refused(404, /^model 'nope' not found/));
    await assert.rejects(ollama.show({ model: "nope" }), refused(404, /^model 'nope' not found/));
    await assert.rejects(ollama.delete({ model: "nope" }), refused(404, /^model 'nope' not found/));
    await assert.rejects(ollama.chat({ model: "tiny-embed", messages: MESSAGES }), refused(400, /^"tiny-embed" does not support chat$/));
    await assert.rejects(ollama.embed({ model, input: "x" }), refused(400, /does not support embeddings/));
    await assert.rejects(ollama.generate({ model, prompt: "x", keep_alive: "xyz" }), refused(400, /^time: invalid duration "xyz"$/));
    await assert.rejects(ollama.chat({ messages: MESSAGES }), refused(400, /^model is required$/));
    await assert.rejects(ollama.generate({ model, prompt: "a", suffix: "b" }), refused(400, /does not support insert/));
    await assert.rejects(ollama.chat({ model, messages: [{ role: "user", content: "word ".repeat(5000) }] }), refused(400, /context/));
    await assert.rejects(ollama.chat({ model, messages: [{ role: "user", content: "word ".repeat(5000) }], stream: true }), refused(400, /context/));
    await assert.rejects(ollama.create({ model: "x", from: model }), refused(501, /configuration/));
    await assert.rejects(ollama.copy({ source: model, destination: "x" }), refused(501, /configuration/));
    await assert.rejects(ollama.push({ model }), refused(501, /pulled here/));
    await assert.rejects(ollama.delete({ model }), (error) => [403, 409].includes(error.status_code), "it was never pulled");
    await assert.rejects(ollama.pull({ model: "hf:nonsense" }), refused(400, /./));
    const get = await fetch(`${daemon.base}/api/chat`);
    assert.equal(get.status, 405);
    assert.equal(typeof (await get.json()).error, "string");
    const bad = await fetch(`${daemon.base}/api/chat`, { method: "POST", body: "{bad" });
    assert.equal(bad.status, 400);
    assert.match((await bad.json()).error, /JSON/);
  });

  test("a model that is held says so at once, and keep_alive loads nothing", async () => {
    await api("/api/v1/models/unload", { model, hold: true });
    await assert.rejects(ollama.chat({ model, messages: MESSAGES }), refused(503, /kept unloaded/));
    await assert.rejects(ollama.chat({ model, messages: MESSAGES, stream: true }), refused(503, /kept unloaded/));
    await assert.rejects(ollama.generate({ model, prompt: "" }), refused(503, /kept unloaded/));
    await api("/api/v1/models/load", { model });
  });
});

describe("an Ollama behind the daemon", () => {
  test("its models answer under their own names, and the local one makes room", async () => {
    await ollama.generate({ model, prompt: "" });
    assert.ok(await resident(model));
    const answer = await ollama.chat({ model: "qwen-a", messages: MESSAGES });
    assert.match(answer.message.content, /Paris/);
    assert.ok(answer.eval_count > 0);
    assert.equal(await resident(model), undefined);
    await until("listed", async () => await resident("qwen-a:latest"));
    const { text, last } = await collected(await ollama.chat({ model: "qwen-a", messages: MESSAGES, stream: true }));
    assert.match(text, /Paris/);
    assert.equal(last.done, true);
    assert.equal((await ollama.show({ model: "qwen-a" })).details.format, "gguf");
  });

  test("its embeddings, its errors", async () => {
    const answer = await ollama.embed({ model: "minilm", input: ["one", "two"] });
    assert.equal(answer.embeddings.length, 2);
    await assert.rejects(ollama.chat({ model: "minilm", messages: MESSAGES }), refused(400, /does not support chat/));
  });

  test("keep_alive is passed on, and unloading moves no other model", async () => {
    assert.equal((await ollama.generate({ model: "qwen-a", prompt: "", keep_alive: 0 })).done_reason, "unload");
    await until("gone there", async () => !(await (await fetch(`${upstream}/api/ps`)).json()).models.some((each) => each.name === "qwen-a:latest"));
    await ollama.generate({ model, prompt: "" });
    const before = (await api("/api/v1/switches")).switches.length;
    assert.equal((await ollama.chat({ model: "qwen-a", messages: [], keep_alive: 0 })).done_reason, "unload");
    assert.ok(await resident(model), "the local model stays");
    assert.equal((await api("/api/v1/switches")).switches.length, before);
  });

  test("a stream that breaks off ends with an error", async () => {
    await ollama.generate({ model: "qwen-a", prompt: "" });
    await fetch(`${upstream}/_test`, { method: "POST", body: JSON.stringify({ liar: { dies_in: "stream" } }) });
    const stream = await ollama.chat({ model: "qwen-a", messages: MESSAGES, stream: true });
    await assert.rejects(collected(stream), /did not answer/);
  });
});
