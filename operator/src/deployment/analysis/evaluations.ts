/**
 * Smoke tests of candidates, and the same tests on a schedule of what serves, asked in the background: a reconcile looks at what is
 * known and never waits. Owns whose turn it is and when; how a pod is asked and judged is `smoke-tests.ts`'s.
 */
import { createHash } from 'node:crypto';
import { annotations, labels, type SLMDeployment } from '@slm-operator/crds';
import { type Clock, systemClock, type Timer } from '../../runtime/clock.ts';
import { type Channel, makeChannel } from '../../runtime/controller.ts';
import type { Logger } from '../../runtime/log.ts';
import { type PodObject, type ReplicaSetObject, revisionOf } from '../observed.ts';
import { isReady } from '../pod-causes.ts';
import { parseDuration } from '../quantity.ts';
import { likeness } from './likeness.ts';
import { hasPassed, smokeHash } from './smoke-note.ts';
import {
  evaluationNote,
  passedState,
  type RunOptions,
  type RunRequest,
  readEvaluationNote,
  runIdentity,
  SmokeRun,
} from './smoke-run.ts';
import type { AskedPod, Outcome } from './smoke-tests.ts';
import { NO_SMOKE, type SmokeState } from './types.ts';

/** Pods asked at the same time, of all deployments: each answer takes a slot of a server that has users. */
const CONCURRENCY = 4;
/** The first evaluation comes within this time after a rollout, or after a new leader: not all at once. Milliseconds. */
const SPREAD_MS = 60_000;
/** Shorter times would be load rather than measurement. */
const MIN_EVERY_MS = 10_000;

export interface EvaluationRequest {
  readonly deployment: SLMDeployment;
  /** The revision that a rollout brings; undefined when there is none under way. */
  readonly candidate: string | undefined;
  /** The revision that serves, and is to be evaluated on schedule; undefined while a rollout is under way. */
  readonly serving: string | undefined;
  readonly pods: readonly PodObject[];
  readonly sets: readonly ReplicaSetObject[];
}

/** What the last evaluation of a deployment said. */
export interface EvaluationResult {
  readonly namespace: string;
  readonly name: string;
  /** By test. */
  readonly scores: ReadonlyMap<string, number>;
  /** By test: 0 for what was answered first, 1 for something else altogether. */
  readonly drifts: ReadonlyMap<string, number>;
  /** Milliseconds since 1970; undefined before the first that could be asked. */
  readonly at: number | undefined;
  /** Evaluations that could not be asked. */
  readonly errors: number;
}

export interface Evaluations {
  /** Keys of deployments whose smoke tests say something new. */
  readonly source: Channel;
  /** Where the smoke tests are; asks what is to be asked. */
  look(key: string, request: EvaluationRequest): SmokeState;
  /** A deployment that is gone. */
  forget(key: string): void;
  /** Of all deployments that are evaluated. */
  results(): Iterable<EvaluationResult>;
}

export interface EvaluationsOptions {
  /** Asks a pod all tests. */
  readonly ask: (
    pod: AskedPod,
    tests: RunRequest['tests'],
    options: { readonly onlyUntilFailure: boolean; readonly signal: AbortSignal },
  ) => Promise<readonly Outcome[]>;
  readonly annotate: RunOptions['annotate'];
  readonly log?: Pick<Logger, 'info' | 'warn'> | undefined;
  readonly clock?: Clock | undefined;
}

export function makeEvaluations(options: EvaluationsOptions): Evaluations {
  return new BackgroundEvaluations(options);
}

interface Schedule {
  readonly identity: string;
  readonly ended: AbortController;
  timer: Timer | undefined;
}

interface Entry {
  request: EvaluationRequest;
  run: SmokeRun | undefined;
  schedule: Schedule | undefined;
  result: EvaluationResult | undefined;
}

class BackgroundEvaluations implements Evaluations {
  readonly source = makeChannel('Evaluations');
  readonly #options: EvaluationsOptions;
  readonly #clock: Clock;
  readonly #entries = new Map<string, Entry>();
  readonly #queue: (() => Promise<void>)[] = [];
  #running = 0;

  constructor(options: EvaluationsOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  look(key: string, request: EvaluationRequest): SmokeState {
    const { deployment } = request;
    const analysis = deployment.spec.strategy?.analysis;
    if (analysis?.smokeTests === undefined || analysis.smokeTests.length === 0) {
      this.forget(key);
      return NO_SMOKE;
    }
    const entry = this.#entries.get(key) ?? { request, run: undefined, schedule: undefined, result: undefined };
    this.#entries.set(key, entry);
    entry.request = request;
    this.#keepSchedule(key, entry);
    return this.#smoke(key, entry, analysis.smokeTests);
  }

  forget(key: string): void {
    const entry = this.#entries.get(key);
    entry?.run?.end();
    endSchedule(entry);
    this.#entries.delete(key);
  }

  *results(): Iterable<EvaluationResult> {
    for (const { result } of this.#entries.values()) if (result !== undefined) yield result;
  }

  #smoke(key: string, entry: Entry, tests: RunRequest['tests']): SmokeState {
    const { deployment, candidate, pods, sets } = entry.request;
    if (candidate === undefined || hasPassed(sets, candidate, tests)) {
      entry.run?.end();
      entry.run = undefined;
      return candidate === undefined ? NO_SMOKE : passedState(candidate, tests);
    }
    const request: RunRequest = {
      deployment,
      candidate,
      tests,
      pods: askable(pods, candidate),
      sets: sets.filter((set) => revisionOf(set) === candidate),
    };
    if (entry.run?.identity !== runIdentity(request)) {
      entry.run?.end();
      entry.run = new SmokeRun(this.#runOptions(key), request);
    }
    return entry.run.look(request);
  }

  #runOptions(key: string): RunOptions {
    return {
      clock: this.#clock,
      ask: (request, pod, signal) => this.#ask(request.deployment, pod, request.tests, true, signal),
      annotate: this.#options.annotate,
      changed: () => this.source.push(key),
    };
  }

  /** One after the other, a few at a time. */
  #ask(
    deployment: SLMDeployment,
    pod: PodObject,
    tests: RunRequest['tests'],
    onlyUntilFailure: boolean,
    signal: AbortSignal,
  ): Promise<readonly Outcome[]> {
    const { promise, resolve, reject } = Promise.withResolvers<readonly Outcome[]>();
    this.#queue.push(async () => {
      try {
        signal.throwIfAborted();
        const place = { deployment, ip: pod.status?.podIP ?? '' };
        resolve(await this.#options.ask(place, tests, { onlyUntilFailure, signal }));
      } catch (error) {
        if (!signal.aborted) this.#options.log?.info({ pod: pod.metadata?.name, problem: String(error) }, 'not asked');
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    });
    this.#next();
    return promise;
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

  #keepSchedule(key: string, entry: Entry): void {
    const { deployment, serving } = entry.request;
    const { evaluateEvery, smokeTests = [] } = deployment.spec.strategy?.analysis ?? {};
    if (evaluateEvery === undefined) entry.result = undefined;
    if (evaluateEvery === undefined || serving === undefined) {
      endSchedule(entry);
      return;
    }
    const identity = [serving, evaluateEvery, smokeHash(smokeTests)].join(' ');
    if (entry.schedule?.identity === identity) return;
    endSchedule(entry);
    const every = Math.max(MIN_EVERY_MS, parseDuration(evaluateEvery) ?? 0);
    const schedule: Schedule = { identity, ended: new AbortController(), timer: undefined };
    entry.schedule = schedule;
    const wait = (ms: number) => {
      schedule.timer = this.#clock.schedule(ms, () => {
        void this.#evaluate(entry, schedule).finally(() => {
          if (!schedule.ended.signal.aborted) wait(every);
        });
      });
    };
    wait(partOf(key) * Math.min(every, SPREAD_MS));
  }

  async #evaluate(entry: Entry, { ended: { signal } }: Schedule): Promise<void> {
    const { deployment, serving = '', pods, sets } = entry.request;
    const { metadata, spec } = deployment;
    const tests = spec.strategy?.analysis?.smokeTests ?? [];
    const before = entry.result;
    const { namespace = '', name } = metadata;
    const kept = { scores: new Map(), drifts: new Map(), at: undefined, errors: 0, ...before, namespace, name };
    // Nobody serves at zero replicas, and nobody drifts.
    const [pod] = askable(pods, serving);
    if (pod === undefined) return;
    try {
      const outcomes = await this.#ask(deployment, pod, tests, false, signal);
      const set = sets.find((one) => revisionOf(one) === serving);
      const note = set?.metadata?.annotations?.[annotations.evaluation];
      const first = readEvaluationNote(note, tests);
      entry.result = {
        ...kept,
        scores: new Map(outcomes.map((outcome) => [outcome.name, outcome.score])),
        drifts: new Map(outcomes.flatMap((outcome) => driftOf(outcome, first))),
        at: this.#clock.now(),
      };
      for (const { name: test, message } of outcomes.filter(({ passed }) => !passed))
        this.#options.log?.warn(
          { deployment: `${namespace}/${name}`, test, detail: message },
          'evaluation failed a test',
        );
      if (first === undefined && set !== undefined)
        await this.#options.annotate(set, { [annotations.evaluation]: evaluationNote(tests, outcomes) });
    } catch {
      // The age of the last evaluation tells it too; the log says why.
      if (!signal.aborted) entry.result = { ...(entry.result ?? kept), errors: kept.errors + 1 };
    }
  }
}

function endSchedule(entry: Entry | undefined): void {
  entry?.schedule?.ended.abort();
  entry?.schedule?.timer?.cancel();
  if (entry !== undefined) entry.schedule = undefined;
}

/** How far an answer is from the first; nothing of answers without text. */
function driftOf(
  { name, signature }: Outcome,
  first: Readonly<Record<string, unknown>> | undefined,
): [string, number][] {
  if (signature === undefined) return [];
  const reference = first?.[name];
  if (typeof reference !== 'string') return [[name, 0]];
  const alike = likeness(signature, reference);
  return alike === undefined ? [] : [[name, Math.round((1 - alike) * 1000) / 1000]];
}

/** Pods that answer. @param revision default: any */
export function askable(pods: readonly PodObject[], revision?: string): PodObject[] {
  return pods
    .filter((pod) => revision === undefined || pod.metadata?.labels?.[labels.revision] === revision)
    .filter((pod) => pod.metadata?.deletionTimestamp === undefined && Boolean(pod.status?.podIP) && isReady(pod))
    .toSorted((a, b) => (a.metadata?.name ?? '').localeCompare(b.metadata?.name ?? ''));
}

/** 0 to 1, the same for a key each time, so that deployments do not ask all at once. */
function partOf(key: string): number {
  return createHash('sha256').update(key).digest().readUInt16BE(0) / 0x1_00_00;
}
