/** The note on a ReplicaSet that its revision has passed the smoke tests, so that a new leader does not ask again. Pure. */
import { createHash } from 'node:crypto';
import { annotations, type SmokeTest } from '@slm-operator/crds';
import { type ReplicaSetObject, revisionOf } from '../observed.ts';
import { stableJson } from '../revision.ts';

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
