/**
 * SLMDeployments and SLMRollouts as an API server would show them at every step, out of the simulations of the operator's plans. Owns
 * the recording, and what is true of the pods at each moment; knows no GitOps tool.
 */
import { labels, type SLMDeployment, type SLMRollout, UNSEEN_GENERATION } from '@slm-operator/crds';
import type { ReplicaSetObject } from '@slm-operator/operator/deployment/observed';
import { NodeSimulation } from '@slm-operator/operator/deployment/testing/node-simulation';
import { StrategySimulation } from '@slm-operator/operator/deployment/testing/strategy-simulation';
import { FleetSimulation } from '@slm-operator/operator/rollout/testing/fleet-simulation';

/** An object as it was for a while. */
export interface Moment<T = SLMDeployment> {
  readonly object: T;
  /** Whether all pods were there, served, and had what the spec asks for, and no others were left. */
  readonly whole: boolean;
}

/** Every version of objects, each once. */
class Versions<T extends SLMDeployment | SLMRollout> {
  readonly moments: Moment<T>[] = [];
  readonly #last = new Map<string, string>();

  add(known: T | undefined, sets: readonly ReplicaSetObject[] = [], pods?: number): void {
    const text = JSON.stringify(known);
    if (known === undefined || this.#last.get(known.metadata.name) === text) return;
    this.#last.set(known.metadata.name, text);
    // The API server shows this much of the status of an object that has none.
    const object = { ...known, status: known.status ?? { observedGeneration: UNSEEN_GENERATION } };
    this.moments.push({ object, whole: object.kind === 'SLMDeployment' && isWhole(object, sets, pods) });
  }
}

/** Several deployments that share a cluster. */
export class Recording extends NodeSimulation {
  readonly #versions = new Versions<SLMDeployment>();

  override deploy(...args: Parameters<NodeSimulation['deploy']>): this {
    super.deploy(...args);
    this.#versions.add(this.known.get(args[0])?.object);
    return this;
  }

  override change(...args: Parameters<NodeSimulation['change']>): void {
    super.change(...args);
    this.#versions.add(this.known.get(args[0])?.object);
  }

  override reconcile(name: string): boolean {
    // What the status speaks of is what was there before its own plan was carried out.
    const sets = this.setsOf(name);
    const wrote = super.reconcile(name);
    const object = this.known.get(name)?.object;
    const isPerNode = object?.spec.placement?.mode === 'PerNode';
    this.#versions.add(object, sets, isPerNode ? this.usable(object).length : undefined);
    return wrote;
  }

  get moments(): readonly Moment[] {
    return this.#versions.moments;
  }
}

/** One deployment that goes from revision to revision, with traffic, tests and gates. */
export class StrategyRecording extends StrategySimulation {
  readonly #versions = new Versions<SLMDeployment>();

  override change(...args: Parameters<StrategySimulation['change']>): this {
    super.change(...args);
    this.#versions.add(this.object);
    return this;
  }

  override reconcile(): void {
    const sets = this.setsOf(this.object.metadata.name);
    super.reconcile();
    this.#versions.add(this.object, sets);
  }

  get moments(): readonly Moment[] {
    return this.#versions.moments;
  }
}

/** An SLMRollout and its fleet. */
export class FleetRecording extends FleetSimulation {
  readonly #versions = new Versions<SLMRollout>();

  /** Looked at by the controller before every plan. */
  override members(): ReturnType<FleetSimulation['members']> {
    this.#versions.add(this.rollout);
    return super.members();
  }

  override change(...args: Parameters<FleetSimulation['change']>): void {
    super.change(...args);
    this.#versions.add(this.rollout);
  }

  get moments(): readonly Moment<SLMRollout>[] {
    return this.#versions.moments;
  }
}

function isWhole(
  { spec, status }: SLMDeployment,
  sets: readonly ReplicaSetObject[],
  pods = spec.replicas ?? 1,
): boolean {
  const isOwn = (set: ReplicaSetObject) => set.metadata?.labels?.[labels.revision] === status?.updateRevision;
  const available = sets.filter(isOwn).reduce((sum, set) => sum + (set.status?.availableReplicas ?? 0), 0);
  const others = sets
    .filter((set) => !isOwn(set))
    .reduce((sum, set) => sum + (set.spec?.replicas ?? 0) + (set.status?.replicas ?? 0), 0);
  return available >= pods && others === 0;
}
