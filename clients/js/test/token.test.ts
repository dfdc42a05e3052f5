import { expect, test } from "vitest";
import { refreshDelay, TokenCache } from "../src/token.js";

function tokenWith(claims: object): string {
  const body = Buffer.from(JSON.stringify(claims)).toString("base64url");
  return `e30.${body}.signature`;
}

test("a token is replaced after four fifths of its life, whatever the local clock says", () => {
  const token = tokenWith({ sub: "alice", iat: 1000, exp: 1000 + 600 });
  expect(refreshDelay(token, 0)).toBe(480_000);
  expect(refreshDelay(token, 1e12)).toBe(480_000);
});

test("without iat the local clock counts", () => {
  expect(refreshDelay(tokenWith({ exp: 1600 }), 1000 * 1000)).toBe(480_000);
});

test("delays stay within what a timer can do", () => {
  expect(refreshDelay(tokenWith({ iat: 0, exp: 10 * 365 * 86_400 }), 0)).toBe(86_400_000);
  expect(refreshDelay(tokenWith({ iat: 100, exp: 50 }), 0)).toBe(1000);
});

test("a token that cannot be read is left to the broker", () => {
  expect(refreshDelay("opaque")).toBeUndefined();
  expect(refreshDelay("a.%%%.c")).toBeUndefined();
  expect(refreshDelay(tokenWith({ sub: "alice" }))).toBeUndefined();
});

test("the cache mints once for calls at the same time, and again when the token is old", async () => {
  let now = 0;
  let minted = 0;
  const cache = new TokenCache(
    () => Promise.resolve(tokenWith({ iat: 0, exp: 600, number: (minted += 1) })),
    () => now,
  );
  const [first, second] = await Promise.all([cache.current(), cache.current()]);
  expect(first).toBe(second);
  now = 479_000;
  expect(await cache.current()).toBe(first);
  now = 480_000;
  expect(await cache.current()).not.toBe(first);
  expect(minted).toBe(2);
});

test("who asks later does not wait for a mint that never ends", async () => {
  let now = 0;
  let minted = 0;
  const cache = new TokenCache(
    () => ((minted += 1) === 1 ? new Promise<string>(() => undefined) : Promise.resolve("token")),
    () => now,
  );
  void cache.current();
  now = 9999;
  void cache.current();
  expect(minted).toBe(1);
  now = 10_000;
  expect(await cache.current()).toBe("token");
  expect(minted).toBe(2);
});

test("a failed mint is not remembered", async () => {
  let isDown = true;
  const cache = new TokenCache(() => (isDown ? Promise.reject(new Error("down")) : Promise.resolve("token")));
  await expect(cache.current()).rejects.toThrow("down");
  isDown = false;
  expect(await cache.current()).toBe("token");
});
