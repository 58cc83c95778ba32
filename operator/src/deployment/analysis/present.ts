/**
 * What is known of the very revision and step that a plan is about: observations come from the status before, so they may speak of
 * another. Owns the note on a ReplicaSet that its revision has passed the smoke tests. Pure.
 */
import { createHash } from 'node:crypto';
import { annotations, type SmokeTest, type Strategy } from '@slm-operator/crds';
import { type ReplicaSetObject, revisionOf } from '../observed.ts';
import { stableJson } from '../revision.ts';
import { hasGates } from './judge.ts';
import { type AnalysisSubject, type GateState, NO_GATES, NO_SMOKE, type SmokeState } from './types.ts';

/** Ten hex digits that change with the questions and with what is expected. */
export function smokeHash(tests: readonly SmokeTest[]): string {
  return createHash('sha256').update(stableJson(tests)).digest('hex').slice(0, 10);
}

/** Value of the annotation on a ReplicaSet whose revision has passed. */
export function smokeNote(tests: readonly SmokeTest[]): string {
  return `${smokeHash(tests)} passed`;
}

/** True when a ReplicaSet of the revision says that it has passed these tests. */
export function hasPassed(sets: readonly ReplicaSetObject[], revision: string, tests: readonly SmokeTest[]): boolean {
  const note = smokeNote(tests);
  return sets.some((set) => revisionOf(set) === revision && set.metadata?.annotations?.[annotations.smoke] === note);
}

/** The smoke tests of one revision. @param observed of whatever revision was asked last */
export function smokeOf(
  observed: SmokeState | undefined,
  strategy: Strategy | undefined,
  revision: string,
  sets: readonly ReplicaSetObject[],
): SmokeState {
  const tests = strategy?.analysis?.smokeTests ?? [];
  if (tests.length === 0) return NO_SMOKE;
  if (observed?.candidate === revision) return observed;
  if (hasPassed(sets, revision, tests)) return { state: 'passed', candidate: revision, results: [] };
  return { state: 'running', candidate: revision, results: [] };
}

/** The gates of one step. @param observed of whatever step was measured last */
export function gatesOf(
  observed: GateState | undefined,
  strategy: Strategy | undefined,
  { candidate, since }: Pick<AnalysisSubject, 'candidate' | 'since'>,
): GateState {
  if (!hasGates(strategy?.analysis)) return NO_GATES;
  const { subject } = observed ?? {};
  if (observed !== undefined && subject?.candidate === candidate && subject.since === since) return observed;
  return { result: 'waiting', items: [], why: '' };
}
