/**
 * Deployments with a pod on each node, on a cluster in miniature: nodes that are cordoned, lost, found again, labelled. Owns what
 * must hold of every plan for them: a node that is served stays served, as far as `maxUnavailable` says.
 */
import type { SLMDeployment } from '@slm-operator/crds';
import type { PodObject, ReplicaSetObject } from '../observed.ts';
import type { DeploymentPlan } from '../plan.ts';
import { isReady } from '../pod-causes.ts';
import { resolveBounds } from '../rollout-planner.ts';
import { isGoing } from './object-cluster.ts';
import { PlanSimulation } from './plan-simulation.ts';

const COST = 'controller.kubernetes.io/pod-deletion-cost';

export class NodeSimulation extends PlanSimulation {
  /** Old pods may go first where two do not fit on a node. */
  mayYield = false;

  cordon(name: string, unschedulable = true): this {
    this.changeNode(name, (node) => ({ ...node, spec: { ...node.spec, unschedulable } }));
    return this;
  }

  /** Power or network of a node goes, or comes back. */
  lose(name: string, isLost = true): this {
    this.changeNode(name, (node) => ({
      ...node,
      status: { ...node.status, conditions: [{ type: 'Ready', status: isLost ? 'Unknown' : 'True' }] },
    }));
    return this;
  }

  label(name: string, labels: Readonly<Record<string, string>>): this {
    this.changeNode(name, (node) => ({ ...node, metadata: { ...node.metadata, labels: { ...labels } } }));
    return this;
  }

  /** Nodes that can have a pod of a deployment now. */
  usable({ spec }: SLMDeployment): string[] {
    const wanted = Object.entries(spec.podTemplate?.spec?.nodeSelector ?? {});
    return [...this.nodes.objects.values()]
      .filter(
        ({ metadata, spec: node, status }) =>
          node?.unschedulable !== true &&
          status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') &&
          wanted.every(([key, value]) => metadata?.labels?.[key] === value),
      )
      .map(({ metadata }) => metadata?.name ?? '');
  }

  /** What is on each node of a deployment: revisions of pods that serve, the youngest first; `-` for one that does not. */
  layout(name: string): Record<string, string> {
    const revisions = this.setsOf(name)
      .toSorted((a, b) => numberOf(b) - numberOf(a))
      .map((set) => set.metadata?.labels?.['slm.dev/revision'] ?? '');
    const words = new Map<string, string[]>();
    for (const node of this.nodes.objects.keys()) words.set(node, []);
    for (const pod of this.podsOf(name)) {
      if (isGoing(pod)) continue;
      const index = [...new Set(revisions)].indexOf(pod.metadata?.labels?.['slm.dev/revision'] ?? '');
      const what = isReady(pod) ? (['new', 'old'][index] ?? 'older') : '-';
      words.get(pod.spec?.nodeName ?? '')?.push(what);
    }
    return Object.fromEntries(Array.from(words, ([node, there]) => [node, there.sort().join(' ') || 'none']));
  }

  #served(nodes: readonly string[], pods: readonly PodObject[]): number {
    const on = new Set(pods.filter((pod) => isReady(pod) && !isGoing(pod)).map((pod) => pod.spec?.nodeName ?? ''));
    return nodes.filter((node) => on.has(node)).length;
  }

  protected override checkNodes(object: SLMDeployment, plan: DeploymentPlan): void {
    const { name } = object.metadata;
    if (object.spec.strategy?.type === 'Recreate') return;
    const nodes = this.usable(object);
    const pods = this.podsOf(name);
    const servedAfter = (what: DeploymentPlan | undefined) => {
      const victims = new Set(this.setsOf(name).flatMap((set) => this.#victims(set, what)));
      return this.#served(
        nodes,
        pods.filter((pod) => !victims.has(pod)),
      );
    };
    // What was told before cannot be taken back.
    const before = servedAfter(undefined);
    const after = servedAfter(plan);
    const { maxSurge, maxUnavailable } = object.spec.strategy ?? {};
    const bounds = resolveBounds(nodes.length, maxSurge, maxUnavailable);
    const elsewhere = pods.filter(({ spec }) => spec?.nodeName !== undefined && !nodes.includes(spec.nodeName)).length;
    const places = plan.expected?.places.reduce((sum, place) => sum + place.replicas, 0);
    const placed = places === undefined ? nodes.length : Math.max(0, places - elsewhere);
    const yielding = this.mayYield && bounds.mayYield ? Math.max(0, nodes.length - placed) + 1 : 0;
    const spared = Math.max(bounds.maxUnavailable, yielding);
    if (after < before && after < nodes.length - spared) {
      const places = JSON.stringify(this.layout(name));
      throw this.failed(`${name}: ${after} of ${nodes.length} nodes are served, ${spared} may be unserved: ${places}`);
    }
    const text = [plan.status?.statusText, ...(plan.status?.conditions ?? []).map(({ message }) => message)].join(' ');
    if (/undefined|NaN|Infinity|\[object/.test(text)) throw this.failed(`${name} says: ${text}`);
  }

  /** Pods that the ReplicaSet controller would remove if this plan were carried out. */
  #victims(set: ReplicaSetObject, plan: DeploymentPlan | undefined): PodObject[] {
    const intent = plan?.patch?.find(
      ({ target }) => target.kind === 'ReplicaSet' && target.name === set.metadata?.name,
    );
    const to = (intent?.patch as { spec?: { replicas?: number } } | undefined)?.spec?.replicas ?? set.spec?.replicas;
    const there = this.podsOf(set.metadata?.labels?.['slm.dev/deployment'] ?? '').filter(
      (pod) => this.ownerOf(pod) === set.metadata?.name && !isGoing(pod),
    );
    const cost = (pod: PodObject) =>
      pod.spec?.nodeName === undefined ? -2e9 : isReady(pod) ? Number(pod.metadata?.annotations?.[COST] ?? 0) : -1e9;
    // Which of several equal pods goes nobody knows: the worst is assumed.
    const pods = this.podsOf(set.metadata?.labels?.['slm.dev/deployment'] ?? '');
    const isAlone = (pod: PodObject) =>
      !pods.some((other) => other !== pod && isReady(other) && other.spec?.nodeName === pod.spec?.nodeName);
    const sorted = there.toSorted((a, b) => cost(a) - cost(b) || Number(isAlone(b)) - Number(isAlone(a)));
    return sorted.slice(0, Math.max(0, there.length - (to ?? 0)));
  }
}

function numberOf(set: ReplicaSetObject): number {
  return Number(set.metadata?.annotations?.['slm.dev/revision-number'] ?? 0);
}
