import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { HistoryApi } from "../src/history.js";
import { PresenceQuestions } from "../src/presence-questions.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function open() {
  const server = { isDown: false, asked: [] as (readonly string[])[] };
  const notHere = (): Promise<never> => Promise.reject(new Error("not asked for here"));
  const history: HistoryApi = {
    listMessages: notHere,
    listConversations: notHere,
    getConversation: notHere,
    getPresence: (userIds) => {
      server.asked.push(userIds);
      if (server.isDown) return Promise.reject(new Error("down"));
      return Promise.resolve(userIds.map((userId) => ({ userId, state: "offline", lastSeenAt: "then" })));
    },
  };
  const learned: string[] = [];
  const failures: unknown[] = [];
  const questions = new PresenceQuestions(history, {
    onAnswers: (answers) => learned.push(...answers.map(({ userId }) => userId)),
    onFailure: (cause) => failures.push(cause),
  });
  return { questions, server, learned, failures };
}

const settled = (): Promise<unknown> => vi.advanceTimersByTimeAsync(0);

test("users are asked about together, once per connection, a hundred at a time", async () => {
  const { questions, server, learned } = open();
  for (let number = 0; number < 150; number += 1) questions.ask(`user-${number}`);
  questions.ask("user-3");
  await settled();
  questions.ask("user-3");
  await settled();
  expect(server.asked.map((userIds) => userIds.length)).toEqual([100, 50]);
  expect(learned).toHaveLength(150);
  questions.startAgain();
  questions.ask("user-3");
  await settled();
  expect(server.asked).toHaveLength(3);
});

test("a question without an answer is told and may be asked again", async () => {
  const { questions, server, learned, failures } = open();
  server.isDown = true;
  questions.ask("bob");
  await settled();
  expect(failures).toHaveLength(1);
  server.isDown = false;
  questions.ask("bob");
  await settled();
  expect(learned).toEqual(["bob"]);
});
