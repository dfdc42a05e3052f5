import type { ConnectionState, MessagingClient } from "../src/index.js";
import { el, setAttribute, setText } from "./dom.js";

const LABELS = { connected: "Online", connecting: "Connecting…", reconnecting: "Reconnecting…", closed: "Signed out" };
type PillStatus = keyof typeof LABELS;

/** A reconnect shorter than this (as for a new token) is not worth telling. */
const GRACE_MS = 700;

export interface ConnectionPill {
  readonly element: HTMLElement;
  close(): void;
}

/** Says whether the client is connected; `onStatus` hears the same. */
export function connectionPill(client: MessagingClient, onStatus: (online: boolean) => void): ConnectionPill {
  const label = el("span");
  const pill = el("span", { class: "pill", role: "status", "data-testid": "connection-state" }, label);
  let wasConnected = false;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const show = (status: PillStatus): void => {
    setAttribute(pill, "data-status", status);
    setText(label, LABELS[status]);
    onStatus(status === "connected");
  };
  const follow = (state: ConnectionState): void => {
    wasConnected ||= state.status === "connected";
    const status = pillStatus(state, wasConnected);
    if (status === "reconnecting" && pill.dataset.status === "connected") {
      timer ??= setTimeout(() => show(status), GRACE_MS);
      return;
    }
    clearTimeout(timer);
    timer = undefined;
    show(status);
  };
  follow(client.connectionState);
  const unsubscribe = client.on("connection", follow);
  return {
    element: pill,
    close: () => {
      clearTimeout(timer);
      unsubscribe();
    },
  };
}

function pillStatus(state: ConnectionState, wasConnected: boolean): PillStatus {
  if (state.status === "connected" || state.status === "closed") return state.status;
  return wasConnected || state.status === "waiting" ? "reconnecting" : "connecting";
}
