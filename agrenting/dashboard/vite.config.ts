import { defineConfig } from "vite";

// The market that `npx vite` develops against: where `agrenting serve` listens unless told otherwise.
const market = "http://127.0.0.1:4000";
const proxied = { target: market, changeOrigin: true, ws: true, headers: { origin: market } };

export default defineConfig({
  // Relative, so that the page also works behind a proxy that serves it below another path.
  base: "./",
  build: {
    outDir: "dist",
    emptyOutDir: true,
    target: "es2022",
    // Nothing is inlined: the page's policy forbids data: in all but images.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 400,
  },
  server: { proxy: { "/api": proxied, "/socket": proxied } },
});
