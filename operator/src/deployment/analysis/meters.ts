/**
 * Reads the metrics of serving pods in the background while a rollout with metric gates is under way, and judges them. Owns whom to
 * read how often and what is remembered: readings of a window, and the numbers of the stable revision when they were last good
 * enough to compare with. Writes nothing; what is known goes with the process, and then a whole window is measured anew.
 */
import { type Analysis, labels } from '@slm-operator/crds';
import { type Clock, systemClock, type Timer } from '../../runtime/clock.ts';
import { type Channel, makeChannel } from '../../runtime/controller.ts';
import type { PodObject } from '../observed.ts';
import { isReady } from '../pod-causes.ts';
import { type PodPlace, placeOf } from '../pod-report.ts';
import { hasGates, judgeGates, MIN_REQUESTS, windowOf } from './judge.ts';
import { growth, type Numbers, type Reading, total, withBroken } from './numbers.ts';
import { type AskMetrics, makeAskMetrics } from './pod-metrics.ts';
import { type AnalysisItem, type AnalysisSubject, type GateState, NO_GATES } from './types.ts';

/** Pods read at the same time, of all deployments. */
const CONCURRENCY = 16;
/** Readings in a window: so much of it may be lost at its begin. */
const READINGS = 12;
const MIN_PAUSE_MS = 1000;
const MAX_PAUSE_MS = 10_000;

export interface MeterRequest {
  readonly analysis: Analysis | undefined;
  /** Undefined: no rollout is under way, and nothing is measured. */
  readonly subject: AnalysisSubject | undefined;
  /** All pods of the deployment. */
  readonly pods: readonly PodObject[];
  /** Whether they serve HTTPS. */
  readonly tls: boolean;
}

export interface Meters {
  /** Keys of deployments whose gates say something new. */
  readonly source: Channel;
  /** What the gates say now. Goes on measuring until it is asked without a subject. */
  look(key: string, request: MeterRequest): GateState;
  /** A deployment that is gone. */
  forget(key: string): void;
}

export interface MetersOptions {
  readonly clock?: Clock | undefined;
  readonly ask?: AskMetrics | undefined;
}

export function makeMeters({ clock = systemClock, ask = makeAskMetrics() }: MetersOptions = {}): Meters {
  return new BackgroundMeters(clock, ask);
}

interface Sample {
  /** Monotonic. */
  readonly at: number;
  readonly reading: Reading;
}

/** Samples of one pod, the oldest first. A pod that is gone counts until its samples are older than the window. */
interface Series {
  readonly revision: string;
  readonly samples: Sample[];
}

interface Watch {
  readonly key: string;
  request: MeterRequest & { readonly analysis: Analysis; readonly subject: AnalysisSubject };
  /** By uid of the pod. */
  readonly series: Map<string, Series>;
  /** Monotonic time from which the candidate has been measured in this step. */
  since: number | undefined;
  /** The stable revision, when it last had enough requests. */
  baseline: { readonly revision: string; readonly numbers: Numbers } | undefined;
  state: GateState;
  /** Monotonic time at which the numbers in `state` were taken. */
  statedAt: number;
  timer: Timer | undefined;
}

class BackgroundMeters implements Meters {
  readonly source = makeChannel('Meters');
  readonly #clock: Clock;
  readonly #ask: AskMetrics;
  readonly #watches = new Map<string, Watch>();
  readonly #queue: (() => Promise<void>)[] = [];
  #running = 0;

  constructor(clock: Clock, ask: AskMetrics) {
    this.#clock = clock;
    this.#ask = ask;
  }

  look(key: string, { analysis, subject, pods, tls }: MeterRequest): GateState {
    if (analysis === undefined || subject === undefined || !hasGates(analysis)) {
      this.forget(key);
      return NO_GATES;
    }
    const request = { analysis, subject, pods, tls };
    const watch = this.#watches.get(key) ?? this.#begin(key, request);
    const before = watch.request;
    watch.request = request;
    const same =
      subject.candidate === before.subject.candidate &&
      subject.since === before.subject.since &&
      JSON.stringify(analysis) === JSON.stringify(before.analysis);
    if (!same) {
      // What was measured in the step before says nothing of this one; the pods' counters go on from their last reading.
      watch.since = subject.since === undefined ? undefined : this.#lastCandidateSample(watch);
      watch.state = this.#judge(watch);
      watch.statedAt = this.#clock.monotonic();
    }
    return watch.state;
  }

  forget(key: string): void {
    this.#watches.get(key)?.timer?.cancel();
    this.#watches.delete(key);
  }

  #begin(key: string, request: Watch['request']): Watch {
    const watch: Watch = {
      key,
      request,
      series: new Map(),
      since: undefined,
      baseline: undefined,
      state: NO_GATES,
      statedAt: this.#clock.monotonic(),
      timer: undefined,
    };
    watch.state = this.#judge(watch);
    this.#watches.set(key, watch);
    void this.#read(watch);
    return watch;
  }

  /** Reads all pods once, judges, and comes back after a pause. */
  async #read(watch: Watch): Promise<void> {
    const { pods, subject, tls } = watch.request;
    const asked = pods.flatMap((pod) => {
      const revision = pod.metadata?.labels?.[labels.revision];
      const place = placeOf(pod, tls);
      const counts = revision !== undefined && (revision === subject.candidate || revision === subject.stable);
      return counts && place !== undefined && isReady(pod) ? [{ pod, revision, place }] : [];
    });
    await Promise.all(asked.map(({ pod, revision, place }) => this.#readPod(watch, pod, revision, place)));
    if (this.#watches.get(watch.key) !== watch) return;
    const window = windowOf(watch.request.analysis);
    const pause = Math.min(MAX_PAUSE_MS, Math.max(MIN_PAUSE_MS, window / READINGS));
    this.#prune(watch, window + 2 * pause);
    this.#restate(watch, window);
    watch.timer = this.#clock.schedule(pause, () => void this.#read(watch));
  }

  #readPod(watch: Watch, pod: PodObject, revision: string, place: PodPlace): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#queue.push(async () => {
      try {
        const reading = await this.#ask(place);
        this.#note(watch, pod.metadata?.uid ?? '', revision, reading);
      } catch {
        // A pod that cannot be read is one that nothing is known of; when it is all of them, the gate says so.
      }
      resolve();
    });
    this.#next();
    return promise;
  }

  #note(watch: Watch, uid: string, revision: string, reading: Reading): void {
    const at = this.#clock.monotonic();
    const series = watch.series.get(uid) ?? { revision, samples: [] };
    series.samples.push({ at, reading });
    watch.series.set(uid, series);
    const { candidate, since } = watch.request.subject;
    if (revision === candidate && since !== undefined) watch.since ??= at;
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

  #prune({ series }: Watch, age: number): void {
    const oldest = this.#clock.monotonic() - age;
    for (const [uid, { samples }] of series) {
      while (samples[0] !== undefined && samples[0].at < oldest) samples.shift();
      if (samples.length === 0) series.delete(uid);
    }
  }

  #lastCandidateSample({ series, request }: Watch): number | undefined {
    const times = [...series.values()]
      .filter(({ revision }) => revision === request.subject.candidate)
      .map(({ samples }) => samples.at(-1)?.at ?? Number.NEGATIVE_INFINITY);
    return times.length === 0 ? undefined : Math.max(...times);
  }

  /** Numbers that only moved a little are told once a window; they would cost a status write each. */
  #restate(watch: Watch, window: number): void {
    const state = this.#judge(watch);
    const now = this.#clock.monotonic();
    const news = view(state) !== view(watch.state);
    if (!news && now - watch.statedAt < window) return;
    const changed = JSON.stringify(state) !== JSON.stringify(watch.state);
    watch.state = state;
    watch.statedAt = now;
    if (changed) this.source.push(watch.key);
  }

  #judge(watch: Watch): GateState {
    const { analysis, subject, pods } = watch.request;
    const now = this.#clock.monotonic();
    const window = windowOf(analysis);
    const from = Math.max(now - window, watch.since ?? now);
    const own = watch.since === undefined ? undefined : grown(watch, subject.candidate, from);
    const seen = subject.stable === undefined ? undefined : grown(watch, subject.stable, from);
    const candidate = own && withBroken(own, seen);
    const live = subject.stable === undefined ? undefined : grown(watch, subject.stable, now - window);
    const stable = this.#baseline(watch, live);
    const stableGone = !pods.some((pod) => pod.metadata?.labels?.[labels.revision] === subject.stable);
    const over = watch.since !== undefined && now - watch.since >= window;
    return { ...judgeGates({ analysis, candidate, stable, stableGone, over }), subject };
  }

  /** The stable revision as it is, while it has enough requests; as it last was, once they went to the candidate. */
  #baseline(watch: Watch, live: Numbers | undefined): Numbers | undefined {
    const { analysis, subject } = watch.request;
    const known = watch.baseline?.revision === subject.stable ? watch.baseline?.numbers : undefined;
    if (subject.stable === undefined || live === undefined) return known;
    if (live.answers < (analysis.minRequests ?? MIN_REQUESTS)) return known ?? live;
    watch.baseline = { revision: subject.stable, numbers: live };
    return live;
  }
}

/** What pods of a revision did since then, all together; undefined when none could be read since. */
function grown({ series }: Watch, wanted: string, from: number): Numbers | undefined {
  const parts: Numbers[] = [];
  let known = false;
  for (const { revision, samples } of series.values()) {
    if (revision !== wanted) continue;
    const inside = samples.filter(({ at }) => at >= from);
    known ||= inside.length > 0;
    // From reading to reading, so that a restart in between is seen.
    for (const [index, { reading }] of inside.entries()) {
      const before = inside[index - 1];
      if (before !== undefined) parts.push(growth(before.reading, reading));
    }
  }
  return known ? total(parts) : undefined;
}

/** What of a state makes a difference to a rollout. */
function view({ result, items }: GateState): string {
  return JSON.stringify([result, items.map(({ name, result: one }: AnalysisItem) => [name, one])]);
}
