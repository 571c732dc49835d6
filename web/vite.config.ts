import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// For `npm run dev` alone: the daemon that the page asks.
const daemon = process.env.LLM_MANAGER_URL ?? "http://127.0.0.1:11435";

export default defineConfig({
  plugins: [svelte()],
  build: {
    target: "es2023",
    // What the page is allowed to load says a header: nothing inline, so that it can say so.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/api": daemon, "/v1": daemon, "/health": daemon } },
});
