// The daemon as pages with Socket.IO see it: the real client, TinyLlama. LLM_MANAGER, LLM_MANAGER_REAL_WORKER: set by ctest.
import assert from "node:assert/strict";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { io } from "socket.io-client";

import { modelFile, startDaemon } from "./daemon.mjs";

const PATIENCE_MS = 60_000;
const QUESTION = "What is the capital of France? Answer in one short sentence.";
let daemon;
const open = [];

before(async () => {
  const name = path.basename(modelFile("models", /tinyllama.*\.gguf$/), ".gguf");
  daemon = await startDaemon(
    `residency: {keep_alive: forever}\nmodels: {llm: {model_path: ${name}, temperature: 0, max_tokens: 48}}\n`);
});

after(async () => {
  for (const socket of open) socket.disconnect();
  await daemon?.stop();
});

// A client that is connected.
async function connect(space = "/", options = {}) {
  const socket = io(daemon.base + space, { forceNew: true, reconnection: false, ...options });
  open.push(socket);
  await new Promise((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("connect_error", reject);
  });
  return socket;
}

// The datum of the next such event that fits.
function next(socket, event, fits = () => true) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${event} within ${PATIENCE_MS} ms`)), PATIENCE_MS);
    function hear(datum) {
      if (!fits(datum)) return;
      clearTimeout(timer);
      socket.off(event, hear);
      resolve(datum);
    }
    socket.on(event, hear);
  });
}

async function chat(socket, message) {
  const chunks = [];
  const hear = (chunk) => chunks.push(chunk);
  socket.on("chat_chunk", hear);
  try {
    const ended = new Promise((resolve, reject) => {
      socket.once("chat_done", resolve);
      socket.once("chat_error", (error) => reject(new Error(JSON.stringify(error))));
    });
    socket.emit("chat_message", message);
    return { chunks, done: await ended };
  } finally {
    for (const event of ["chat_chunk", "chat_done", "chat_error"]) socket.off(event);
  }
}

describe("socket.io-client", () => {
  for (const transports of [["polling", "websocket"], ["polling"], ["websocket"]]) {
    test(`chats by ${transports.join(", then ")}`, async () => {
      const socket = await connect("/", { transports });
      if (transports.length > 1 && socket.io.engine.transport.name !== "websocket")
        await new Promise((resolve) => socket.io.engine.once("upgrade", resolve));
      const { chunks, done } = await chat(socket, { message: QUESTION });
      assert.match(done.content, /Paris/);
      assert.equal(chunks.map((chunk) => chunk.content).join(""), done.content);
      assert.ok(chunks.length > 3, `${chunks.length} chunks`);
      assert.equal(done.role, "assistant");
      assert.equal(done.model_used, daemon.model);
      assert.ok(!Number.isNaN(Date.parse(done.timestamp)));
      assert.equal(socket.io.engine.transport.name, transports.at(-1));
    });
  }

  test("a page may ask while the transport is being changed", async () => {
    const socket = await connect();
    const { chunks, done } = await chat(socket, { message: QUESTION });
    assert.equal(chunks.map((chunk) => chunk.content).join(""), done.content);
  });

  test("a chosen model, and one that nobody has", async () => {
    const socket = await connect();
    const { done } = await chat(socket, { message: "Say hello.", selected_model: daemon.model });
    assert.equal(done.model_used, daemon.model);
    const { error } = await socket.timeout(PATIENCE_MS).emitWithAck("chat_message", { message: "x", selected_model: "nobody" });
    assert.equal(error.code, "model_not_found");
  });

  test("acknowledges what it takes", async () => {
    const socket = await connect();
    const done = next(socket, "chat_done");
    const taken = await socket.timeout(PATIENCE_MS).emitWithAck("chat_message", { message: "Say hello." });
    assert.equal((await done).id, taken.id);
  });

  test("bytes travel: a picture is refused by a model that cannot see", async () => {
    const socket = await connect();
    const failed = next(socket, "chat_error");
    socket.emit("chat_message", { message: "What is this?", images: [new Uint8Array([0x89, 0x50, 0x4e, 0x47])] });
    assert.match((await failed).message, /image|mmproj/i);
  });

  test("translates", async () => {
    const socket = await connect();
    const result = await socket.timeout(PATIENCE_MS).emitWithAck("translation_request", { text: "Good morning", source_lang: "English", target_lang: "French" });
    assert.ok(result.translation.length > 0, JSON.stringify(result));
    assert.equal(result.model_used, daemon.model);
  });

  test("tells models and devices, in a namespace of its own too", async () => {
    for (const space of ["/", "/status"]) {
      const socket = io(daemon.base + space, { forceNew: true });
      open.push(socket);
      const [model, devices] = await Promise.all([next(socket, "model_status", ({ model }) => model === daemon.model), next(socket, "gpu_status")]);
      assert.equal(model.state, "ready");
      assert.equal(devices.devices[0].id, "host");
    }
  });

  test("a namespace that nobody serves is refused", async () => {
    await assert.rejects(connect("/nobody"), /Invalid namespace/);
  });

  test("comes back by itself after the daemon did", async () => {
    const socket = await connect("/", { reconnection: true, reconnectionDelay: 100 });
    const gone = next(socket, "disconnect");
    await daemon.down();
    await gone;
    const again = next(socket, "connect");
    await daemon.again();
    await again;
    const { done } = await chat(socket, { message: QUESTION });
    assert.match(done.content, /Paris/);
  });
});
