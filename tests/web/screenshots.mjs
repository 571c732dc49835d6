// screenshots.mjs FOLDER: pictures of the dashboard while something happens, as people see it. scripts/screenshots runs it.
import { mkdirSync } from "node:fs";
import path from "node:path";

import { setStage } from "./stage.mjs";

const folder = process.argv[2];
const stage = await setStage({ rate: 150_000 });
const { daemon } = stage;
const post = async (where, body) => (await fetch(daemon.base + where, { method: "POST", body: JSON.stringify(body) })).json();
const rest = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

async function open(locale, colorScheme, viewport = { width: 1366, height: 900 }) {
  const context = await stage.browser.newContext({ locale, colorScheme, viewport, timezoneId: "UTC" });
  const page = await context.newPage();
  await page.goto(`${daemon.base}/#overview`);
  await page.locator("main.overview section").first().waitFor();
  return page;
}

async function picture(page, view, name) {
  await page.evaluate((view) => (location.hash = view), view);
  await page.locator(`main.${view} section`).first().waitFor();
  await rest(0.5);
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: path.join(folder, `${name}.png`) });
  console.log(`${name}.png`);
}

try {
  const pages = {
    "": await open("en-GB", "light"),
    ".zh-Hans": await open("zh-CN", "light"),
    ".zh-Hant": await open("zh-TW", "dark"),
    ".phone": await open("en-GB", "light", { width: 390, height: 844 }),
  };
  // A minute of a machine's life.
  await rest(4);
  await post("/api/v1/models/load", { model: stage.model });
  await rest(4);
  await post("/api/v1/models/load", { model: "tiny-embed" });
  await rest(6);
  await post("/api/v1/switch", { model: "ollama_qwen-a:latest" });
  await rest(8);
  await post("/api/v1/switch", { model: stage.model });
  await rest(5);
  await post("/api/v1/pull", { source: "hf:example/tiny-GGUF:tiny-chat.gguf", wait: false });
  await rest(2);
  for (const [kind, page] of Object.entries(pages)) {
    if (kind === "") await picture(page, "downloads", "downloads");
    await picture(page, "overview", `overview${kind}`);
    if (kind === ".phone") continue;
    await page.evaluate(() => (location.hash = "chat"));
    await page.locator("textarea").fill("What is the capital of France?");
    await page.keyboard.press("Enter");
    await page.locator(".said .assistant").getByText(/Paris/).waitFor({ timeout: 60_000 });
    await page.locator(".said [data-busy]").waitFor({ state: "detached", timeout: 60_000 });
    await picture(page, "chat", `chat${kind}`);
  }
  await picture(pages[""], "log", "log");
  await picture(pages[""], "system", "system");
  await picture(pages[".phone"], "chat", "chat.phone");
} finally {
  await stage.stop();
}
