/** What all strategies ask of the revision that is coming, and how they say what they decided. Pure. */
import type { Reason } from '@slm-operator/crds';
import { toRfc3339 } from '../../runtime/conditions.ts';
import type { TrafficDecision } from '../traffic/types.ts';
import { hasMetricGates, startOf } from './steps.ts';
import type { RevisionState, RolloutStatus, StrategyInput, StrategyPlan, Verdict } from './types.ts';

const NONE: Omit<RevisionState, 'revision' | 'number'> = { desired: 0, current: 0, available: 0, traffic: undefined };

/** The revision that is coming, with what is known of its rollout so far. */
export interface Candidate extends RevisionState {
  /** What status says of this very rollout. */
  readonly before: RolloutStatus | undefined;
  /** Since when the step is in effect, milliseconds since 1970. */
  readonly since: number | undefined;
  /** It gets requests from the Service: the strategy was through with it once. */
  readonly isOpen: boolean;
}

export function candidateOf({ revisions, goal, previous, now }: StrategyInput): Candidate {
  const state = revisions.find(({ revision }) => revision === goal) ?? { ...NONE, revision: goal, number: 0 };
  const before = previous?.revision === goal ? previous : undefined;
  return {
    ...state,
    before,
    since: startOf(before, now),
    isOpen: state.traffic === 'open' && state.current > 0,
  };
}

export function stateOf({ revisions }: StrategyInput, revision: string | undefined): RevisionState | undefined {
  return revisions.find((state) => state.revision === revision);
}

/** Revisions that stay without requests, but for these. A set without pods stays closed too: one may be on its way. */
export function closedBut({ revisions }: StrategyInput, ...open: readonly (string | undefined)[]): Set<string> {
  const closed = revisions.filter(({ traffic }) => traffic === 'closed');
  return new Set(closed.map(({ revision }) => revision).filter((revision) => !open.includes(revision)));
}

/** Nobody else serves users: the stable revision made room for it, or its pods fail. Then it must, once it passed the smoke tests. */
export function isAlone({ revisions, goal }: StrategyInput): boolean {
  return !revisions.some(
    ({ revision, available, desired, traffic }) =>
      revision !== goal && traffic !== 'closed' && Math.min(available, desired) > 0,
  );
}

/** The stable revision has no pods left to come back, so that there are no steps to take beside it. */
export function isLeft(input: StrategyInput): boolean {
  const { desired, current } = stateOf(input, input.stable) ?? NONE;
  return desired + current === 0;
}

export type Fields = StrategyPlan['fields'];

/** Fields of `status.rollout` for a rollout that is measured or goes by steps. */
export function fieldsOf(
  input: StrategyInput,
  more: Partial<Fields> & { readonly since?: number | undefined },
): Fields {
  const { since, ...rest } = more;
  const items = [...input.smoke.results, ...(since === undefined ? [] : input.gates.items)];
  return {
    revision: input.goal,
    ...(input.stable === undefined ? {} : { stableRevision: input.stable }),
    ...rest,
    ...(since === undefined ? {} : { stepStartedAt: toRfc3339(since) }),
    ...(items.length === 0
      ? {}
      : {
          analysis: items.slice(0, 24).map(({ name, result, value, baseline, message }) => ({
            name,
            result,
            ...(value === undefined ? {} : { value }),
            ...(baseline === undefined ? {} : { baseline }),
            ...(message === undefined ? {} : { message: message.slice(0, 512) }),
          })),
        }),
  };
}

/** A plan that says nothing but what it is told. */
export function makePlan(decision: TrafficDecision, change: Partial<StrategyPlan> = {}): StrategyPlan {
  return {
    stage: undefined,
    recreate: false,
    decision,
    verdict: undefined,
    fields: {},
    phase: undefined,
    line: undefined,
    settled: true,
    requeueAfter: undefined,
    notes: [],
    ...change,
  };
}

export type Line = { readonly reason: Reason; readonly message: string };

/** What speaks against the revision already; numbers count only for the step that they were measured in. */
export function verdictOn(input: StrategyInput, { since }: Pick<Candidate, 'since'>): Verdict | undefined {
  const { crash, smoke, gates, goal } = input;
  if (smoke.state === 'failed') {
    return { reason: 'SmokeTestFailed', message: smoke.message ?? `revision ${goal} failed a smoke test` };
  }
  if (crash !== undefined) return { reason: 'CandidateCrashed', message: crash };
  if (since !== undefined && gates.result === 'failed') return { reason: 'AnalysisFailed', message: gates.why };
  return undefined;
}

/** The smoke tests have nothing to say against it, or there are none. */
export function isSmokeFree({ smoke }: StrategyInput): boolean {
  return smoke.state === 'none' || smoke.state === 'passed';
}

export function smokeLine({ smoke, goal }: StrategyInput): Line {
  const message = smoke.message ?? `revision ${goal} is being asked the smoke tests`;
  return { reason: smoke.state === 'failed' ? 'SmokeTestFailed' : 'SmokeTesting', message };
}

/** @param since of the step as status had it: what was measured before that says nothing */
export function areGatesPassed(input: StrategyInput, since: number | undefined): boolean {
  if (!hasMetricGates(input.strategy) || input.gates.result === 'none') return true;
  return since !== undefined && input.gates.result === 'passed';
}

export function gateLine({ gates, goal }: StrategyInput): Line {
  return { reason: 'Analyzing', message: gates.why === '' ? `revision ${goal} is being measured` : gates.why };
}
