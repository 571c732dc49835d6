// The daemon as pages with Socket.IO see it: the real client, with a fake worker for its protocol and with TinyLlama
// for a real answer. LLM_MANAGER, LLM_MANAGER_FAKE_WORKER, LLM_MANAGER_REAL_WORKER: set by ctest.
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import { io } from "socket.io-client";

import { startDaemon } from "./daemon.mjs";

const PATIENCE_MS = 120_000;
const WORDS = 20;
let daemon;
const open = [];

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

afterEach(() => {
  for (const socket of open.splice(0)) socket.disconnect();
});

describe("socket.io-client", () => {
  const said = Array.from({ length: WORDS }, (_, i) => `w${i}`).join(" ");

  before(async () => {
    daemon = await startDaemon("", {}, `tokens=${WORDS}\ntoken_ms=1\n`);
  });
  after(() => daemon?.stop());

  for (const transports of [["polling", "websocket"], ["polling"], ["websocket"]]) {
    test(`chats by ${transports.join(", then ")}`, async () => {
      const socket = await connect("/", { transports });
      if (transports.length > 1 && socket.io.engine.transport.name !== "websocket")
        await new Promise((resolve) => socket.io.engine.once("upgrade", resolve));
      const { chunks, done } = await chat(socket, { message: "Hello" });
      assert.equal(done.content, said);
      assert.equal(chunks.map((chunk) => chunk.content).join(""), said);
      assert.ok(chunks.length > 1, `${chunks.length} chunks`);
      assert.deepEqual([done.role, done.type, done.model_used], ["assistant", "text", daemon.model]);
      assert.ok(!Number.isNaN(Date.parse(done.timestamp)));
      assert.equal(socket.io.engine.transport.name, transports.at(-1));
    });
  }

  test("pages may ask while their transport is being changed", async () => {
    for (let i = 0; i < 20; i += 1) {
      const socket = await connect();
      const { chunks } = await chat(socket, { message: "Hello" });
      assert.equal(chunks.map((chunk) => chunk.content).join(""), said);
    }
  });

  test("a chosen model, and one that nobody has", async () => {
    const socket = await connect();
    const { done } = await chat(socket, { message: "Hello", selected_model: daemon.model });
    assert.equal(done.model_used, daemon.model);
    const refused = next(socket, "chat_error");
    const { error } = await socket.timeout(PATIENCE_MS).emitWithAck("chat_message", { message: "x", selected_model: "nobody" });
    assert.equal(error.code, "model_not_found");
    assert.equal((await refused).code, "model_not_found");
  });

  test("acknowledges what it takes", async () => {
    const socket = await connect();
    const done = next(socket, "chat_done");
    const taken = await socket.timeout(PATIENCE_MS).emitWithAck("chat_message", { message: "Hello" });
    assert.equal((await done).id, taken.id);
  });

  test("bytes travel with a question", async () => {
    for (const transports of [["polling"], ["websocket"]]) {
      const socket = await connect("/", { transports });
      const { done } = await chat(socket, { message: "What is this?", images: [new Uint8Array([0x89, 0x50, 0x4e, 0x47])] });
      assert.equal(done.content, said);
    }
  });

  test("translates", async () => {
    const socket = await connect();
    const request = { text: "Good morning", source_lang: "English", target_lang: "French" };
    const result = await socket.timeout(PATIENCE_MS).emitWithAck("translation_request", request);
    assert.deepEqual(result, { ...request, model_used: daemon.model, translation: said });
  });

  test("a room is heard by all who are in it", async () => {
    const sockets = await Promise.all([connect(), connect()]);
    for (const socket of sockets) await socket.timeout(PATIENCE_MS).emitWithAck("join_room", { room_id: 7 });
    const heard = sockets.map((socket) => next(socket, "chat_done"));
    const asked = next(sockets[1], "chat_message");
    sockets[0].emit("chat_message", { message: "Hello", room_id: 7 });
    assert.deepEqual((await Promise.all(heard)).map((done) => [done.content, done.room_id]), [[said, 7], [said, 7]]);
    assert.equal((await asked).sender, sockets[0].id);
  });

  test("tells models and devices, in a namespace of its own too", async () => {
    for (const space of ["/", "/status"]) {
      const socket = io(daemon.base + space, { forceNew: true });
      open.push(socket);
      const [model, devices] = await Promise.all([next(socket, "model_status"), next(socket, "gpu_status")]);
      assert.equal(model.model, daemon.model);
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
    const { done } = await chat(socket, { message: "Hello" });
    assert.equal(done.content, said);
  });
});

describe("with TinyLlama", () => {
  before(async () => {
    daemon = await startDaemon("");
  });
  after(() => daemon?.stop());

  test("the capital of France, in pieces", async () => {
    const socket = await connect();
    const heard = [];
    socket.on("chat_chunk", ({ content }) => heard.push(content));
    const ended = next(socket, "chat_done");
    socket.emit("chat_message", { message: "What is the capital of France? Answer in one short sentence." });
    // It may go on for long after that; nobody has to hear it all.
    await next(socket, "chat_chunk", () => /Paris/.test(heard.join("")));
    socket.emit("chat_stop", {});
    const done = await ended;
    assert.match(done.content, /Paris/);
    assert.equal(heard.join(""), done.content);
    assert.ok(heard.length > 1, `${heard.length} pieces`);
  });
});
