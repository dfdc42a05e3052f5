import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Connection, type ConnectionState } from "../src/connection.js";

const CONNECT_TIMEOUT_MS = 1000;

/** A connection whose tokens are asked for and never come. */
function open() {
  const states: ConnectionState[] = [];
  const token = vi.fn(() => new Promise<string>(() => undefined));
  const connection = new Connection({
    url: "ws://127.0.0.1:9",
    clientId: "alice:laptop",
    username: "alice",
    token,
    filter: "chat/v1/users/alice/#",
    sessionExpirySeconds: 60,
    keepaliveSeconds: 30,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    backoff: { baseMs: 100, capMs: 100 },
    will: () => ({ topic: "chat/v1", payload: "{}" }),
    onState: (state) => states.push(state),
    onMessage: () => undefined,
  });
  connection.start();
  return { connection, states, token };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("a token that does not come is a failed attempt, and the next one asks for another", async () => {
  const { connection, states, token } = open();
  await vi.advanceTimersByTimeAsync(CONNECT_TIMEOUT_MS);
  expect(states.at(-1)).toMatchObject({ status: "waiting", attempt: 1, reason: "There was no token in time" });
  await vi.advanceTimersByTimeAsync(100);
  expect(states.at(-1)).toEqual({ status: "connecting" });
  expect(token).toHaveBeenCalledTimes(2);
  await connection.close();
});

test("closing does not wait for a token, and leaves no timer behind", async () => {
  const { connection, states } = open();
  await connection.close();
  await vi.advanceTimersByTimeAsync(0);
  expect(vi.getTimerCount()).toBe(0);
  expect(states.at(-1)).toEqual({ status: "closed" });
});
