import { afterEach, expect, test, vi } from "vitest";
import { HistoryError, RestHistoryApi } from "../src/history.js";

afterEach(() => void vi.restoreAllMocks());

test("a token that does not come is an answer that does not come", async () => {
  const limit = new AbortController();
  vi.spyOn(AbortSignal, "timeout").mockReturnValue(limit.signal);
  const history = new RestHistoryApi("http://127.0.0.1:9", () => new Promise(() => undefined));
  const reading = history.listConversations();
  limit.abort();
  await expect(reading).rejects.toBeInstanceOf(HistoryError);
  await expect(reading).rejects.toMatchObject({ status: 0, message: "There was no token in time" });
});
