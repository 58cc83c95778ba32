/**
 * What a placement says to people. Sentences go into status, so none of them counts down: a wait names its length and the time
 * at which it ends, and stays the same until something happens. Pure.
 */
import { formatDuration } from '../deployment/text.ts';
import type { Obstacle, TierState } from './placement-types.ts';

/** Why there is no more room on a tier. */
export function noRoom({ name, blocked }: Pick<TierState, 'name' | 'blocked'>): Obstacle {
  return blocked ?? { reason: 'WaitingForDevice', message: `needs ${name}; no more of it is free` };
}

/** Which pods wait; empty when all do, which goes without saying. */
function who(waiting: number, replicas: number): string {
  return waiting === replicas ? '' : `${waiting} of ${replicas} pods ${waiting === 1 ? 'waits' : 'wait'}`;
}

export interface Wait {
  readonly waiting: number;
  readonly replicas: number;
}

/** `needs 1 npu.intel.com/accel; 0 of 5 nodes have one; falls back to cpu after 90 s, at 15:04:05Z`. */
export function fallsBack(
  message: string,
  { waiting, replicas }: Wait,
  next: { readonly name: string; readonly afterMs: number; readonly at: number },
): string {
  const pods = who(waiting, replicas);
  const verb = pods === '' ? 'falls back' : `${pods} and ${waiting === 1 ? 'falls' : 'fall'} back`;
  return `${message}; ${verb} to ${next.name} after ${formatDuration(next.afterMs / 1000)}, at ${timeOf(next.at)}`;
}

/** `needs 1 nvidia.com/gpu; 0 of 5 nodes have one free; waits, because hardware.policy is Never`. */
export function waitsFor(message: string, { waiting, replicas }: Wait, why: string): string {
  const pods = who(waiting, replicas);
  return `${message}; ${pods === '' ? 'waits' : pods}, ${why}`;
}

/** What a tier says of itself once no more pods are sent there. */
export function unable(message: string, mayPass: boolean): string {
  return `pods could not run there: ${message}; tried again ${mayPass ? 'later, and ' : ''}when the nodes' devices change`;
}

/** Time of day, to the second: waits last minutes. */
function timeOf(time: number): string {
  return `${new Date(Math.ceil(time / 1000) * 1000).toISOString().slice(11, 19)}Z`;
}
