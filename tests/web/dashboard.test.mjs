// The dashboard as people meet it, in a browser, in front of a daemon with a real model.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { gunzipSync } from "node:zlib";

import { setStage } from "./stage.mjs";

const kViews = ["overview", "chat", "downloads", "log", "system"];
const kPatience = 30_000;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
let stage, base, model, context, page;
// What the page asked for, what it complained of, and what other machines it wanted.
const asked = [], complaints = [];

// A page of its own: nothing kept, English, a laptop's window.
async function opened(options = {}, view = "overview") {
  const own = await stage.browser.newContext({ viewport: { width: 1366, height: 900 }, locale: "en-GB", ...options });
  own.setDefaultTimeout(kPatience);
  const one = await own.newPage();
  one.on("request", (request) => asked.push(request.url()));
  one.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  one.on("pageerror", (error) => complaints.push(String(error)));
  await one.goto(`${base}/#${view}`);
  return [own, one];
}

const api = async (path, body) => {
  const response = await fetch(base + path, body && { method: "POST", body: JSON.stringify(body) });
  assert.ok(response.ok, `${path}: ${response.status} ${await response.clone().text()}`);
  return response.json();
};
const row = (name) => page.locator(`tr[data-model="${name}"]`);
const isState = (name, state) => page.locator(`tr[data-model="${name}"][data-state="${state}"]`).waitFor();
const show = (view) => page.locator(`nav a[href="#${view}"]`).click();

before(async () => {
  stage = await setStage({ configuration: "server: {keys: {user_env: LLM_MANAGER_TEST_USER_KEY, admin_env: LLM_MANAGER_TEST_ADMIN_KEY}}\n" });
  base = stage.daemon.base;
  model = stage.model;
  [context, page] = await opened();
});

after(async () => {
  await stage?.stop();
});

describe("what is sent", () => {
  test("a first visit costs at most 300 kB, and nothing of it may come from elsewhere", async () => {
    const front = await fetch(base, { headers: { Accept: "text/html" } });
    assert.equal(front.status, 200);
    const html = await front.text();
    assert.match(front.headers.get("content-security-policy"), /default-src 'none'.*frame-ancestors 'none'/);
    assert.equal(front.headers.get("cache-control"), "no-cache");
    let bytes = Number(front.headers.get("content-length"));
    const parts = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1]);
    assert.ok(parts.length >= 3, html);
    for (const part of parts) {
      assert.match(part, /^\//, "everything is the daemon's own");
      const answer = await fetch(base + part);
      assert.equal(answer.headers.get("content-encoding"), "gzip");
      if (part.startsWith("/assets/")) assert.match(answer.headers.get("cache-control"), /immutable/);
      bytes += Number(answer.headers.get("content-length"));
      await answer.arrayBuffer();
    }
    assert.ok(bytes <= 300_000, `${bytes} bytes`);
    console.log(`first load: ${bytes} bytes`);
  });

  test("who cannot unpack is sent it unpacked, and who has it nothing", async () => {
    const { request } = await import("node:http");
    const get = (headers) => new Promise((resolve, reject) => request(base, { headers: { Accept: "text/html", ...headers } }, async (answer) => {
      const pieces = [];
      for await (const piece of answer) pieces.push(piece);
      resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(pieces) });
    }).on("error", reject).end());
    const plain = await get({});
    const packed = await get({ "Accept-Encoding": "gzip" });
    assert.deepEqual(gunzipSync(packed.body), plain.body);
    assert.equal((await get({ "Accept-Encoding": "gzip", "If-None-Match": packed.headers.etag })).status, 304);
  });

  test("programs that look for Ollama find what they look for", async () => {
    assert.equal(await (await fetch(base)).text(), "Ollama is running");
  });
});

describe("overview", () => {
  test("devices and models are there", async () => {
    await page.locator('[data-device="host"] canvas').waitFor();
    await isState(model, "unloaded");
    await isState("tiny-embed", "unloaded");
    await row("ollama_qwen-a:latest").waitFor();
  });

  test("a load that somebody else asked for is seen within 200 ms of each of its states", async () => {
    await page.evaluate((name) => {
      window.seen = {};
      const one = document.querySelector(`tr[data-model="${name}"]`);
      let before = one.dataset.state;
      new MutationObserver(() => {
        if (one.dataset.state === before) return;
        before = one.dataset.state;
        window.seen[before] = Date.now();
      }).observe(one, { attributes: true });
    }, "tiny-embed");
    const said = {};
    let latest = "";
    const stop = new AbortController();
    const stream = await fetch(`${base}/api/v1/events`, { signal: stop.signal });
    const reading = (async () => {
      let text = "";
      for await (const piece of stream.body.pipeThrough(new TextDecoderStream())) {
        text += piece;
        const events = text.split("\n\n");
        text = events.pop();
        for (const event of events.filter((each) => each.includes("event: state"))) {
          const news = JSON.parse(/^data: (.*)$/m.exec(event)[1]);
          if (news.model === "tiny-embed" && news.state !== latest) said[(latest = news.state)] = news.at_ms;
        }
      }
    })().catch(() => {});
    // The best of three: what is promised is what the page adds, not what else this machine does.
    let late;
    for (let round = 0; round < 3 && !late?.every((each) => each <= 200); ++round) {
      await page.evaluate(() => void (window.seen = {}));
      await api("/api/v1/models/load", { model: "tiny-embed" });
      await isState("tiny-embed", "ready");
      await api("/api/v1/models/unload", { model: "tiny-embed" });
      await isState("tiny-embed", "unloaded");
      await page.waitForFunction(() => window.seen.unloaded);
      const seen = await page.evaluate(() => window.seen);
      late = ["loading", "ready", "unloaded"].map((state) => seen[state] - said[state]);
      console.log(`seen after ${late.join(", ")} ms`);
    }
    stop.abort();
    await reading;
    for (const each of late) assert.ok(each <= 200, `${late} ms`);
  });

  test("load, pin, keep unloaded, load again: by the page's buttons", async () => {
    await row(model).getByRole("button", { name: "Load", exact: true }).click();
    await isState(model, "ready");
    await page.locator('[data-device="host"] .legend').getByText(model).waitFor();
    await row(model).getByRole("button", { name: "Pin", exact: true }).click();
    await row(model).getByText("pinned").waitFor();
    await row(model).getByRole("button", { name: "Unpin" }).click();
    await row(model).getByText("pinned").waitFor({ state: "detached" });
    await row(model).getByRole("button", { name: "Keep unloaded" }).click();
    await row(model).getByText("kept unloaded by dashboard").waitFor();
    await isState(model, "unloaded");
    await row(model).getByRole("button", { name: "Load", exact: true }).click();
    await isState(model, "ready");
    await row(model).getByText("kept unloaded").waitFor({ state: "detached" });
  });

  test("unload shows what came back, and that it was measured", async () => {
    await row(model).getByRole("button", { name: "Unload", exact: true }).click();
    await isState(model, "unloaded");
    const report = page.locator(`details[data-release="${model}"]`).first();
    await report.getByText("proved", { exact: true }).waitFor();
    const freed = await report.locator('td[data-label="Freed"]').first().innerText();
    assert.match(freed, /^\d+\.\d MB$/);
    assert.ok(Number.parseFloat(freed) > 20, freed);
  });

  test("a model's name tells why it is as it is, and what a load would take", async () => {
    await row(model).getByRole("button", { name: model, exact: true }).click();
    const detail = page.locator("tr.detail");
    await detail.getByText(/^fit: .* MB were measured/).waitFor();
    const why = (await api(`/api/v1/explain?model=${model}`)).decisions[0].why;
    await detail.getByText(why).first().waitFor();
    await row(model).getByRole("button", { name: model, exact: true }).click();
    await detail.waitFor({ state: "detached" });
  });

  test("a switch to Ollama: seen while it is under way, and kept in the list", async () => {
    await row(model).getByRole("button", { name: "Load", exact: true }).click();
    await isState(model, "ready");
    await row("ollama_qwen-a:latest").getByRole("button", { name: "Switch to it" }).click();
    await isState(model, "unloaded");
    await isState("ollama_qwen-a:latest", "ready");
    await row("ollama_qwen-a:latest").getByText("active").waitFor();
    await show("log");
    const first = page.locator('tr[data-switch="done"]').first();
    assert.match(await first.innerText(), /local → Ollama: ollama_qwen-a:latest/);
    assert.match(await first.innerText(), /dashboard/);
    await show("overview");
  });

  test("what the daemon refuses is said in its words", async () => {
    await page.route("**/api/v1/models/load", (route) => route.fulfill({ status: 507, contentType: "application/json",
      body: JSON.stringify({ error: { message: "needs 9 GB of host, 1 GB is free", code: "insufficient_memory" } }) }));
    await row("tiny-embed").getByRole("button", { name: "Load", exact: true }).click();
    await row("tiny-embed").getByRole("alert").getByText("needs 9 GB of host, 1 GB is free").waitFor();
    await page.unroute("**/api/v1/models/load");
    await row("tiny-embed").getByRole("button", { name: "Load", exact: true }).click();
    await isState("tiny-embed", "ready");
    assert.equal(await row("tiny-embed").getByRole("alert").count(), 0);
  });
});

describe("chat", () => {
  const ask = async (text) => {
    await page.getByRole("textbox", { name: "Message", exact: true }).fill(text);
    await page.keyboard.press("Enter");
  };
  const answer = () => page.locator(".said .assistant").last();
  const idle = () => page.getByRole("button", { name: "Send" }).waitFor();

  test("Paris, in a conversation that a reload keeps", async () => {
    await show("chat");
    await page.getByRole("combobox", { name: "Model", exact: true }).selectOption(model);
    await ask("What is the capital of France?");
    await answer().getByText(/Paris/).waitFor();
    await page.getByRole("button", { name: "Stop" }).click({ timeout: 1000 }).catch(() => {});
    await idle();
    await page.reload();
    await page.getByRole("button", { name: "What is the capital of France?", exact: true }).click();
    await answer().getByText(/Paris/).waitFor();
  });

  test("a long answer is stopped, and the next one comes at once", async () => {
    // A small model may end its story before a busy browser has shown it: then it is asked for another one.
    for (let stopped = false, left = 5; !stopped; --left) {
      assert.ok(left > 0, "every answer ended before it could be stopped");
      await page.getByRole("button", { name: "New conversation" }).click();
      await ask("Tell me a very long story about a dragon.");
      await page.locator(".said .assistant .markdown p").first().waitFor();
      // At once: a click would wait for the text to stand still.
      stopped = await page.getByRole("button", { name: "Stop" }).dispatchEvent("click", {}, { timeout: 2000 }).then(() => true, () => false);
      if (!stopped) await idle();
    }
    await answer().getByText("stopped").waitFor();
    await idle();
    const { instances } = await api("/api/v1/instances");
    const busy = async () => (await api("/api/v1/instances")).instances.find((each) => each.model === model).active;
    assert.ok(instances.some((each) => each.model === model));
    for (const end = Date.now() + 5000; (await busy()) > 0 && Date.now() < end;) await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(await busy(), 0);
  });

  test("an answer of Ollama's, behind the same list of models", async () => {
    await page.getByRole("button", { name: "New conversation" }).click();
    await page.getByRole("combobox", { name: "Model", exact: true }).selectOption("ollama_qwen-b:latest");
    await ask("Hello");
    await idle();
    assert.ok((await answer().locator(".markdown").innerText()).length > 0);
    assert.equal(await answer().locator(".failure").count(), 0);
  });

  test("Markdown becomes elements; what a model writes as HTML stays text", async () => {
    const text = "# Title\n\n**bold** and `code`\n\n```js\nlet x = 1 < 2;\n```\n\n1. one\n2. two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n" +
      "<img src=x onerror=\"window.hacked=1\"> [bad](javascript:window.hacked=1) [good](https://example.org/)";
    await page.evaluate((content) => localStorage.setItem("conversations", JSON.stringify(
      [{ id: "1", title: "markdown", model: "", said: [{ role: "user", content: "?" }, { role: "assistant", content }] }])), text);
    await page.reload();
    await page.getByRole("button", { name: "markdown", exact: true }).click();
    await answer().locator("pre code", { hasText: "let x = 1 < 2;" }).waitFor();
    assert.equal(await answer().locator("strong").innerText(), "bold");
    assert.equal(await answer().locator("ol > li").count(), 2);
    assert.equal(await answer().locator("tbody td").count(), 2);
    assert.equal(await answer().locator("img").count(), 0);
    assert.match(await answer().innerText(), /<img src=x/);
    assert.deepEqual(await answer().locator("a").evaluateAll((links) => links.map((each) => each.href)), ["https://example.org/"]);
    assert.equal(await page.evaluate(() => window.hacked), undefined);
  });
});

describe("downloads", () => {
  test("a model is fetched, paused, resumed, and there when it is done", async () => {
    await show("downloads");
    await page.getByLabel("Source").fill("hf:example/tiny-GGUF:tiny-chat.gguf");
    await page.getByRole("button", { name: "Fetch" }).click();
    await page.locator('li[data-state="running"] progress').waitFor();
    await page.getByRole("button", { name: "Pause" }).click();
    await page.locator('li[data-state="paused"]').waitFor();
    await page.getByRole("button", { name: "Resume" }).click();
    await page.locator('li[data-state="done"]').waitFor();
    await show("overview");
    await isState("tiny-chat", "unloaded");
  });

  test("what cannot be fetched says why", async () => {
    await show("downloads");
    await page.getByLabel("Source").fill("nowhere:at-all");
    await page.getByRole("button", { name: "Fetch" }).click();
    assert.ok((await page.getByRole("alert").innerText()).length > 10);
  });
});

describe("system", () => {
  test("checks, and settings that explain themselves", async () => {
    await show("system");
    await page.locator('[data-check="ok"]', { hasText: "dashboard" }).waitFor();
    const written = page.locator('[data-setting="residency.keep_alive"]');
    await written.getByText("30min", { exact: true }).waitFor();
    await written.getByText(/line 1 · otherwise 5min/).waitFor();
    await page.getByRole("searchbox", { name: "Find" }).fill("linger");
    await page.locator('[data-setting="residency.linger"]').getByText("30s", { exact: true }).waitFor();
    assert.equal(await written.count(), 0);
  });
});

describe("for everybody", () => {
  const violations = async (one) => {
    await one.evaluate(axe);
    const { violations } = await one.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    return violations.flatMap((each) => each.nodes.map((node) => `${each.id}: ${node.target.join(" ")}: ${node.failureSummary}`));
  };

  for (const [name, options] of Object.entries({
    "light, English": { colorScheme: "light" },
    "dark, 繁體中文": { colorScheme: "dark", locale: "zh-TW" },
    "a phone, 简体中文": { colorScheme: "light", locale: "zh-CN", viewport: { width: 360, height: 740 } },
  })) {
    test(`axe finds nothing, and nothing is wider than the window: ${name}`, async () => {
      const [own, one] = await opened(options);
      for (const view of kViews) {
        await one.goto(`${base}/#${view}`);
        await one.locator(`main.${view} section`).first().waitFor();
        if (view === "chat") await one.evaluate(() => localStorage.setItem("conversations", JSON.stringify(
          [{ id: "1", title: "x", model: "m", said: [{ role: "user", content: "q" }, { role: "assistant", content: "`a`\n```\nb\n```", failure: "no" }] }])));
        if (view === "chat") {
          await one.reload();
          await one.getByRole("button", { name: "x", exact: true }).click();
        }
        assert.deepEqual(await violations(one), [], view);
        const [wide, window] = await one.evaluate(() => [document.scrollingElement.scrollWidth, innerWidth]);
        assert.ok(wide <= window, `${view}: ${wide} in a window of ${window}`);
      }
      await own.close();
    });
  }

  test("the browser's language is spoken, and another one where it is chosen", async () => {
    const [own, one] = await opened({ locale: "zh-TW" });
    await one.getByRole("heading", { name: "裝置" }).waitFor();
    assert.equal(await one.evaluate(() => document.documentElement.lang), "zh-Hant");
    await one.getByLabel("語言").selectOption("zh-Hans");
    await one.getByRole("heading", { name: "设备" }).waitFor();
    await one.reload();
    await one.getByRole("heading", { name: "设备" }).waitFor();
    await own.close();
  });

  test("the keyboard is enough", async () => {
    const [own, one] = await opened();
    await one.locator("main.overview section").first().waitFor();
    await one.keyboard.press("Tab");
    assert.equal(await one.evaluate(() => document.activeElement.textContent), "To the content");
    await one.keyboard.press("Enter");
    assert.equal(await one.evaluate(() => document.activeElement.tagName), "MAIN");
    await one.locator('nav a[href="#system"]').focus();
    await one.keyboard.press("Enter");
    await one.locator("main.system section").first().waitFor();
    await own.close();
  });

  test("a visitor from elsewhere is asked for a key, and told what his may not", async () => {
    const [own, one] = await opened({ extraHTTPHeaders: { "X-Forwarded-For": "192.0.2.1" } });
    await one.getByRole("textbox", { name: "Key" }).fill("not this one");
    await one.getByRole("button", { name: "Open" }).click();
    await one.locator('input[aria-invalid="true"]').waitFor();
    await one.getByRole("textbox", { name: "Key" }).fill("user-key-of-the-test");
    await one.getByRole("button", { name: "Open" }).click();
    const line = one.locator(`tr[data-model="${model}"]`);
    await line.getByRole("button", { name: /^(Load|Unload)$/ }).click();
    await line.getByRole("alert").getByText("this needs an admin key").waitFor();
    await own.close();
  });
});

describe("when the daemon goes", () => {
  test("it is said at once; when it is back the page is back, with what happened meanwhile", async () => {
    await show("overview");
    await stage.daemon.down();
    await page.getByText("The daemon does not answer").waitFor();
    await stage.daemon.again();
    await api("/api/v1/models/load", { model: "tiny-chat" });
    const began = Date.now();
    await page.getByText("The daemon does not answer").waitFor({ state: "detached" });
    await isState("tiny-chat", "ready");
    console.log(`back after ${Date.now() - began} ms`);
    assert.ok(Date.now() - began < 5000);
    await show("log");
    const why = (await api("/api/v1/explain?model=tiny-chat")).decisions[0].why;
    await page.locator("tbody").first().getByText(why, { exact: true }).first().waitFor();
    // And it goes on to be told.
    await api("/api/v1/models/unload", { model: "tiny-chat" });
    await show("overview");
    await isState("tiny-chat", "unloaded");
  });
});

test("nothing was asked of another machine, and the browser complained of nothing but the daemon's absence", async () => {
  const elsewhere = asked.filter((url) => !url.startsWith(base) && !url.startsWith("data:"));
  assert.deepEqual(elsewhere, []);
  // What a browser says of every answer that is an error, and of a daemon that is not there.
  const expected = /Failed to load resource|ERR_CONNECTION|ERR_INCOMPLETE|net::/;
  assert.deepEqual(complaints.filter((text) => !expected.test(text)), []);
  await context.close();
});
