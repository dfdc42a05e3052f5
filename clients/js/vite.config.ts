import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** The demo page goes to gateway/static, which is committed: the output must depend on nothing but the sources. */
export default defineConfig({
  root: here("./demo"),
  base: "./",
  build: {
    outDir: here("../../gateway/static"),
    emptyOutDir: true,
    target: "es2022",
    sourcemap: false,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rollupOptions: {
      output: {
        entryFileNames: "assets/[name]-[hash].js",
        chunkFileNames: "assets/[name]-[hash].js",
        assetFileNames: "assets/[name]-[hash][extname]",
      },
    },
  },
  server: {
    proxy: { "/api": "http://127.0.0.1:8080" },
  },
  test: {
    root: here("."),
    include: ["test/**/*.test.ts"],
    environment: "node",
  },
});
