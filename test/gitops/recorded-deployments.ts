/**
 * SLMDeployments as an API server would show them at every step of rollouts, out of the simulation of the operator's plans. Owns
 * what happens in each story, and what is true of the pods at each moment; knows no GitOps tool.
 */
import { labels, type SLMDeployment, UNSEEN_GENERATION } from '@slm-operator/crds';
import type { ReplicaSetObject } from '@slm-operator/operator/deployment/observed';
import { PlanSimulation } from '@slm-operator/operator/deployment/testing/plan-simulation';

/** An object as it was for a while. */
export interface Moment {
  readonly object: SLMDeployment;
  /** Whether all pods were there, served, and had what the spec asks for, and no others were left. */
  readonly whole: boolean;
}

/** The simulation, with a record of every version of every deployment. */
export class Recording extends PlanSimulation {
  readonly moments: Moment[] = [];
  readonly #last = new Map<string, string>();

  override deploy(...args: Parameters<PlanSimulation['deploy']>): this {
    super.deploy(...args);
    this.#record(args[0]);
    return this;
  }

  override change(...args: Parameters<PlanSimulation['change']>): void {
    super.change(...args);
    this.#record(args[0]);
  }

  override reconcile(name: string): boolean {
    // What the status speaks of is what was there before its own plan was carried out.
    const sets = this.setsOf(name);
    const wrote = super.reconcile(name);
    this.#record(name, sets);
    return wrote;
  }

  #record(name: string, sets: readonly ReplicaSetObject[] = []): void {
    const known = this.known.get(name)?.object;
    const text = JSON.stringify(known);
    if (known === undefined || this.#last.get(name) === text) return;
    this.#last.set(name, text);
    // The API server shows this much of the status of an object that has none.
    const object = { ...known, status: known.status ?? { observedGeneration: UNSEEN_GENERATION } };
    this.moments.push({ object, whole: isWhole(object, sets) });
  }
}

function isWhole({ spec, status }: SLMDeployment, sets: readonly ReplicaSetObject[]): boolean {
  const { replicas = 1 } = spec;
  const isOwn = (set: ReplicaSetObject) => set.metadata?.labels?.[labels.revision] === status?.updateRevision;
  const available = sets.filter(isOwn).reduce((sum, set) => sum + (set.status?.availableReplicas ?? 0), 0);
  const others = sets
    .filter((set) => !isOwn(set))
    .reduce((sum, set) => sum + (set.spec?.replicas ?? 0) + (set.status?.replicas ?? 0), 0);
  return available >= replicas && others === 0;
}

/** The moments of one deployment. */
export function momentsOf(recording: Recording, name: string): Moment[] {
  return recording.moments.filter(({ object }) => object.metadata.name === name);
}
