import { EventEmitter } from "node:events";
import mqtt, { ErrorWithReasonCode, type MqttClient } from "mqtt";
import { afterEach, expect, test, vi } from "vitest";
import { Link, LinkError, PublishRefusedError } from "../src/link.js";

interface Acknowledgement {
  resolve(): void;
  reject(error: Error): void;
}

/** A link over a client that is connected; the test acknowledges what is published. */
function open() {
  const acknowledgements: Acknowledgement[] = [];
  const client = Object.assign(new EventEmitter(), {
    connected: true,
    publishAsync: () => new Promise<void>((resolve, reject) => acknowledgements.push({ resolve, reject })),
    subscribeAsync: () => Promise.resolve([]),
    end: () => undefined,
    stream: { destroy: () => undefined },
  });
  vi.spyOn(mqtt, "connect").mockReturnValue(client as unknown as MqttClient);
  const link = new Link({
    url: "ws://127.0.0.1:9",
    clientId: "alice:laptop",
    username: "alice",
    token: "token",
    filter: "chat/v1/users/alice/events/+",
    sessionExpirySeconds: 60,
    keepaliveSeconds: 30,
    connectTimeoutMs: 1000,
    will: { topic: "chat/v1", payload: "{}" },
    onMessage: () => undefined,
  });
  return { link, client, acknowledgements };
}

afterEach(() => void vi.restoreAllMocks());

test("what was published leaves nothing that waits for the link's end", async () => {
  const { link, acknowledgements } = open();
  const reactions = vi.spyOn(link.ended, "then");
  for (const payload of ["a", "b", "c"]) {
    const published = link.publish("topic", payload, "1");
    acknowledgements.at(-1)?.resolve();
    await published;
  }
  await link.probe(1000);
  expect(reactions).not.toHaveBeenCalled();
});

test("what waits for the broker ends with the link, and what comes afterwards does not begin", async () => {
  const { link, client } = open();
  const waiting = [link.publish("topic", "a", "1"), link.publish("topic", "b", "2")];
  client.emit("disconnect", { reasonCode: 0x97 });
  client.emit("close");
  const lost = { name: "LinkError", reasonCode: 0x97 };
  for (const published of waiting) await expect(published).rejects.toMatchObject(lost);
  await expect(link.publish("topic", "c", "3")).rejects.toBeInstanceOf(LinkError);
  await expect(link.ready()).rejects.toMatchObject(lost);
  expect(await link.ended).toMatchObject(lost);
});

test("a message that the broker does not take is told from a lost link", async () => {
  const { link, acknowledgements } = open();
  const published = link.publish("topic", "a", "1");
  acknowledgements[0]?.reject(new ErrorWithReasonCode("Publish error: Quota exceeded", 0x97));
  await expect(published).rejects.toBeInstanceOf(PublishRefusedError);
  await expect(published).rejects.toMatchObject({ reasonCode: 0x97 });
  expect(link.isOpen).toBe(true);
});
