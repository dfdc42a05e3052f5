import type { ServiceError } from "../src/index.js";
import { displayName } from "./people.js";

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const shortDate = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

export const timeOfDay = (timestamp: string): string => clock.format(new Date(timestamp));

/** Same for all moments of one local day. */
export const dayKey = (timestamp: string): string => new Date(timestamp).toDateString();

/** "Today", "Yesterday", "Monday", "3 May 2026". */
export function dayLabel(timestamp: string): string {
  const days = daysAgo(timestamp);
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  return days < 7 ? weekday.format(new Date(timestamp)) : date.format(new Date(timestamp));
}

/** As short as a list needs: "14:05", "Yesterday", "3 May". */
export function listTime(timestamp: string): string {
  const days = daysAgo(timestamp);
  if (days <= 0) return timeOfDay(timestamp);
  return days === 1 ? "Yesterday" : shortDate.format(new Date(timestamp));
}

/** "last seen today at 14:05", "last seen 3 May at 09:00". */
export function lastSeenInWords(timestamp: string): string {
  const days = daysAgo(timestamp);
  const day = days <= 0 ? "today" : days === 1 ? "yesterday" : shortDate.format(new Date(timestamp));
  return `last seen ${day} at ${timeOfDay(timestamp)}`;
}

/** Why a message was refused, in words for the person who wrote it. */
export function refusalInWords(error: ServiceError, peer: string): string {
  switch (error.code) {
    case "NOT_CONNECTED":
      return `You and ${displayName(peer)} aren’t connected, so this message was not sent.`;
    case "CONVERSATION_NOT_FOUND":
      return "This conversation no longer exists, so this message was not sent.";
    case "PAYLOAD_TOO_LARGE":
      return "This message is too long to be sent.";
    case "INVALID_PAYLOAD":
      return "This message contains something that can’t be sent.";
    case "IDEMPOTENCY_CONFLICT":
      return "This message was already sent with a different text.";
    default:
      return "This message could not be sent.";
  }
}

function daysAgo(timestamp: string): number {
  const midnight = (moment: Date): number => Date.UTC(moment.getFullYear(), moment.getMonth(), moment.getDate());
  return Math.round((midnight(new Date()) - midnight(new Date(timestamp))) / 86_400_000);
}
