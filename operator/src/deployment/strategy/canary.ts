/**
 * Canary: the new revision gets a part of the requests, in steps. It stays closed and the open pods pass its part on, so a weight
 * is exact whatever the number of pods. After the last step it is opened and rolls. Pure.
 *
 * Where it is stands in status: no step: it answers the smoke tests; a step with a weight: in that step; a step without: through
 * with them all.
 */
import type { CanaryStep } from '@slm-operator/crds';
import type { TrafficDecision } from '../traffic/types.ts';
import {
  areGatesPassed,
  type Candidate,
  candidateOf,
  closedBut,
  fieldsOf,
  gateLine,
  isAlone,
  isLeft,
  isSmokeFree,
  type Line,
  makePlan,
  smokeLine,
  stateOf,
  verdictOn,
} from './candidate.ts';
import { roll, stageOf } from './rolling.ts';
import { isApproved, pauseOf, podsFor, stepsOf } from './steps.ts';
import type { StrategyInput, StrategyPlan } from './types.ts';

export function planCanary(input: StrategyInput): StrategyPlan {
  const candidate = candidateOf(input);
  const { step, weight } = candidate.before ?? {};
  if (step === undefined ? candidate.isOpen : weight === undefined) return roll(input, true);
  if (step === undefined && !isSmokeFree(input)) return prepare(input, candidate);
  if (isLeft(input) && candidate.available > 0) return roll(input);
  return walk(input, candidate);
}

/** One pod without requests, for the smoke tests. */
function prepare(input: StrategyInput, candidate: Candidate): StrategyPlan {
  const decision = { closed: closedBut(input).add(input.goal) };
  const { separated, why } = input.effectOf(decision);
  const stage = stageOf(input, 1, 0);
  return makePlan(decision, {
    stage: separated ? stage : { ...stage, target: 0 },
    verdict: verdictOn(input, candidate),
    fields: fieldsOf(input, { steps: stepsOf(input.strategy).length }),
    settled: false,
    ...(candidate.available > 0 ? { phase: 'Analyzing' as const, line: smokeLine(input) } : {}),
    notes: separated ? [] : [`wait with ${input.goal}: ${why ?? 'its pods would get requests'}`],
  });
}

/** The step that it is in, and on as far as nothing has to be waited for. */
function walk(input: StrategyInput, candidate: Candidate): StrategyPlan {
  const steps = stepsOf(input.strategy);
  const notes: string[] = [];
  let index = candidate.before?.step ?? 1;
  let weight = candidate.before?.weight ?? 0;
  let began = candidate.since;
  for (; ; index++) {
    const step = steps[index - 1];
    if (step === undefined) {
      notes.push(`promote ${input.goal}: it is through with all ${steps.length} steps`);
      const fields = fieldsOf(input, { step: steps.length, steps: steps.length });
      return makePlan({ closed: closedBut(input, input.goal) }, { fields, settled: false, notes });
    }
    const stop = inStep(input, candidate, { step, index, count: steps.length, weight, began });
    if (stop.plan !== undefined) return { ...stop.plan, notes: [...notes, ...stop.plan.notes] };
    notes.push(`step ${index} of ${steps.length} is done`);
    weight = step.weight;
    began = undefined;
  }
}

interface Standing {
  readonly step: CanaryStep;
  /** From 1. */
  readonly index: number;
  readonly count: number;
  /** As it is. */
  readonly weight: number;
  /** Since when the step is in effect. */
  readonly began: number | undefined;
}

/** No plan: the step is done. */
function inStep(input: StrategyInput, candidate: Candidate, at: Standing): { readonly plan?: StrategyPlan } {
  const { goal, replicas, now } = input;
  const { step, index, count, began } = at;
  const weight = weightNow(input, candidate, at);
  const decision = decisionOf(input, weight);
  const effect = input.effectOf(decision);
  if (effect.unable !== undefined && step.weight > 0) {
    const line: Line = { reason: 'WeightUnavailable', message: effect.unable };
    const closed = { closed: closedBut(input).add(goal) };
    const stage = { ...stageOf(input, 1, 0), target: candidate.desired };
    return { plan: makePlan(closed, { stage, line, settled: false, fields: fieldsOf(input, { steps: count }) }) };
  }
  const stage = stageOf(input, podsFor(step.weight, replicas), step.weight, effect.effective ? weight : 0);
  const isThere = began !== undefined || (weight === step.weight && candidate.available > 0);
  const since = began ?? (isThere && effect.effective ? now : undefined);
  const verdict = verdictOn(input, { since: began });
  const rest = since === undefined ? undefined : since + pauseOf(step) - now;
  const isMeasured = rest !== undefined && rest <= 0 && areGatesPassed(input, began);
  const isLet = step.requireApproval !== true || isApproved(input.approved, goal, index);
  if (verdict === undefined && isMeasured && isLet) return {};
  const where = `step ${index} of ${count}, ${weight} % of the requests go to revision ${goal}`;
  const line: Line = isMeasured
    ? { reason: 'WaitingForApproval', message: `${where}: ${howToApprove(goal, index)}` }
    : rest !== undefined && rest <= 0
      ? { ...gateLine(input), message: `${where}: ${gateLine(input).message}` }
      : since === undefined
        ? { reason: 'CanaryStep', message: waitsFor(where, effect.why, candidate, stage.target) }
        : { reason: 'CanaryStep', message: step.pause === undefined ? where : `${where} for ${step.pause}` };
  return {
    plan: makePlan(decision, {
      stage: effect.separated ? stage : { ...stage, target: 0 },
      verdict,
      fields: fieldsOf(input, { step: index, steps: count, weight, since }),
      ...(since === undefined ? {} : { phase: isMeasured ? ('WaitingForApproval' as const) : ('Analyzing' as const) }),
      line,
      settled: false,
      requeueAfter: rest !== undefined && rest > 0 ? rest : undefined,
    }),
  };
}

/**
 * What part of the requests it can take now: all of the step's once its pods are there. Where pods of the stable revision had to
 * make room, its part grows with its pods.
 */
function weightNow(input: StrategyInput, candidate: Candidate, { step, weight, began }: Standing): number {
  const { replicas, stable, surge, capacity } = input;
  const { available } = candidate;
  const pods = podsFor(step.weight, replicas);
  if (began !== undefined || available >= pods) return step.weight;
  const hasRoom = (surge ?? pods) >= pods && capacity >= pods;
  if (hasRoom && (stateOf(input, stable)?.desired ?? 0) >= replicas) return Math.min(weight, step.weight);
  return Math.max(Math.min(weight, step.weight), Math.min(step.weight, Math.floor((100 * available) / replicas)));
}

function decisionOf(input: StrategyInput, percent: number): TrafficDecision {
  if (isAlone(input)) return { closed: closedBut(input, input.goal) };
  const closed = closedBut(input).add(input.goal);
  return percent === 0 ? { closed } : { closed, weight: { candidate: input.goal, percent } };
}

export function howToApprove(revision: string, step?: number): string {
  const value = step === undefined ? revision : `${revision}:${step}`;
  return `waits for approval; set spec.strategy.approvedRevision: ${value}, or annotate the SLMDeployment with slm.dev/approved-revision=${value}`;
}

function waitsFor(where: string, why: string | undefined, { available }: Candidate, target: number): string {
  if (available < target) {
    return `${where}: ${target === 1 ? 'its pod is starting' : `${available} of its ${target} pods serve`}`;
  }
  return why === undefined ? where : `${where}: ${why}`;
}
