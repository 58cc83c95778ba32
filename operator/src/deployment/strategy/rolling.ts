/**
 * Rolling and Recreate: pod by pod, or all old ones first. With smoke tests the new revision begins without requests: one pod of
 * it answers them, then it is opened and the rest follows. With metric gates it is measured while it rolls, and once more for a
 * window when all pods are there. Pure.
 */
import {
  areGatesPassed,
  type Candidate,
  candidateOf,
  closedBut,
  fieldsOf,
  gateLine,
  isSmokeFree,
  makePlan,
  smokeLine,
  verdictOn,
} from './candidate.ts';
import { hasMetricGates } from './steps.ts';
import type { RolloutStage, StrategyInput, StrategyPlan } from './types.ts';

/** @param promoted it went through its steps: nothing is asked again, but a revision that fails a gate still goes back */
export function roll(input: StrategyInput, promoted = false): StrategyPlan {
  const { strategy, stable, goal, smoke, replicas } = input;
  const candidate = candidateOf(input);
  const recreate = strategy?.type === 'Recreate';
  const isPlain = smoke.state === 'none' && !hasMetricGates(strategy);
  const verdict = verdictOn(input, candidate);
  if (isPlain && !promoted) {
    const fields = stable === undefined ? {} : { revision: goal, stableRevision: stable };
    return makePlan({ closed: closedBut(input, goal) }, { recreate, verdict, fields });
  }
  if (!promoted && !isSmokeFree(input) && !candidate.isOpen) return askFirst(input, candidate);

  const decision = { closed: closedBut(input, goal) };
  const kept = promoted && candidate.before?.step !== undefined ? stepsBefore(candidate) : {};
  if (stable === undefined || !hasMetricGates(strategy)) {
    return makePlan(decision, { recreate, verdict, fields: fieldsOf(input, kept) });
  }
  const others = input.revisions.some((state) => state.revision !== goal && state.current + state.desired > 0);
  const whole = candidate.available >= replicas && !others;
  // What was measured in the last step is enough for one that went through them all.
  if (promoted) return makePlan(decision, { verdict, fields: fieldsOf(input, { ...kept, since: candidate.since }) });
  return measure(input, candidate, { decision, recreate, whole });
}

/** Step 1: while pods come and go. Step 2: all are there, for one window. */
function measure(
  input: StrategyInput,
  candidate: Candidate,
  { decision, recreate, whole }: { decision: StrategyPlan['decision']; recreate: boolean; whole: boolean },
): StrategyPlan {
  const step = whole ? 2 : 1;
  const isSame = candidate.before?.step === step;
  const began = isSame ? candidate.since : undefined;
  const since = began ?? (candidate.available > 0 ? input.now : undefined);
  const settled = whole && areGatesPassed(input, began);
  return makePlan(decision, {
    recreate,
    verdict: verdictOn(input, candidate),
    fields: fieldsOf(input, { step, steps: 2, since }),
    settled,
    ...(whole && !settled ? { phase: 'Analyzing' as const, line: gateLine(input) } : {}),
  });
}

/** Closed, and as few pods as there can be, until the smoke tests have passed. */
function askFirst(input: StrategyInput, candidate: Candidate): StrategyPlan {
  const { goal, stable, strategy } = input;
  const decision = { closed: closedBut(input).add(goal) };
  const { separated, why } = input.effectOf(decision);
  const recreate = strategy?.type === 'Recreate';
  const none = { target: 0, keep: 0, gives: 0, counts: 0, surge: input.surge ?? 1 };
  const isAlone = recreate || stable === undefined;
  const isAsked = candidate.available > 0;
  return makePlan(decision, {
    // Without this its first pods would get requests.
    stage: isAlone ? (separated ? undefined : none) : { ...stageOf(input, 1, 0), ...(separated ? {} : { target: 0 }) },
    recreate,
    verdict: verdictOn(input, candidate),
    fields: fieldsOf(input, {}),
    settled: false,
    ...(isAsked ? { phase: 'Analyzing' as const, line: smokeLine(input) } : {}),
    notes: separated ? [] : [`wait with ${goal}: ${why ?? 'its pods would get requests'}`],
  });
}

function stepsBefore({ before }: Candidate) {
  return {
    ...(before?.step === undefined ? {} : { step: before.step }),
    ...(before?.steps === undefined ? {} : { steps: before.steps }),
  };
}

/**
 * Bounds while a revision gets a part of the requests: Auto keeps all pods of the stable one and puts the candidate's on top; an
 * explicit surge is shared.
 * @param target pods of the candidate
 * @param weight of a hundred requests, those that the candidate is to get
 * @param has those that it does get
 */
export function stageOf(input: StrategyInput, target: number, weight: number, has = 0): RolloutStage {
  const { replicas, surge, maxUnavailable } = input;
  const total = replicas + (surge ?? target);
  // Who gets no requests is no replacement for a pod that serves.
  const needed = weight === 0 ? Math.max(0, replicas - maxUnavailable) : 0;
  const most = surge === undefined ? target : Math.min(target, Math.max(1, total - needed));
  return {
    target: most,
    keep: Math.max(0, Math.min(replicas, total - most)),
    gives: weight === 0 ? Math.max(1, maxUnavailable) : most,
    counts: Math.ceil((replicas * has) / 100),
    surge: surge ?? target,
  };
}
