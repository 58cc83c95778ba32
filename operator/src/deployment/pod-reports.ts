/**
 * What serving pods say of themselves, asked in the background: a reconcile looks at what is known and never waits. Owns
 * when a pod is asked, how often, and which deployment is woken by an answer; writes nothing. What is known goes with the
 * process and is asked for again after a restart.
 */
import { pod as podContract, type ReadyReport } from '@slm-operator/crds';
import { type Clock, systemClock } from '../runtime/clock.ts';
import { type Channel, makeChannel } from '../runtime/controller.ts';
import type { PodObject } from './observed.ts';
import { isReady } from './pod-causes.ts';
import { type AskPod, makeAskPod, placeOf } from './pod-report.ts';
import { weightOf } from './traffic/state.ts';

/** Pods asked at the same time. */
const CONCURRENCY = 16;
/** Pauses after asking in vain; then the pod is left alone until its container starts anew. */
const RETRY_MS = [2000, 10_000, 60_000];
/** How old may be what a pod said that is not ready; it tells why. */
const UNREADY_AGE_MS = 5000;
/** How old may be what a pod said that does not pass on yet, or no more, what it was told to. */
const TRAFFIC_AGE_MS = 1000;
/** How old may be what a pod said that passes requests on: it tells when it cannot. */
const PASSING_AGE_MS = 10_000;
/** How long news of a first start may hold up a status, so that one write tells all. */
const HOLD_MS = 300;

/** What a pod said. */
export interface PodReport extends ReadyReport {
  /** Wall clock, milliseconds since 1970. */
  readonly at: number;
}

export interface LookOptions {
  /** Whether the pods serve HTTPS. */
  readonly tls: boolean;
  /** Pods that run and are not ready are asked why. Default: only ready ones are asked. */
  readonly unready?: boolean | undefined;
  /** How old may be what is known of whether a pod serves somebody, in milliseconds. Default: that is not asked for. */
  readonly activityMs?: number | undefined;
}

export interface Look {
  /** By uid of the pod. */
  readonly reports: ReadonlyMap<string, PodReport>;
  /** Milliseconds after which it is worth looking again; undefined: an answer will wake the deployment. */
  readonly again: number | undefined;
  /** A first answer is on its way and will be here in a moment: a status may wait for it for so long, in milliseconds. */
  readonly hold: number | undefined;
}

export interface PodReports {
  /** Keys of deployments whose pods said something new. */
  readonly source: Channel;
  /** What is known of a deployment's pods; asks for what is not. */
  look(key: string, pods: readonly PodObject[], options: LookOptions): Look;
  /** A deployment that is gone. */
  forget(key: string): void;
}

export interface PodReportsOptions {
  readonly clock?: Clock | undefined;
  readonly ask?: AskPod | undefined;
}

interface Entry {
  /** Changes when the container starts anew. */
  readonly life: string;
  report: PodReport | undefined;
  /** Asked in vain so often in a row. */
  failures: number;
  /** Monotonic time of the last question and answer. */
  askedAt: number | undefined;
  answeredAt: number | undefined;
  asking: boolean;
  /** The kubelet called the pod ready when it was last asked. */
  ready: boolean;
}

export function makePodReports({ clock = systemClock, ask = makeAskPod() }: PodReportsOptions = {}): PodReports {
  return new BackgroundReports(clock, ask);
}

class BackgroundReports implements PodReports {
  readonly source = makeChannel('PodReports');
  readonly #clock: Clock;
  readonly #ask: AskPod;
  /** By deployment, then by uid of the pod. */
  readonly #known = new Map<string, Map<string, Entry>>();
  readonly #queue: (() => Promise<void>)[] = [];
  #running = 0;
  /** The last pod that was asked answered. Where none does, no status waits. */
  #answering = true;

  constructor(clock: Clock, ask: AskPod) {
    this.#clock = clock;
    this.#ask = ask;
  }

  look(key: string, pods: readonly PodObject[], options: LookOptions): Look {
    const before = this.#known.get(key);
    const entries = new Map<string, Entry>();
    const reports = new Map<string, PodReport>();
    const again: number[] = [];
    const hold: number[] = [];
    for (const pod of pods) {
      const uid = pod.metadata?.uid;
      const life = lifeOf(pod);
      if (uid === undefined || life === undefined) continue;
      const known = before?.get(uid);
      const entry = known?.life === life ? known : fresh(life);
      entries.set(uid, entry);
      const due = this.#due(entry, pod, options);
      if (due !== undefined && due <= 0) this.#enqueue(key, entry, pod, options.tls);
      else if (due !== undefined) again.push(due);
      // An answer that says nothing new wakes nobody; without this, what did not follow yet would never be asked again.
      const pace = Math.min(options.activityMs ?? Number.POSITIVE_INFINITY, trafficAge(entry.report, pod));
      if (entry.asking && pace < Number.POSITIVE_INFINITY) again.push(pace);
      if (entry.report !== undefined) reports.set(uid, entry.report);
      const isNew = entry.report?.device === undefined && entry.failures === 0;
      if (isNew && entry.asking && isReady(pod)) hold.push(this.#heldFor(entry));
    }
    if (entries.size === 0) this.#known.delete(key);
    else this.#known.set(key, entries);
    const longest = Math.max(0, ...hold);
    return {
      reports,
      again: again.length === 0 ? undefined : Math.min(...again),
      hold: this.#answering && longest > 0 ? longest : undefined,
    };
  }

  forget(key: string): void {
    this.#known.delete(key);
  }

  /** Milliseconds until this pod is to be asked; 0 or less: now. Undefined: not at all. */
  #due(entry: Entry, pod: PodObject, { unready, activityMs, tls }: LookOptions): number | undefined {
    if (entry.asking || placeOf(pod, tls) === undefined) return undefined;
    const now = this.#clock.monotonic();
    const traffic = trafficAge(entry.report, pod);
    if (entry.failures > 0) {
      // What a rollout waits for is asked for as long as it takes.
      const pause = RETRY_MS[entry.failures - 1] ?? (traffic < Number.POSITIVE_INFINITY ? PASSING_AGE_MS : undefined);
      return pause === undefined ? undefined : (entry.askedAt ?? now) + pause - now;
    }
    const ready = isReady(pod);
    if (!ready && unready !== true) return undefined;
    // What was said before it was ready is not all that there is to say.
    if (entry.answeredAt === undefined || (ready && !entry.ready)) return 0;
    const age = now - entry.answeredAt;
    if (!ready || entry.report?.reason !== undefined) return UNREADY_AGE_MS - age;
    const allowed = Math.min(activityMs ?? Number.POSITIVE_INFINITY, traffic);
    return allowed === Number.POSITIVE_INFINITY ? undefined : allowed - age;
  }

  #heldFor({ askedAt }: Entry): number {
    return HOLD_MS - (askedAt === undefined ? 0 : this.#clock.monotonic() - askedAt);
  }

  #enqueue(key: string, entry: Entry, pod: PodObject, tls: boolean): void {
    const place = placeOf(pod, tls);
    if (place === undefined) return;
    entry.asking = true;
    entry.ready = isReady(pod);
    entry.askedAt = this.#clock.monotonic();
    this.#queue.push(async () => {
      entry.askedAt = this.#clock.monotonic();
      try {
        const said = await this.#ask(place);
        this.#answered(key, entry, { ...said, at: this.#clock.now() });
      } catch {
        // Why does not matter: readiness is the kubelet's to judge, and a pod that says nothing is shown without a device.
        entry.failures++;
        this.#answering = false;
      }
      entry.asking = false;
      if (entry.failures > 0) this.source.push(key);
    });
    this.#next();
  }

  #answered(key: string, entry: Entry, report: PodReport): void {
    const before = entry.report;
    entry.report = report;
    entry.answeredAt = this.#clock.monotonic();
    entry.failures = 0;
    this.#answering = true;
    if (isNews(before, report)) this.source.push(key);
  }

  #next(): void {
    while (this.#running < CONCURRENCY) {
      const task = this.#queue.shift();
      if (task === undefined) return;
      this.#running++;
      void task().finally(() => {
        this.#running--;
        this.#next();
      });
    }
  }
}

function fresh(life: string): Entry {
  return {
    life,
    report: undefined,
    failures: 0,
    askedAt: undefined,
    answeredAt: undefined,
    asking: false,
    ready: false,
  };
}

/** How old may be what a pod said about traffic; servers from before there was any say nothing, however often they are asked. */
function trafficAge(report: PodReport | undefined, pod: PodObject): number {
  const told = weightOf(pod);
  if (report?.traffic === undefined || report.traffic.weight === told) {
    return told === undefined || report?.traffic === undefined ? Number.POSITIVE_INFINITY : PASSING_AGE_MS;
  }
  return TRAFFIC_AGE_MS;
}

/** Which start of the server this is; undefined while it does not run. */
function lifeOf(pod: PodObject): string | undefined {
  if (pod.metadata?.deletionTimestamp !== undefined || pod.status?.phase !== 'Running') return undefined;
  const container = pod.status.containerStatuses?.find(({ name }) => name === podContract.container);
  if (container !== undefined && container.state?.running === undefined) return undefined;
  return `${container?.restartCount ?? 0} ${container?.state?.running?.startedAt ?? ''} ${pod.status.podIP}`;
}

/** Whether an answer tells something that a plan depends on: what it computes on, why it is not ready, idle or not. */
function isNews(before: PodReport | undefined, after: PodReport): boolean {
  if (before === undefined) return true;
  const view = ({ device, tokensPerSecond, running, reason, message, traffic }: PodReport) =>
    JSON.stringify([device, tokensPerSecond, (running ?? 1) === 0, reason, message, traffic]);
  return view(before) !== view(after);
}
