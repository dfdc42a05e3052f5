// Builds the demo page into a temporary folder and compares it, byte for byte, with gateway/static.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";

const root = fileURLToPath(new URL("..", import.meta.url));
const committed = fileURLToPath(new URL("../../../gateway/static", import.meta.url));

function filesOf(folder) {
  const names = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  return new Map(names.map((name) => [name.slice(folder.length + 1), readFileSync(name)]));
}

const fresh = mkdtempSync(join(tmpdir(), "demo-page-"));
try {
  await build({ configFile: join(root, "vite.config.ts"), logLevel: "warn", build: { outDir: fresh } });
  const [expected, actual] = [filesOf(fresh), filesOf(committed)];
  const names = [...new Set([...expected.keys(), ...actual.keys()])].sort();
  const stale = names.filter((name) => !expected.has(name) || !actual.has(name) || !expected.get(name).equals(actual.get(name)));
  if (stale.length > 0) {
    console.error(`gateway/static is not what clients/js builds; run "npm run build". Different: ${stale.join(", ")}`);
    process.exitCode = 1;
  } else {
    console.log(`gateway/static is current (${names.length} files)`);
  }
} finally {
  rmSync(fresh, { recursive: true });
}
