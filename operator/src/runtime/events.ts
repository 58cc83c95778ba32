/**
 * Events about objects (`events.k8s.io/v1`), for people who run `kubectl describe`. Owns deduplication into series and
 * the limits on writing. Never holds up a reconcile and never fails one.
 */
import { hostname } from 'node:os';
import type { KubeClient } from '../kube/client.ts';
import { isNotFound } from '../kube/errors.ts';
import type { ResourceType } from '../kube/resource.ts';
import {
  apiVersionOf,
  Event,
  type EventObject,
  type KubeObject,
  type ObjectReference,
  refOf,
} from '../kube/resource.ts';
import { type Clock, systemClock } from './clock.ts';
import { toMicroTime } from './conditions.ts';
import type { Logger } from './log.ts';

/** What to tell about an object. */
export interface EventMessage {
  /** Default Normal. */
  readonly type?: 'Normal' | 'Warning' | undefined;
  /** CamelCase, at most 128 characters. */
  readonly reason: string;
  /** What the controller did or tried, CamelCase, at most 128 characters. Default: the reason. */
  readonly action?: string | undefined;
  /** For people; cut at 1024 bytes. */
  readonly note: string;
}

export interface EventRecorder {
  /** Returns at once; writing happens behind, and its failure is logged, never thrown. */
  record<T extends KubeObject>(type: ResourceType<T>, regarding: NoInfer<T>, message: EventMessage): void;
  /** Writes what is still to write, for shutdown. Gives up when aborted. Never rejects. */
  flush(signal?: AbortSignal): Promise<void>;
}

export interface EventRecorderOptions {
  readonly client: Pick<KubeClient, 'create' | 'patch'>;
  readonly log: Logger;
  /** `reportingController`, for example `example.com/widget-operator`. */
  readonly controller: string;
  /** `reportingInstance`. Default: the host name. */
  readonly instance?: string | undefined;
  readonly clock?: Clock | undefined;
}

/** The same event within this time belongs to the same series. */
const SERIES_MS = 6 * 60_000;
/** A running series is written at most this often; the first repetition is written at once. */
const SERIES_WRITE_MS = 60_000;
/** Writes for one object: a burst, then one for each period. A flapping object must not drown the others. */
const OBJECT_BURST = 25;
const OBJECT_REFILL_MS = 60_000;
const MAX_PENDING = 1000;
const MAX_NOTE_BYTES = 1024;
const MAX_WORD = 128;

interface Series {
  readonly event: EventObject;
  count: number;
  lastAt: number;
  lastMicroTime: string;
  /** True once the server has it. */
  stored: boolean;
  writtenAt: number;
  writtenCount: number;
  /** Waits for its turn, or is being written. */
  queued: boolean;
}

interface Bucket {
  tokens: number;
  at: number;
}

export function makeEventRecorder(options: EventRecorderOptions): EventRecorder {
  return new SeriesRecorder(options);
}

class SeriesRecorder implements EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #clock: Clock;
  readonly #instance: string;
  readonly #series = new Map<string, Series>();
  readonly #buckets = new Map<string, Bucket>();
  readonly #pending: Series[] = [];
  #writing: Promise<void> | undefined;
  #dropped = 0;
  #lastName = 0;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#instance = (options.instance ?? hostname()).slice(0, MAX_WORD);
  }

  record<T extends KubeObject>(type: ResourceType<T>, regarding: T, message: EventMessage): void {
    try {
      this.#record(type, regarding, message);
    } catch (error) {
      this.#options.log.warn({ err: error, reason: message.reason }, 'event not recorded');
    }
  }

  async flush(signal?: AbortSignal): Promise<void> {
    for (const series of this.#series.values()) if (series.count > series.writtenCount) this.#enqueue(series);
    const aborted = new Promise<void>((resolve) => {
      if (signal?.aborted) resolve();
      else signal?.addEventListener('abort', () => resolve(), { once: true });
    });
    await Promise.race([this.#writing ?? Promise.resolve(), aborted]);
  }

  #record(type: ResourceType, regarding: KubeObject, message: EventMessage): void {
    const now = this.#clock.monotonic();
    this.#prune(now);
    const event = this.#makeEvent(type, regarding, message);
    const { uid } = event.regarding;
    const key = [
      event.regarding.kind,
      event.metadata?.namespace,
      event.regarding.name,
      uid,
      event.type,
      event.reason,
      event.action,
      event.note,
    ].join('\n');
    const running = this.#series.get(key);
    if (running !== undefined) {
      running.count += 1;
      running.lastAt = now;
      running.lastMicroTime = event.eventTime;
      const first = running.writtenCount === 1;
      if (first || now - running.writtenAt >= SERIES_WRITE_MS) this.#enqueue(running);
      return;
    }
    if (!this.#mayWrite(uid ?? key, now)) {
      this.#dropped += 1;
      return;
    }
    const series: Series = {
      event,
      count: 1,
      lastAt: now,
      lastMicroTime: event.eventTime,
      stored: false,
      writtenAt: now,
      writtenCount: 0,
      queued: false,
    };
    this.#series.set(key, series);
    this.#enqueue(series);
  }

  #makeEvent(type: ResourceType, regarding: KubeObject, message: EventMessage): EventObject {
    const { name, namespace } = refOf(regarding);
    const reference: ObjectReference = {
      apiVersion: apiVersionOf(type),
      kind: type.kind,
      name,
      ...(namespace === undefined ? {} : { namespace }),
      uid: regarding.metadata?.uid,
      resourceVersion: regarding.metadata?.resourceVersion,
    };
    const wall = this.#clock.now();
    // Names must differ; a clock that stands still or jumps back must not make two the same.
    this.#lastName = Math.max(this.#lastName + 1, Math.floor(wall * 1000));
    return {
      metadata: { name: `${name.slice(0, 230)}.${this.#lastName.toString(36)}`, namespace: namespace ?? 'default' },
      eventTime: toMicroTime(wall),
      reportingController: this.#options.controller,
      reportingInstance: this.#instance,
      action: (message.action ?? message.reason).slice(0, MAX_WORD),
      reason: message.reason.slice(0, MAX_WORD),
      type: message.type ?? 'Normal',
      note: cutBytes(message.note, MAX_NOTE_BYTES),
      regarding: reference,
    };
  }

  #enqueue(series: Series): void {
    if (series.queued) return;
    if (this.#pending.length >= MAX_PENDING) {
      this.#dropped += 1;
      return;
    }
    series.queued = true;
    this.#pending.push(series);
    this.#writing ??= this.#drain();
  }

  async #drain(): Promise<void> {
    for (let series = this.#pending.shift(); series !== undefined; series = this.#pending.shift()) {
      try {
        await this.#write(series);
      } catch (error) {
        this.#options.log.warn({ err: error, reason: series.event.reason }, 'event not written');
      }
      series.queued = false;
      // Repetitions that came while the first was on its way.
      if (series.writtenCount === 1 && series.count > 1) this.#enqueue(series);
    }
    if (this.#dropped > 0) this.#options.log.warn({ dropped: this.#dropped }, 'events dropped, too many at once');
    this.#dropped = 0;
    this.#writing = undefined;
  }

  async #write(series: Series): Promise<void> {
    const { client } = this.#options;
    const { count } = series;
    series.writtenAt = this.#clock.monotonic();
    const summary = { count, lastObservedTime: series.lastMicroTime };
    if (series.stored) {
      try {
        await client.patch(Event, refOf(series.event), 'merge', { series: summary });
        series.writtenCount = count;
        return;
      } catch (error) {
        // Events live an hour; a longer series begins anew.
        if (!isNotFound(error)) throw error;
      }
    }
    await client.create(Event, count > 1 ? { ...series.event, series: summary } : series.event);
    series.stored = true;
    series.writtenCount = count;
  }

  #mayWrite(object: string, now: number): boolean {
    const bucket = this.#buckets.get(object) ?? { tokens: OBJECT_BURST, at: now };
    bucket.tokens = Math.min(OBJECT_BURST, bucket.tokens + (now - bucket.at) / OBJECT_REFILL_MS);
    bucket.at = now;
    this.#buckets.set(object, bucket);
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }

  /** Ends series that have been quiet, writing the count they reached; forgets objects that were long quiet. */
  #prune(now: number): void {
    for (const [key, series] of this.#series) {
      if (now - series.lastAt < SERIES_MS || series.queued) continue;
      if (series.count > series.writtenCount && series.stored) this.#enqueue(series);
      this.#series.delete(key);
    }
    for (const [key, bucket] of this.#buckets) {
      if (now - bucket.at > OBJECT_BURST * OBJECT_REFILL_MS) this.#buckets.delete(key);
    }
  }
}

function cutBytes(text: string, limit: number): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= limit) return text;
  // Leaves room for the ellipsis, and drops a character that was cut in the middle.
  return `${bytes
    .subarray(0, limit - 3)
    .toString('utf8')
    .replace(/\uFFFD$/, '')}…`;
}
