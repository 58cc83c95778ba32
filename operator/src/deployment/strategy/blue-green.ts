/**
 * BlueGreen: the new revision comes whole beside the old one, without requests; then it takes all of them at once; the old one stays
 * for a while, so that going back is as quick. Where there is no room for two whole revisions it rolls instead, once the smoke tests
 * have passed. Pure.
 *
 * Where it is stands in status: no step: it comes; a step with weight 100: it has all requests, and the old pods are there; a step
 * without: the old ones go.
 */
import type { TrafficDecision } from '../traffic/types.ts';
import { howToApprove } from './canary.ts';
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
import { roll } from './rolling.ts';
import { isApproved, soakOf } from './steps.ts';
import type { RolloutStage, StrategyInput, StrategyPlan } from './types.ts';

export function planBlueGreen(input: StrategyInput): StrategyPlan {
  const candidate = candidateOf(input);
  const { step, weight } = candidate.before ?? {};
  if (step !== undefined) return weight === undefined ? finish(input) : soak(input, candidate);
  if (candidate.isOpen && !isAlone(input)) return roll(input, true);
  if (isLeft(input) && isSmokeFree(input) && candidate.available > 0) return roll(input);
  return come(input, candidate);
}

/** Old pods stay whole; where devices are short all but one. */
function beside({ replicas, maxUnavailable }: StrategyInput): RolloutStage {
  return { target: replicas, keep: replicas, gives: Math.max(1, maxUnavailable), counts: 0, surge: replicas };
}

function come(input: StrategyInput, candidate: Candidate): StrategyPlan {
  const { goal, replicas, strategy, stable, capacity, placeable } = input;
  const mustServe = isAlone(input) && isSmokeFree(input) && candidate.available > 0;
  const decision = { closed: mustServe ? closedBut(input, goal) : closedBut(input).add(goal) };
  const { separated, why } = input.effectOf(decision);
  const stage = beside(input);
  const plan = makePlan(decision, {
    stage: separated ? stage : { ...stage, target: 0 },
    verdict: verdictOn(input, candidate),
    fields: fieldsOf(input, { steps: 1 }),
    settled: false,
    notes: separated ? [] : [`wait with ${goal}: ${why ?? 'its pods would get requests'}`],
  });
  if (plan.verdict !== undefined || candidate.available === 0) return plan;
  const isWhole = candidate.available >= replicas;
  const noMore = capacity <= candidate.available && (stateOf(input, stable)?.desired ?? 0) <= placeable - stage.gives;
  if (!isSmokeFree(input)) {
    return isWhole || noMore ? { ...plan, phase: 'Analyzing', line: smokeLine(input) } : plan;
  }
  if (!isWhole && !noMore) return plan;
  if (strategy?.blueGreen?.requireApproval === true && !isApproved(input.approved, goal, 1)) {
    const ready = `revision ${goal} is ready beside the old one and gets no requests yet`;
    const line: Line = { reason: 'WaitingForApproval', message: `${ready}: ${howToApprove(goal)}` };
    return { ...plan, phase: 'WaitingForApproval', line };
  }
  if (isWhole) return soak(input, candidate);
  const rolled = roll({ ...input, smoke: { state: 'none', results: [] } });
  return { ...rolled, notes: [`there is no room for all pods of ${goal} beside the old ones: it rolls`] };
}

/** All requests go to the new revision. */
function soak(input: StrategyInput, candidate: Candidate): StrategyPlan {
  const { goal, now, strategy } = input;
  const decision = switched(input);
  const { effective, why } = input.effectOf(decision);
  const began = candidate.before?.step === undefined ? undefined : candidate.since;
  const since = began ?? (effective ? now : undefined);
  const verdict = verdictOn(input, { since: began });
  const rest = since === undefined ? undefined : since + soakOf(strategy) - now;
  if (verdict === undefined && rest !== undefined && rest <= 0 && areGatesPassed(input, began)) return finish(input);
  const said = `revision ${goal} has all requests`;
  const line: Line =
    rest === undefined
      ? { reason: 'Promoted', message: `requests move to revision ${goal}${why === undefined ? '' : `: ${why}`}` }
      : rest > 0
        ? { reason: 'Promoted', message: `${said}; the old pods stay for ${strategy?.blueGreen?.soak ?? '30s'}` }
        : { ...gateLine(input), message: `${said}: ${gateLine(input).message}` };
  return makePlan(decision, {
    stage: beside(input),
    verdict,
    fields: fieldsOf(input, { step: 1, steps: 1, weight: 100, since }),
    ...(since === undefined ? {} : { phase: 'Analyzing' as const }),
    line,
    settled: false,
    requeueAfter: rest !== undefined && rest > 0 ? rest : undefined,
  });
}

/** The old pods go. As long as some are left they still pass everything on. */
function finish(input: StrategyInput): StrategyPlan {
  const { goal, revisions } = input;
  const rest = revisions.some(({ revision, current, desired }) => revision !== goal && current + desired > 0);
  return makePlan(rest ? switched(input) : { closed: closedBut(input, goal) }, {
    verdict: verdictOn(input, { since: undefined }),
    fields: fieldsOf(input, { step: 1, steps: 1 }),
    settled: !rest,
    notes: rest ? [`the pods of other revisions than ${goal} go`] : [],
  });
}

/** Old pods pass all they get on; those that cannot are closed instead. */
function switched(input: StrategyInput): TrafficDecision {
  const { goal, revisions } = input;
  const passing = { closed: closedBut(input, goal), weight: { candidate: goal, percent: 100 } };
  if (input.effectOf(passing).unable === undefined) return passing;
  const others = revisions.filter(({ revision, current }) => revision !== goal && current > 0);
  return { closed: new Set(others.map(({ revision }) => revision)) };
}
