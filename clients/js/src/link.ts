import mqtt, { type IConnackPacket, type IPublishPacket, type MqttClient } from "mqtt";
import { within } from "./within.js";

/** What one transport connection to the broker needs. */
export interface LinkOptions {
  readonly url: string;
  readonly clientId: string;
  readonly username: string;
  readonly token: string;
  readonly filter: string;
  /** How long the broker keeps the session, with undelivered events, after the connection is gone. */
  readonly sessionExpirySeconds: number;
  readonly keepaliveSeconds: number;
  readonly connectTimeoutMs: number;
  /** What the broker publishes for this client when the connection is lost without a goodbye. */
  readonly will: { readonly topic: string; readonly payload: string };
  readonly onMessage: (topic: string, payload: Uint8Array, correlation: string | undefined) => void;
}

/** Why a link ended or could not be made. `takenOver`: another connection uses this client id. */
export class LinkError extends Error {
  constructor(
    message: string,
    readonly reasonCode?: number,
  ) {
    super(message);
    this.name = "LinkError";
  }

  get takenOver(): boolean {
    return this.reasonCode === 0x8e;
  }
}

/** The broker did not take one message, as for a quota; the link goes on. */
export class PublishRefusedError extends Error {
  constructor(
    message: string,
    readonly reasonCode: number,
  ) {
    super(message);
    this.name = "PublishRefusedError";
  }
}

/**
 * One MQTT 5 connection, from CONNECT to its end; never reconnects by itself.
 *
 * MQTT.js is confined to this module. Its own reconnect has a fixed pause and
 * gives up on an authentication error, so it is switched off.
 */
export class Link {
  /** Resolves once, with the reason, when the connection is over. */
  readonly ended: Promise<LinkError>;
  #client: MqttClient;
  #finish: (reason: LinkError) => void = () => undefined;
  #reason: LinkError | undefined;
  /** Whoever waits for the broker. `ended` would keep a reaction for each of them until the link is over. */
  #waiting = new Set<(reason: LinkError) => void>();
  #slots = MAX_UNACKNOWLEDGED;
  #queue: (() => void)[] = [];

  /** Begins to connect; `ready` says when that is done. */
  constructor(private readonly options: LinkOptions) {
    const client = mqtt.connect(options.url, {
      protocolVersion: 5,
      clientId: options.clientId,
      username: options.username,
      password: options.token,
      clean: false,
      keepalive: options.keepaliveSeconds,
      connectTimeout: options.connectTimeoutMs,
      reconnectPeriod: 0,
      resubscribe: false,
      properties: { sessionExpiryInterval: options.sessionExpirySeconds },
      will: { topic: options.will.topic, payload: bytes(options.will.payload), qos: 1, retain: false },
    });
    this.#client = client;
    this.ended = new Promise((resolve) => {
      this.#finish = (reason) => {
        this.#reason ??= reason;
        for (const interrupt of this.#waiting) interrupt(this.#reason);
        resolve(this.#reason);
      };
    });
    let reason: LinkError | undefined;
    client.on("disconnect", (packet) => {
      reason ??= new LinkError("The broker ended the session", packet.reasonCode);
    });
    client.on("error", (error) => {
      reason ??= asLinkError(error);
    });
    client.on("close", () => this.#finish(reason ?? new LinkError("The connection to the broker was lost")));
    client.on("message", (topic, payload, packet) => options.onMessage(topic, payload, correlationOf(packet)));
  }

  /**
   * Resolves when connected and subscribed; else the link is closed.
   *
   * @throws LinkError when the broker refuses or does not answer in time, or the link is closed meanwhile.
   */
  async ready(): Promise<void> {
    const { connectTimeoutMs } = this.options;
    try {
      await this.#answer(connected(this.#client), connectTimeoutMs);
      await this.probe(connectTimeoutMs);
    } catch (error) {
      this.drop();
      throw asLinkError(error);
    }
  }

  get isOpen(): boolean {
    return this.#reason === undefined && this.#client.connected;
  }

  /**
   * Resolves when the broker has taken the message; which says nothing about durability.
   *
   * @throws PublishRefusedError when it does not take it, LinkError when the link ends before.
   */
  async publish(topic: string, payload: string, correlation: string): Promise<void> {
    // MQTT.js does not count for itself what the broker's Receive Maximum allows.
    if (this.#slots > 0) this.#slots -= 1;
    else await new Promise<void>((resolve) => this.#queue.push(resolve));
    try {
      if (!this.isOpen) throw new LinkError("Not connected");
      const sent = this.#client.publishAsync(topic, payload, {
        qos: 1,
        properties: { correlationData: bytes(correlation) },
      });
      await this.#whileOpen(sent);
    } catch (error) {
      throw asPublishError(error);
    } finally {
      const next = this.#queue.shift();
      if (next) next();
      else this.#slots += 1;
    }
  }

  /** At QoS 0: arrives or not. */
  signal(topic: string, payload: string): void {
    if (this.isOpen) this.#client.publish(topic, payload, { qos: 0 });
  }

  /**
   * Subscribes (again), which the broker has to answer: proof that both directions work.
   *
   * @throws LinkError when no answer comes in time or the subscription is refused.
   */
  async probe(timeoutMs: number): Promise<void> {
    const subscribed = this.#client.subscribeAsync(this.options.filter, { qos: 1 });
    await this.#answer(subscribed, timeoutMs);
  }

  /** Says goodbye, then closes; the broker's session stays. */
  async close(): Promise<void> {
    if (this.isOpen) {
      // Without force, MQTT.js waits for PUBACKs, which a broker in trouble may never send.
      const goodbye = this.#client.endAsync(false, { reasonCode: 0 });
      await within(GOODBYE_TIMEOUT_MS, goodbye, noAnswer).catch(() => undefined);
    }
    this.drop();
  }

  /** Closes at once. */
  drop(): void {
    this.#client.end(true);
    // `end` does nothing while an earlier, graceful one still waits for a PUBACK.
    this.#client.stream.destroy();
    this.#finish(new LinkError("Closed by this client"));
  }

  async #answer<Result>(work: Promise<Result>, timeoutMs: number): Promise<Result> {
    return await within(timeoutMs, this.#whileOpen(work), noAnswer);
  }

  /** @throws LinkError when the link is over before the work is done. */
  async #whileOpen<Result>(work: Promise<Result>): Promise<Result> {
    let interrupt: (reason: LinkError) => void = () => undefined;
    const over = new Promise<never>((_, reject) => (interrupt = reject));
    this.#waiting.add(interrupt);
    if (this.#reason !== undefined) interrupt(this.#reason);
    try {
      return await Promise.race([work, over]);
    } finally {
      this.#waiting.delete(interrupt);
    }
  }
}

const GOODBYE_TIMEOUT_MS = 1000;
/** PUBLISH packets at QoS 1 without a PUBACK; below the 20 that a Mosquitto allows by default. */
const MAX_UNACKNOWLEDGED = 16;

/** MQTT.js types bytes as Node's Buffer, which a browser does not have; any bytes will do. */
const bytes = (text: string): Buffer => new TextEncoder().encode(text) as Buffer;

const connected = (client: MqttClient): Promise<IConnackPacket> =>
  new Promise((resolve) => client.once("connect", resolve));

const noAnswer = (): LinkError => new LinkError("The broker did not answer in time");

/** MQTT.js gives a reason code with a refusal (PUBACK) only. */
function asPublishError(error: unknown): LinkError | PublishRefusedError {
  const cause = asLinkError(error);
  if (cause === error || cause.reasonCode === undefined) return cause;
  return new PublishRefusedError(cause.message, cause.reasonCode);
}

function asLinkError(error: unknown): LinkError {
  if (error instanceof LinkError) return error;
  const code = (error as { code?: unknown }).code;
  const message = error instanceof Error ? error.message : String(error);
  return new LinkError(message, typeof code === "number" ? code : undefined);
}

function correlationOf(packet: IPublishPacket): string | undefined {
  const data = packet.properties?.correlationData;
  return data === undefined ? undefined : new TextDecoder().decode(data);
}
