import { expect, test } from "vitest";
import { commandTopic, eventsFilter } from "../src/protocol.js";

test("topics are those of protocol v1", () => {
  expect(commandTopic("chat/v1", "alice", "sendMessage")).toBe("chat/v1/users/alice/commands/sendMessage");
  expect(eventsFilter("chat/v1", "alice")).toBe("chat/v1/users/alice/events/+");
});
