// One user of the library under Node, driven by tests/end_to_end/test_js_client_in_node.py:
// commands come in as JSON lines, events go out as JSON lines.
//
//   node node-user.mjs '{"url": ..., "userId": ..., "deviceId": ..., "gateway": ..., "history": true}'
import { createInterface } from "node:readline";
import { MessagingClient, RestHistoryApi, TokenCache } from "../dist/index.js";

const settings = JSON.parse(process.argv[2]);
const { url, userId, deviceId, gateway } = settings;

async function mint() {
  const answer = await fetch(`${gateway}/api/dev/token`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ userId, deviceId }),
  });
  if (!answer.ok) throw new Error(`No token: HTTP ${answer.status}`);
  return (await answer.json()).token;
}

const say = (type, value) => process.stdout.write(`${JSON.stringify({ type, value })}\n`);
const tokens = new TokenCache(mint);
const client = new MessagingClient({
  url,
  userId,
  deviceId,
  token: () => tokens.fresh(),
  reconnect: { baseMs: 50, capMs: 500 },
  resend: { baseMs: 2000, capMs: 4000 },
  ...(settings.history && { history: new RestHistoryApi(gateway, () => tokens.current()) }),
  ...(settings.marksDelivered === false && { marksDelivered: false }),
});

const commands = {
  send: ({ text, ...target }) => void client.send({ ...target, text }),
  open: ({ conversationId, afterSeq }) => {
    const { messages } = client.conversation(conversationId, afterSeq === undefined ? {} : { afterSeq });
    return { messages };
  },
  messages: ({ conversationId }) => ({ messages: client.conversation(conversationId).messages }),
  markRead: ({ conversationId, messageId }) => client.markRead(conversationId, messageId),
  setTyping: ({ conversationId, isTyping }) => client.setTyping(conversationId, isTyping),
  setPresence: ({ state }) => client.setPresence(state),
  setPreferences: async (change) => client.setPreferences(change),
  close: () => client.close(),
};

async function report() {
  for await (const { type, value } of client.events()) {
    if (type === "conversation") continue;
    if (type === "warning") say(type, `${value.message}: ${value.cause}`);
    else say(type, value);
  }
}

const reporting = report();
await client.start();
for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...fields } = JSON.parse(line);
  say("done", { command, result: (await commands[command](fields)) ?? null });
  if (command === "close") break;
}
// Nothing of the library may keep the process alive after close().
process.stdin.destroy();
await reporting;
