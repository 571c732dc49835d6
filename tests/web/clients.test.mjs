// The daemon as people's programs see it. LLM_MANAGER, LLM_MANAGER_REAL_WORKER: set by ctest.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

import { startDaemon } from "./daemon.mjs";

const QUESTION = [{ role: "user", content: "What is the capital of France?" }];
let daemon, openai, anthropic, model;

before(async () => {
  daemon = await startDaemon("residency: {keep_alive: forever}\n");
  model = daemon.model;
  openai = new OpenAI({ baseURL: `${daemon.base}/v1`, apiKey: "none needed", maxRetries: 0 });
  anthropic = new Anthropic({ baseURL: daemon.base, apiKey: "none needed", maxRetries: 0 });
});

after(() => daemon?.stop());

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
