// The stand-in for Ollama as Ollama's own client sees it. FAKE_OLLAMA, PYTHON: set by ctest.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import readline from "node:readline";
import { after, before, describe, test } from "node:test";

import { Ollama } from "ollama";

const MESSAGES = [{ role: "user", content: "What is the capital of France?" }];
let server, base, ollama;

async function lies(liar) {
  await fetch(`${base}/_test`, { method: "POST", body: JSON.stringify({ liar }) });
}

// Until a condition holds; the stand-in has no events to wait for, as the real one has none.
async function until(what, condition) {
  for (const end = Date.now() + 20_000; Date.now() < end;) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(`${what}: not within 20 s`);
}

async function loaded() {
  return (await ollama.ps()).models.map((each) => each.name);
}

before(async () => {
  server = spawn(process.env.PYTHON, [process.env.FAKE_OLLAMA], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of readline.createInterface({ input: server.stdout })) {
    base = /^listening on (http:\/\/\S+)$/.exec(line)?.[1];
    break;
  }
  assert.ok(base, "the stand-in did not start");
  ollama = new Ollama({ host: base });
});

after(async () => {
  const ended = new Promise((resolve) => server.once("exit", resolve));
  server.kill("SIGTERM");
  await ended;
});

describe("as the real one", () => {
  test("version, list, show", async () => {
    assert.equal((await ollama.version()).version, "0.33.0");
    const { models } = await ollama.list();
    assert.deepEqual(models.map((each) => each.name).sort(),
      ["minilm:latest", "qwen-a:latest", "qwen-b:latest", "tinyllama:latest"]);
    assert.deepEqual(models.find((each) => each.name === "minilm:latest").capabilities, ["embedding"]);
    const shown = await ollama.show({ model: "tinyllama" });
    assert.deepEqual(shown.capabilities, ["completion"]);
    assert.equal(shown.details.quantization_level, "IQ2_XXS");
  });

  test("chat", async () => {
    const answer = await ollama.chat({ model: "tinyllama", messages: MESSAGES });
    assert.match(answer.message.content, /Paris/);
    assert.equal(answer.done_reason, "stop");
    assert.ok(answer.eval_count > 0);
    const { models: [resident] } = await ollama.ps();
    assert.equal(resident.name, "tinyllama:latest");
    assert.ok(resident.size > 0);
    assert.ok(new Date(resident.expires_at) > new Date());
  });

  test("chat, streaming", async () => {
    let text = "", pieces = 0, last;
    for await (const part of await ollama.chat({ model: "tinyllama", messages: MESSAGES, stream: true })) {
      text += part.message.content;
      pieces += 1;
      last = part;
    }
    assert.match(text, /Paris/);
    assert.ok(pieces > 5, `${pieces} pieces`);
    assert.equal(last.done, true);
  });

  test("generate, cut at num_predict", async () => {
    const answer = await ollama.generate({ model: "tinyllama", prompt: "Hello", options: { num_predict: 4 } });
    assert.equal(answer.eval_count, 4);
    assert.equal(answer.done_reason, "length");
    assert.ok(answer.context.length > 0);
  });

  test("embed and embeddings", async () => {
    const answer = await ollama.embed({ model: "minilm", input: ["one", "two"] });
    assert.equal(answer.embeddings.length, 2);
    assert.notDeepEqual(answer.embeddings[0], answer.embeddings[1]);
    const one = await ollama.embeddings({ model: "minilm", prompt: "one" });
    assert.deepEqual(one.embedding, answer.embeddings[0]);
    assert.deepEqual((await loaded()).sort(), ["minilm:latest", "tinyllama:latest"]);
  });

  test("one generation model at a time, unloading, keep_alive", async () => {
    await ollama.chat({ model: "qwen-a", messages: MESSAGES });
    assert.deepEqual((await loaded()).filter((name) => name !== "minilm:latest"), ["qwen-a:latest"]);
    assert.equal((await ollama.generate({ model: "qwen-a", prompt: "", keep_alive: -1 })).done_reason, "load");
    const resident = (await ollama.ps()).models.find((each) => each.name === "qwen-a:latest");
    assert.equal(new Date(resident.expires_at).getUTCFullYear(), 2319);
    assert.equal((await ollama.generate({ model: "qwen-a", prompt: "", keep_alive: 0 })).done_reason, "unload");
    await until("unloaded", async () => !(await loaded()).includes("qwen-a:latest"));
    await ollama.generate({ model: "qwen-a", prompt: "", keep_alive: "50ms" });
    await until("expired", async () => !(await loaded()).includes("qwen-a:latest"));
  });

  test("a busy model stays listed until its answer ends", async () => {
    const stream = await ollama.chat({ model: "tinyllama", messages: [{ role: "user", content: "Tell a story." }],
      stream: true, options: { num_predict: 200 } });
    let pieces = 0;
    for await (const part of stream) {
      pieces += 1;
      if (pieces === 1) {
        await ollama.generate({ model: "tinyllama", prompt: "", keep_alive: 0 });
        const { models } = await ollama.ps();
        const resident = models.find((each) => each.name === "tinyllama:latest");
        assert.ok(new Date(resident.expires_at) <= new Date());
      }
      if (part.done) break;
    }
    assert.equal(pieces, 201);
    await until("unloaded", async () => !(await loaded()).includes("tinyllama:latest"));
  });

  test("errors", async () => {
    const refused = (status, message) => (error) => {
      assert.equal(error.name, "ResponseError");
      assert.equal(error.status_code, status);
      assert.equal(error.message, message);
      return true;
    };
    await assert.rejects(ollama.chat({ model: "nope", messages: MESSAGES }), refused(404, "model 'nope' not found"));
    await assert.rejects(ollama.show({ model: "nope" }), refused(404, "model 'nope:latest' not found"));
    await assert.rejects(ollama.chat({ model: "minilm", messages: MESSAGES }),
      refused(400, '"minilm" does not support chat'));
    await assert.rejects(ollama.generate({ model: "tinyllama", prompt: "x", keep_alive: "xyz" }),
      refused(400, 'time: invalid duration "xyz"'));
  });
});

describe("as a liar", () => {
  test("the memory stays after the unload", async () => {
    await ollama.chat({ model: "tinyllama", messages: MESSAGES });
    await lies({ keeps_memory: "hidden" });
    await ollama.generate({ model: "tinyllama", prompt: "", keep_alive: 0 });
    await until("hidden", async () => !(await loaded()).includes("tinyllama:latest"));
    const { children } = await (await fetch(`${base}/_test`)).json();
    assert.ok(children.length > (await loaded()).length);
    await lies({});
  });

  test("500s and garbage are errors of the client's", async () => {
    await lies({ status: 500, on: ["/api/chat"] });
    await assert.rejects(ollama.chat({ model: "tinyllama", messages: MESSAGES }), { status_code: 500 });
    await lies({ garbage: "html", on: ["/api/ps"] });
    await assert.rejects(ollama.ps());
    await lies({});
    assert.ok(Array.isArray((await ollama.ps()).models));
  });

  test("it dies in the middle of a stream", async () => {
    await lies({ dies_in: "stream" });
    await assert.rejects(async () => {
      for await (const part of await ollama.chat({ model: "tinyllama", messages: MESSAGES, stream: true }))
        assert.ok(!part.done);
    });
    await until("dead", async () => server.exitCode !== null);
    assert.equal(server.exitCode, 134);
  });
});
