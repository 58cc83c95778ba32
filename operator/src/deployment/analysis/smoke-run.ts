/**
 * The smoke tests of one candidate: waits for a pod that can be asked, asks it, tries again while nothing can be said of the model,
 * and notes on the revision that it passed. Owns one run from its begin to its end; whose turn it is, is told from outside.
 */
import { annotations, type SLMDeployment, type SmokeTest } from '@slm-operator/crds';
import type { Clock, Timer } from '../../runtime/clock.ts';
import type { PodObject, ReplicaSetObject } from '../observed.ts';
import { problemOf } from './expectations.ts';
import { AskError } from './model-client.ts';
import { smokeHash, smokeNote } from './smoke-note.ts';
import type { Outcome } from './smoke-tests.ts';
import type { AnalysisItem, SmokeState } from './types.ts';

/** Pauses while nothing can be said of the model; the last one again and again. The rollout has a deadline of its own. */
const PAUSES_MS = [1000, 2000, 5000, 10_000, 30_000];

export interface RunRequest {
  readonly deployment: SLMDeployment;
  readonly candidate: string;
  readonly tests: readonly SmokeTest[];
  /** Ready pods of the candidate. */
  readonly pods: readonly PodObject[];
  /** ReplicaSets of the candidate. */
  readonly sets: readonly ReplicaSetObject[];
}

export interface RunOptions {
  readonly clock: Clock;
  /** Asks a pod all tests, when it is this run's turn. Rejects with {@link AskError} when nothing can be said. */
  readonly ask: (request: RunRequest, pod: PodObject, signal: AbortSignal) => Promise<readonly Outcome[]>;
  /** Writes annotations on a ReplicaSet. */
  readonly annotate: (set: ReplicaSetObject, annotations: Readonly<Record<string, string>>) => Promise<void>;
  /** The state is another one now. */
  readonly changed: () => void;
}

/** What tells one run from another: the revision, the tests, and a person's wish to try again. */
export function runIdentity({ deployment, candidate, tests }: Omit<RunRequest, 'pods' | 'sets'>): string {
  return [candidate, smokeHash(tests), deployment.metadata.annotations?.[annotations.retry] ?? ''].join(' ');
}

export class SmokeRun {
  readonly identity: string;
  readonly #options: RunOptions;
  readonly #ended = new AbortController();
  #request: RunRequest;
  #state: SmokeState;
  #tries = 0;
  #asking = false;
  #pause: Timer | undefined;

  constructor(options: RunOptions, request: RunRequest) {
    this.#options = options;
    this.#request = request;
    this.identity = runIdentity(request);
    const problem = request.tests.map(problemOf).find((sentence) => sentence !== undefined);
    this.#state =
      problem === undefined
        ? this.#running('waits for a pod of the new revision')
        : { state: 'failed', candidate: request.candidate, message: problem, results: [] };
  }

  /** The same run, as it is seen now. Begins to ask as soon as there is a pod. */
  look(request: RunRequest): SmokeState {
    this.#request = request;
    if (this.#state.state === 'running' && !this.#asking && this.#pause === undefined) this.#begin();
    return this.#state;
  }

  end(): void {
    this.#ended.abort();
    this.#pause?.cancel();
  }

  #running(what: string): SmokeState {
    return { state: 'running', candidate: this.#request.candidate, message: `smoke tests: ${what}`, results: [] };
  }

  #begin(): void {
    const { pods } = this.#request;
    // Another one each time: the first may be the one that cannot be asked.
    const pod = pods.length === 0 ? undefined : pods[this.#tries % pods.length];
    if (pod === undefined) return;
    this.#asking = true;
    if (this.#tries === 0) this.#state = this.#running(`${pod.metadata?.name} is being asked`);
    void this.#ask(pod).finally(() => {
      this.#asking = false;
      if (!this.#ended.signal.aborted) this.#options.changed();
    });
  }

  async #ask(pod: PodObject): Promise<void> {
    const request = this.#request;
    try {
      const outcomes = await this.#options.ask(request, pod, this.#ended.signal);
      await this.#finish(request, outcomes);
    } catch (error) {
      if (this.#ended.signal.aborted) return;
      const why = error instanceof AskError ? error.message : 'the operator cannot ask now; its log says why';
      this.#state = this.#running(`${pod.metadata?.name} cannot be asked: ${why}`);
      const pause = PAUSES_MS[Math.min(this.#tries, PAUSES_MS.length - 1)] ?? 0;
      this.#tries++;
      this.#pause = this.#options.clock.schedule(pause, () => {
        this.#pause = undefined;
        this.#begin();
      });
    }
  }

  async #finish(request: RunRequest, outcomes: readonly Outcome[]): Promise<void> {
    const { candidate, tests, sets, deployment } = request;
    const failed = outcomes.find(({ passed }) => !passed);
    if (failed !== undefined) {
      const message = `smoke test ${failed.name}: ${failed.message}`;
      this.#state = { state: 'failed', candidate, message, results: outcomes.map(itemOf) };
      return;
    }
    this.#state = passedState(candidate, tests);
    const [set] = sets;
    if (set === undefined) return;
    const evaluated = deployment.spec.strategy?.analysis?.evaluateEvery !== undefined;
    const notes = {
      [annotations.smoke]: smokeNote(tests),
      ...(evaluated ? { [annotations.evaluation]: evaluationNote(tests, outcomes) } : {}),
    };
    // Without the note a new leader asks once more, and nothing else is lost.
    await this.#options.annotate(set, notes).catch(() => undefined);
  }
}

/** All tests have passed. */
export function passedState(candidate: string, tests: readonly SmokeTest[]): SmokeState {
  const results = tests.map(({ name }): AnalysisItem => ({ name: `smoke/${name}`, result: 'Passed' }));
  return { state: 'passed', candidate, results };
}

function itemOf({ name, passed, message }: Outcome): AnalysisItem {
  return { name: `smoke/${name}`, result: passed ? 'Passed' : 'Failed', ...(message === undefined ? {} : { message }) };
}

/** What a revision answered first, as signatures. */
export function evaluationNote(tests: readonly SmokeTest[], outcomes: readonly Outcome[]): string {
  const answers = outcomes.flatMap(({ name, signature }) => (signature === undefined ? [] : [[name, signature]]));
  return JSON.stringify({ tests: smokeHash(tests), answers: Object.fromEntries(answers) as object });
}

/** The signatures of a note by test; undefined when it is of other tests, or none. */
export function readEvaluationNote(
  note: string | undefined,
  tests: readonly SmokeTest[],
): Readonly<Record<string, unknown>> | undefined {
  try {
    const { tests: hash, answers } = JSON.parse(note ?? 'null') as { tests?: unknown; answers?: unknown };
    if (hash !== smokeHash(tests) || typeof answers !== 'object' || answers === null) return undefined;
    return answers as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
