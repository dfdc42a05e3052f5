import { MessagingClient, RestHistoryApi, TokenCache } from "../src/index.js";
import { claimDevice } from "./device.js";
import { developmentToken, type PageConfig } from "./gateway.js";

/** A connected client for one of the demo's users. */
export async function openSession(userId: string, config: PageConfig): Promise<MessagingClient> {
  const deviceId = await claimDevice(userId);
  const tokens = new TokenCache(() => developmentToken(userId, deviceId));
  const client = new MessagingClient({
    url: config.brokerUrl,
    topicRoot: config.topicRoot,
    userId,
    deviceId,
    token: () => tokens.fresh(),
    history: new RestHistoryApi("", () => tokens.current()),
    // Someone is looking: come back sooner than a background application would.
    reconnect: { baseMs: 300, capMs: 8000 },
    keepaliveSeconds: 15,
    connectTimeoutMs: 6000,
  });
  client.on("warning", (warning) => console.warn(warning));
  client.on("serviceError", (error) => console.warn(`The service answered ${error.code}`));
  const onVisibility = (): void => client.setPresence(document.visibilityState === "visible" ? "online" : "away");
  document.addEventListener("visibilitychange", onVisibility);
  onVisibility();
  await client.start();
  return client;
}
