import { expect, test } from "vitest";
import { Timeline } from "../src/timeline.js";
import { messageAt, positions, range } from "./messages.js";

function loaded(upTo: number): Timeline {
  const timeline = new Timeline();
  timeline.mergeNewest(range(1, upTo).map((seq) => messageAt(seq)));
  return timeline;
}

test("messages in order are appended one by one", () => {
  const timeline = loaded(2);
  expect(positions(timeline.receive(messageAt(3)).appended)).toEqual([3]);
  expect(positions(timeline.receive(messageAt(4)).appended)).toEqual([4]);
  expect(positions(timeline.messages)).toEqual([1, 2, 3, 4]);
});

test("a message received twice is shown once", () => {
  const timeline = loaded(2);
  timeline.receive(messageAt(3));
  expect(timeline.receive(messageAt(3))).toEqual({ appended: [], missing: false });
  expect(timeline.receive(messageAt(1))).toEqual({ appended: [], missing: false });
  expect(positions(timeline.messages)).toEqual([1, 2, 3]);
});

test("what follows a hole is held back until the hole is filled by late events", () => {
  const timeline = loaded(2);
  expect(timeline.receive(messageAt(5))).toEqual({ appended: [], missing: true });
  expect(timeline.receive(messageAt(4))).toEqual({ appended: [], missing: true });
  expect(positions(timeline.messages)).toEqual([1, 2]);
  const { appended, missing } = timeline.receive(messageAt(3));
  expect(positions(appended)).toEqual([3, 4, 5]);
  expect(missing).toBe(false);
});

test("a hole is filled from the history, in order and without doubles", () => {
  const timeline = loaded(2);
  timeline.receive(messageAt(5));
  const added = timeline.mergeNewest([messageAt(5), messageAt(4), messageAt(3), messageAt(2)]);
  expect(positions(added)).toEqual([3, 4, 5]);
  expect(positions(timeline.messages)).toEqual([1, 2, 3, 4, 5]);
  expect(timeline.heldBack).toEqual([]);
});

test("a position that the history does not have was no message and does not block", () => {
  const timeline = loaded(2);
  timeline.receive(messageAt(5));
  const added = timeline.mergeNewest([messageAt(5), messageAt(3)], 5);
  expect(positions(added)).toEqual([3, 5]);
  expect(timeline.lastSeq).toBe(5);
});

test("a first page is news from the first live message on, as events of the rest may come late", () => {
  const timeline = new Timeline();
  timeline.receive(messageAt(41));
  expect(positions(timeline.mergeNewest(range(30, 42).map((seq) => messageAt(seq)), 41))).toEqual([41, 42]);
  expect(timeline.newsAfter).toBe(40);
  expect(timeline.receive(messageAt(42)).appended).toEqual([]);
  expect(positions(timeline.receive(messageAt(43)).appended)).toEqual([43]);
  expect(positions(timeline.messages)).toEqual(range(30, 43));
});

test("the first page is not news, but what came live meanwhile is", () => {
  const timeline = new Timeline();
  expect(timeline.receive(messageAt(51))).toEqual({ appended: [], missing: true });
  expect(timeline.receive(messageAt(52))).toEqual({ appended: [], missing: true });
  const news = timeline.mergeNewest(range(2, 51).map((seq) => messageAt(seq)));
  expect(positions(news)).toEqual([51, 52]);
  expect(positions(timeline.messages)).toEqual(range(2, 52));
});

test("a first page that begins after what came live is left for a fetch from there on", () => {
  const timeline = new Timeline();
  timeline.receive(messageAt(5));
  timeline.receive(messageAt(7));
  expect(positions(timeline.mergeNewest(range(60, 110).map((seq) => messageAt(seq))))).toEqual([5]);
  expect(timeline.lastSeq).toBe(5);
  expect(positions(timeline.mergeNewest(range(6, 110).map((seq) => messageAt(seq))))).toEqual(range(6, 110));
  expect(positions(timeline.messages)).toEqual(range(5, 110));
});

test("a conversation's very first message needs no history", () => {
  const timeline = new Timeline();
  expect(positions(timeline.receive(messageAt(1)).appended)).toEqual([1]);
  expect(timeline.lastSeq).toBe(1);
});

test("older pages go in front, and what they repeat is dropped", () => {
  const timeline = new Timeline();
  timeline.mergeNewest(range(5, 6).map((seq) => messageAt(seq)));
  expect(timeline.mergeOlder([messageAt(5), messageAt(4), messageAt(3)])).toBe(2);
  expect(timeline.mergeOlder([messageAt(4), messageAt(3)])).toBe(0);
  expect(positions(timeline.messages)).toEqual([3, 4, 5, 6]);
});

test("an older page brings nothing that follows the position from which the conversation is followed", () => {
  const timeline = new Timeline();
  timeline.startAfter(5);
  expect(timeline.mergeOlder(range(3, 6).map((seq) => messageAt(seq)))).toBe(3);
  expect(positions(timeline.receive(messageAt(6)).appended)).toEqual([6]);
  expect(positions(timeline.messages)).toEqual([3, 4, 5, 6]);
});

test("the oldest are dropped when there are too many, of which those scrolled back to do not count", () => {
  const timeline = new Timeline();
  timeline.mergeNewest(range(21, 40).map((seq) => messageAt(seq)));
  expect(timeline.trim(20)).toBe(false);
  timeline.mergeOlder(range(11, 20).map((seq) => messageAt(seq)));
  expect(timeline.trim(20)).toBe(false);
  timeline.receive(messageAt(41));
  expect(timeline.trim(20)).toBe(true);
  expect(positions(timeline.messages)).toEqual(range(24, 41));
  expect(timeline.trim(20)).toBe(false);
});

test("without a history the hole is accepted, and order still holds", () => {
  const timeline = new Timeline();
  timeline.receive(messageAt(8));
  timeline.receive(messageAt(7));
  expect(positions(timeline.skipHole())).toEqual([7, 8]);
});

test("whatever order events come in, the timeline ends up in seq order", () => {
  for (let round = 0; round < 200; round += 1) {
    const timeline = loaded(1);
    const shuffled = range(2, 12)
      .flatMap((seq) => [seq, seq])
      .map((seq) => ({ seq, key: Math.random() }))
      .sort((a, b) => a.key - b.key);
    const announced = shuffled.flatMap(({ seq }) => [...timeline.receive(messageAt(seq)).appended]);
    expect(positions(announced)).toEqual(range(2, 12));
    expect(positions(timeline.messages)).toEqual(range(1, 12));
  }
});
