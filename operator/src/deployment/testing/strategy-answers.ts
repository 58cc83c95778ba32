/** What smoke tests and gates say of revisions whose qualities a test knows, and small tools of its world. Pure. */
import { labels, type SLMDeployment } from '@slm-operator/crds';
import type { GateState, SmokeState } from '../analysis/types.ts';
import type { ReplicaSetObject } from '../observed.ts';
import { hasMetricGates } from '../strategy/steps.ts';

/** What a revision is like. */
export interface Quality {
  /** Default: its pods get ready. */
  readonly pods?: 'hangs' | 'crashes';
  readonly failsSmoke?: boolean;
  /** It is worse than the one before, as soon as it gets this part of the requests. */
  readonly failsAt?: number;
}

const WINDOW_MS = 60_000;

/** @param passed whether the revision that comes has passed its smoke tests; undefined: they run */
export function smokeOf(
  { spec, status }: SLMDeployment,
  passed: (revision: string) => boolean | undefined,
): SmokeState {
  const candidate = status?.rollout?.revision;
  if (spec.strategy?.analysis?.smokeTests === undefined || candidate === undefined) {
    return { state: 'none', results: [] };
  }
  const said = passed(candidate);
  const result = said === undefined ? 'Waiting' : said ? 'Passed' : 'Failed';
  const results = [{ name: 'smoke/capital', result } as const];
  if (said === undefined) return { candidate, state: 'running', results };
  return said
    ? { candidate, state: 'passed', results }
    : { candidate, state: 'failed', message: 'smoke test capital: the answer lacks Paris', results };
}

/** `again`: when time alone changes what they say, milliseconds since 1970. */
export function gatesOf(
  { spec, status }: SLMDeployment,
  qualityOf: (revision: string) => Quality,
  now: number,
): { readonly gates: GateState; readonly again: number } {
  const { revision: candidate, stableRevision: stable, stepStartedAt, step, steps, weight } = status?.rollout ?? {};
  const never = Number.POSITIVE_INFINITY;
  if (!hasMetricGates(spec.strategy) || candidate === undefined || stepStartedAt === undefined) {
    return { gates: { result: 'none', items: [], why: '' }, again: never };
  }
  const since = Date.parse(stepStartedAt);
  const subject = { candidate, stable, since };
  const { failsAt } = qualityOf(candidate);
  const item = { name: 'errorRate', value: '12.0 %', baseline: '0.1 %' };
  if (failsAt !== undefined && (weight ?? (step === steps ? 100 : 50)) >= failsAt) {
    const why = 'error rate is 12.0 % of 250 requests, at most 5 % may fail';
    return {
      gates: { subject, result: 'failed', items: [{ ...item, result: 'Failed', message: why }], why },
      again: never,
    };
  }
  if (now < since + WINDOW_MS) {
    const items = [{ ...item, result: 'Waiting' as const }];
    return { gates: { subject, result: 'waiting', items, why: 'the window is not over' }, again: since + WINDOW_MS };
  }
  return { gates: { subject, result: 'passed', items: [{ ...item, result: 'Passed' }], why: '' }, again: never };
}

/** For people. */
export function stateOf(set: ReplicaSetObject): string {
  return set.spec?.template?.metadata?.labels?.[labels.traffic] === 'closed' ? ' closed' : '';
}

/** A merge patch (RFC 7386). */
export function merge(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const base = typeof target === 'object' && target !== null ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete (base as Record<string, unknown>)[key];
    else (base as Record<string, unknown>)[key] = merge((base as Record<string, unknown>)[key], value);
  }
  return base;
}
