export interface PageConfig {
  readonly brokerUrl: string;
  readonly topicRoot: string;
  readonly development: boolean;
}

const PATIENCE_MS = 5000;

export async function readConfig(): Promise<PageConfig> {
  const response = await fetch("/api/config", { signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  return (await response.json()) as PageConfig;
}

/** A new development token, as the gateway hands them out to anybody. */
export async function developmentToken(userId: string, deviceId: string): Promise<string> {
  const response = await fetch("/api/dev/token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ userId, deviceId }),
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  if (!response.ok) throw new Error(`No token: HTTP ${response.status}`);
  return ((await response.json()) as { token: string }).token;
}
