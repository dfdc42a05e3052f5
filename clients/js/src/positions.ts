import type { Message, MessageStatus, Position } from "./protocol.js";

const NOWHERE = { deliveredSeq: 0, readSeq: 0 } as const;
const RANK: Readonly<Record<MessageStatus, number>> = { SENT: 0, DELIVERED: 1, READ: 2 };

/** How far each participant of one conversation has come; positions only ever move forward. */
export class Positions {
  #of = new Map<string, Omit<Position, "userId">>();

  of(userId: string): Omit<Position, "userId"> {
    return this.#of.get(userId) ?? NOWHERE;
  }

  /** Takes what the service said, in whatever order it came; returns whether anything moved. */
  advance({ userId, deliveredSeq, readSeq }: Position): boolean {
    const known = this.of(userId);
    const read = Math.max(known.readSeq, readSeq);
    // Reading implies having got it.
    const delivered = Math.max(known.deliveredSeq, deliveredSeq, read);
    if (read === known.readSeq && delivered === known.deliveredSeq) return false;
    this.#of.set(userId, { deliveredSeq: delivered, readSeq: read });
    return true;
  }

  /** What the others have done with a message, as far as its copy or the positions tell. */
  statusOf(message: Message): MessageStatus {
    let status = message.status;
    for (const [userId, { deliveredSeq, readSeq }] of this.#of) {
      if (userId === message.senderId) continue;
      const reached = message.seq <= readSeq ? "READ" : message.seq <= deliveredSeq ? "DELIVERED" : "SENT";
      if (RANK[reached] > RANK[status]) status = reached;
    }
    return status;
  }
}
