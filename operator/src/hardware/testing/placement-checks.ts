/** What no plan may ask for, whatever the world. Pure. */
import type { SizeIntent } from '../../deployment/rollout-planner.ts';
import type { PlacementPlan, TierState } from '../placement-types.ts';
import type { SimulatedDeployment } from './placement-simulation.ts';
import type { SimulatedSet } from './simulated-cluster.ts';

export interface PlanToCheck {
  readonly deployment: SimulatedDeployment;
  /** Those of the deployment, as they are. */
  readonly sets: readonly SimulatedSet[];
  readonly states: readonly TierState[];
  readonly placement: PlacementPlan;
  readonly sizes: readonly SizeIntent[];
  readonly bounds: { readonly maxUnavailable: number; readonly mayYield: boolean };
}

/** What is wrong with a plan; undefined when nothing is. */
export function faultOf({ deployment, sets, states, placement, sizes, bounds }: PlanToCheck): string | undefined {
  const { name, spec } = deployment;
  const total = [...placement.targets.values()].reduce((sum, target) => sum + target, 0);
  if (total + placement.waiting !== spec.replicas) {
    return `targets ${total} and ${placement.waiting} waiting are not ${spec.replicas}`;
  }
  if ([...placement.targets.values()].some((target) => target < 0)) return `a negative target`;
  for (const [index, tiers] of spec.line.entries()) {
    if (spec.policy === 'Never' && index > 0 && tiers.some((tier) => (placement.targets.get(tier) ?? 0) > 0)) {
      return `leaves preferred hardware although its policy is Never`;
    }
  }
  for (const state of states) {
    const grown = sizes
      .filter((size) => size.to > size.from && size.name === nameOf(name, spec.revision, state.name))
      .reduce((sum, size) => sum + size.to - size.from, 0);
    if (state.room !== undefined && grown > state.room) {
      return `${grown} pods more on ${state.name}, which has room for ${state.room}`;
    }
  }
  if (spec.replicas === 0) return undefined;
  const sizeOf = (set: SimulatedSet) => sizes.find((size) => size.name === set.name)?.to ?? set.desired;
  const before = sets.reduce((sum, set) => sum + Math.min(set.desired, set.available), 0);
  const after = sets.reduce((sum, set) => sum + Math.min(sizeOf(set), set.available), 0);
  const placeable = bounds.mayYield ? total : spec.replicas;
  const allowed = Math.min(spec.replicas - bounds.maxUnavailable, placeable - (bounds.mayYield ? 1 : 0));
  if (after < before && after < allowed) return `${after} pods serve, ${allowed} must`;
  const desired = sets.reduce((sum, set) => sum + set.desired, 0);
  const isAlone = sets.every((set) => set.revision === spec.revision || (set.desired === 0 && set.current === 0));
  const inLine = sets.every((set) => set.desired === 0 || spec.line.flat().includes(set.tier));
  if (after < before && isAlone && inLine && desired <= spec.replicas && spec.promoteBack === 'Never') {
    const stuck = states.reduce((sum, state) => sum + (state.stuck?.pods ?? 0), 0);
    if (before - after > stuck) return `moves a running pod although promoteBack is Never`;
  }
  return undefined;
}

/** Name of a set. */
export function nameOf(deployment: string, revision: string, tier: string): string {
  return `${deployment}-${revision}-${tier}`;
}
