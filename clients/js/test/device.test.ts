import { expect, test, vi } from "vitest";
import { Device } from "../src/device.js";
import type { ServiceEvent } from "../src/events.js";
import { type HistoryApi, HistoryError } from "../src/history.js";
import type { StatusUpdate } from "../src/options.js";
import type { Message } from "../src/protocol.js";
import { messageAt, range, SUMMARY } from "./messages.js";

const CONVERSATION = SUMMARY.conversationId;

const NOTHING_MISSED: ServiceEvent = {
  type: "syncPage",
  page: { conversationId: CONVERSATION, messages: [], upToSeq: 5, positions: [], complete: true },
};

/** Alice's device: connected as far as its parts can tell, with a history of one conversation. */
function open(stored: readonly Message[] = []) {
  const gateway = { listIsDown: false, refusal: undefined as Error | undefined };
  const history: HistoryApi = {
    listMessages: () =>
      gateway.refusal ? Promise.reject(gateway.refusal) : Promise.resolve({ messages: stored, nextCursor: null }),
    listConversations: () =>
      gateway.listIsDown
        ? Promise.reject(new Error("down"))
        : Promise.resolve({ conversations: [SUMMARY], nextCursor: null }),
    getConversation: () => Promise.resolve(SUMMARY),
  };
  const device = new Device({
    url: "ws://127.0.0.1:9",
    userId: "alice",
    deviceId: "laptop",
    token: () => Promise.reject(new Error("not asked for here")),
    history,
  });
  const published: string[] = [];
  vi.spyOn(device.connection, "publish").mockImplementation((topic, _, correlation) => {
    const command = topic.slice(topic.lastIndexOf("/") + 1);
    published.push(command);
    if (command === "sync") queueMicrotask(() => device.onAnswer(correlation, NOTHING_MISSED));
    return Promise.resolve();
  });
  const statuses: StatusUpdate["status"][] = [];
  device.emitter.on("status", ({ status }) => statuses.push(status));
  const onState = (status: "connecting" | "connected"): void => device.connection["options"].onState({ status });
  return { device, gateway, onState, published, statuses };
}

const answered = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));

const receiptOfBob = { conversationId: CONVERSATION, messageId: "message-1", seq: 1, userId: "bob", status: "READ", at: "now" } as const;

test("a message whose acknowledgement was lost is told with the status that it has reached", async () => {
  const { device, statuses } = open([messageAt(1, { senderId: "alice" })]);
  device.outbox.add({ conversationId: CONVERSATION }, "text 1", "key-1");
  device.onReceipt(receiptOfBob);
  await device.followed.follow(CONVERSATION).load();
  expect(statuses).toEqual(["sending", "read"]);
  await device.close();
});

test("a receipt alone does not keep what the list tells of from being marked as delivered", async () => {
  const { device, published } = open();
  device.onReceipt(receiptOfBob);
  await device.list.refresh();
  await vi.waitFor(() => expect(published).toContain("markAsDelivered"));
  await device.close();
});

test("while the list cannot be read, each connection asks for what was missed", async () => {
  const { device, gateway, onState, published } = open([messageAt(5)]);
  await device.followed.follow(CONVERSATION).load();
  gateway.listIsDown = true;
  const syncs = (): number => published.filter((command) => command === "sync").length;
  for (const connections of [1, 2, 3]) {
    onState("connected");
    await vi.waitFor(() => expect(syncs()).toBe(connections));
    await answered();
    onState("connecting");
  }
  await device.close();
});

test("a message that the first page brings before its event does is told and counted", async () => {
  const { device } = open(range(1, 7).map((seq) => messageAt(seq)));
  const told: number[] = [];
  device.emitter.on("message", ({ seq }) => told.push(seq));
  await device.list.refresh();
  device.onMessage(messageAt(6));
  await device.followed.follow(CONVERSATION).load();
  device.onMessage(messageAt(7));
  expect(told).toEqual([6, 7]);
  expect(device.list.get(CONVERSATION)?.unreadCount).toBe(SUMMARY.unreadCount + 2);
  await device.close();
});

test("what cannot be read is told as a warning, with its cause", async () => {
  const { device, gateway } = open();
  const warnings: Error[] = [];
  device.emitter.on("warning", (warning) => warnings.push(warning));
  gateway.refusal = new HistoryError("no", 404, "CONVERSATION_NOT_FOUND");
  await device.followed.follow(CONVERSATION).load();
  expect(warnings).toMatchObject([{ message: `Conversation ${CONVERSATION} cannot be read`, cause: gateway.refusal }]);
  gateway.listIsDown = true;
  void device.list.refresh();
  await vi.waitFor(() => expect(warnings).toHaveLength(2));
  expect(warnings[1]).toMatchObject({ message: "The list of conversations cannot be read now", cause: new Error("down") });
  await device.close();
});
