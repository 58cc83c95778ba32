/**
 * The status of a deployment with a pod on each node: that of the pods that were planned, with those that count for none of the
 * nodes at hand, and what there is to say of their nodes. Pure.
 */
import { type Condition, labels, type SLMDeploymentStatus } from '@slm-operator/crds';
import { type DesiredCondition, reconcileConditions, summaryConditions } from '../runtime/conditions.ts';
import type { PodObject } from './observed.ts';
import type { NodeScene } from './per-node.ts';
import { isReady } from './pod-causes.ts';
import { listOf, shorten } from './text.ts';

/** Bounds of the schema. */
const MAX_STATUS_TEXT = 256;
const MAX_MESSAGE = 1024;

export interface NodesInStatusInput {
  readonly scene: NodeScene;
  readonly previous: SLMDeploymentStatus | undefined;
  readonly now: number;
}

/** @param planned for the nodes that pods can go to */
export function nodesInStatus(
  planned: SLMDeploymentStatus,
  { scene, previous, now }: NodesInStatusInput,
): SLMDeploymentStatus {
  const { parked, leaving, places } = scene;
  const beside = [...parked, ...leaving];
  const updated = (pod: PodObject) => pod.metadata?.labels?.[labels.revision] === planned.updateRevision;
  const ready = beside.filter(isReady).length;
  const readyReplicas = (planned.readyReplicas ?? 0) + ready;
  const status: SLMDeploymentStatus = {
    ...planned,
    replicas: (planned.replicas ?? 0) + beside.length,
    updatedReplicas: (planned.updatedReplicas ?? 0) + beside.filter(updated).length,
    readyReplicas,
    availableReplicas: (planned.availableReplicas ?? 0) + ready,
    readyText: `${readyReplicas}/${places + parked.length}`,
  };
  const serving = parked.filter(isReady).length;
  if (places === 0) return withoutNodes(status, scene, serving, { previous, now });
  const said = wordsOf(scene, planned.updateRevision);
  return said === '' ? status : withWords(status, said);
}

/** `node n3 is not ready; node n2 is cordoned and keeps its pod of revision ab12cd34ef`. */
function wordsOf({ away, parked, leaving }: NodeScene, revision: string | undefined): string {
  const keeps = (node: string) => {
    const old = parked.find(
      (pod) => pod.spec?.nodeName === node && pod.metadata?.labels?.[labels.revision] !== revision,
    );
    return old === undefined ? '' : ` and keeps its pod of revision ${old.metadata?.labels?.[labels.revision]}`;
  };
  const groups = new Map<string, string[]>();
  for (const { name, why } of away) {
    const text = `${why}${keeps(name)}`;
    groups.set(text, [...(groups.get(text) ?? []), name]);
  }
  const words = Array.from(groups, ([text, names]) => {
    const [node, verb] = names.length === 1 ? ['node', 'is'] : ['nodes', 'are'];
    return `${node} ${listOf(names)} ${verb} ${names.length === 1 ? text : text.replace('keeps its pod', 'keep their pods')}`;
  });
  const gone = [...new Set(leaving.map((pod) => pod.spec?.nodeName ?? ''))].sort();
  if (gone.length > 0) words.push(`the pod on ${listOf(gone)} goes, which matches no more`);
  return words.join('; ');
}

function withWords(status: SLMDeploymentStatus, said: string): SLMDeploymentStatus {
  const more = (text: string, max: number) => shorten(`${text}; ${said}`, max);
  const isReadyNow = status.conditions?.some(({ type, status: it }) => type === 'Ready' && it === 'True') === true;
  return {
    ...status,
    ...(status.conditions === undefined
      ? {}
      : {
          conditions: status.conditions.map((condition) =>
            ['Ready', 'Reconciling', 'Stalled'].includes(condition.type)
              ? { ...condition, message: more(condition.message, MAX_MESSAGE) }
              : condition,
          ),
        }),
    ...(isReadyNow && status.statusText !== undefined ? { statusText: more(status.statusText, MAX_STATUS_TEXT) } : {}),
    ...(status.rollout?.message === undefined
      ? {}
      : { rollout: { ...status.rollout, message: more(status.rollout.message, MAX_MESSAGE) } }),
  };
}

/** No node can have a pod now. What serves on those that take no new ones goes on. */
function withoutNodes(
  status: SLMDeploymentStatus,
  scene: NodeScene,
  serving: number,
  { previous, now }: Pick<NodesInStatusInput, 'previous' | 'now'>,
): SLMDeploymentStatus {
  const said = wordsOf(scene, status.updateRevision);
  const known = scene.none ?? said;
  const message = serving > 0 ? `${serving} ${serving === 1 ? 'pod serves' : 'pods serve'}; ${said}` : known;
  const isWhole = serving > 0 && serving === scene.parked.length;
  const summary = isWhole
    ? summaryConditions({ state: 'ready', reason: 'Ready', message })
    : summaryConditions({ state: 'reconciling', reason: 'NoMatchingNodes', message });
  const available: DesiredCondition =
    serving > 0
      ? { type: 'Available', status: 'True', reason: 'Available', message }
      : { type: 'Available', status: 'False', reason: 'Unavailable', message };
  const own = new Set(['Ready', 'Reconciling', 'Stalled', 'Available']);
  const rest = (status.conditions ?? []).filter(({ type }) => !own.has(type));
  const since = previous?.blockedBy?.find(({ reason }) => reason === 'NoMatchingNodes')?.since;
  const at = since ?? new Date(now).toISOString().replace(/\.\d+/, '');
  return {
    ...status,
    conditions: reconcileConditions(previous?.conditions, [...summary, available, ...rest], {
      now,
      observedGeneration: status.observedGeneration,
    }) as Condition[],
    statusText: shorten(message, MAX_STATUS_TEXT),
    ...(isWhole
      ? {}
      : { blockedBy: [{ reason: 'NoMatchingNodes', message: shorten(message, MAX_MESSAGE), since: at }] }),
    ...(status.rollout === undefined ? {} : { rollout: { ...status.rollout, message: shorten(message, MAX_MESSAGE) } }),
  };
}
