import { expect, test } from "vitest";
import { Positions } from "../src/positions.js";
import { messageAt } from "./messages.js";

const bob = (deliveredSeq: number, readSeq: number) => ({ userId: "bob", deliveredSeq, readSeq });

test("positions only move forward, in whatever order they come", () => {
  const positions = new Positions();
  expect(positions.advance(bob(5, 3))).toBe(true);
  expect(positions.advance(bob(4, 2))).toBe(false);
  expect(positions.advance(bob(0, 4))).toBe(true);
  expect(positions.of("bob")).toEqual({ deliveredSeq: 5, readSeq: 4 });
  expect(positions.of("carol")).toEqual({ deliveredSeq: 0, readSeq: 0 });
});

test("what was read was delivered", () => {
  const positions = new Positions();
  positions.advance(bob(0, 7));
  expect(positions.of("bob")).toEqual({ deliveredSeq: 7, readSeq: 7 });
});

test("a status is the further one of the message's own and the positions'; authors do not count", () => {
  const positions = new Positions();
  positions.advance(bob(2, 1));
  const mine = (seq: number, status: "SENT" | "READ" = "SENT") => messageAt(seq, { senderId: "alice", status });
  expect([1, 2, 3].map((seq) => positions.statusOf(mine(seq)))).toEqual(["READ", "DELIVERED", "SENT"]);
  expect(positions.statusOf(mine(3, "READ"))).toBe("READ");
  expect(positions.statusOf(messageAt(1, { senderId: "bob" }))).toBe("SENT");
});
