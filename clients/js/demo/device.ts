import { randomUuid } from "../src/index.js";

const INSTALL_KEY = "messages-demo/install";
const MOST_SLOTS = 20;
/** A page being reloaded may hold its lock a moment longer than its successor needs it. */
const PATIENCE_MS = 1000;

/**
 * A device id that no other tab of this browser uses, and that survives a reload.
 *
 * Tabs take numbered slots, guarded by Web Locks: a reloaded or reopened page
 * finds its slot, with the broker's session and the unsent messages that belong to it.
 */
export async function claimDevice(userId: string): Promise<string> {
  // Web Locks need HTTPS or loopback; without them each visit is a device of its own.
  if (!("locks" in navigator)) return `web-${randomUuid()}`;
  const slotKey = `messages-demo/slot/${userId}`;
  const preferred = sessionStorage.getItem(slotKey);
  const candidates = [...Array(MOST_SLOTS).keys()].map((slot) => String(slot + 1));
  if (preferred !== null && (await hold(`${slotKey}/${preferred}`, PATIENCE_MS))) return deviceId(preferred);
  for (const slot of candidates) {
    if (await hold(`${slotKey}/${slot}`)) {
      sessionStorage.setItem(slotKey, slot);
      return deviceId(slot);
    }
  }
  return `web-${randomUuid()}`;
}

function deviceId(slot: string): string {
  let install = localStorage.getItem(INSTALL_KEY);
  if (install === null) {
    install = randomUuid().slice(0, 8);
    localStorage.setItem(INSTALL_KEY, install);
  }
  return `web-${install}-${slot}`;
}

/** Holds the lock until the page goes away; resolves with whether it was got. */
function hold(name: string, patienceMs?: number): Promise<boolean> {
  const options: LockOptions =
    patienceMs === undefined ? { ifAvailable: true } : { signal: AbortSignal.timeout(patienceMs) };
  return new Promise((resolve) => {
    navigator.locks
      .request(name, options, (lock) => {
        resolve(lock !== null);
        return lock === null ? undefined : new Promise<void>(() => undefined);
      })
      .catch(() => resolve(false));
  });
}
