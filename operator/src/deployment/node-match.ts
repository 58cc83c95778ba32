/** Which nodes may run a pod, as far as labels and taints say. Pure. */
import type { Toleration } from '@slm-operator/crds';

/** The parts of a Node that count. */
export interface NodeView {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly taints: readonly { readonly key: string; readonly value?: string | undefined; readonly effect: string }[];
  /** Condition Ready is True. */
  readonly ready: boolean;
  /** `kubectl cordon`. */
  readonly cordoned: boolean;
  readonly deleted: boolean;
}

/** Taints that come and go with a node's health; `ready` and `cordoned` speak of the same and are judged on their own. */
const healthTaints = new Set([
  'node.kubernetes.io/not-ready',
  'node.kubernetes.io/unreachable',
  'node.kubernetes.io/unschedulable',
]);

/** True when a pod with this selector and these tolerations belongs on the node, whatever its health. */
export function isEligible(
  node: NodeView,
  nodeSelector: Readonly<Record<string, string>> | undefined,
  tolerations: readonly Toleration[] | undefined,
): boolean {
  if (node.deleted) return false;
  if (!isSelected(node, nodeSelector)) return false;
  return untolerated(node, tolerations) === undefined;
}

/** The first taint, but for those of the node's health, that keeps a pod with these tolerations away. */
export function untolerated(
  node: Pick<NodeView, 'taints'>,
  tolerations: readonly Toleration[] | undefined,
): NodeView['taints'][number] | undefined {
  return node.taints.find(
    (taint) =>
      taint.effect !== 'PreferNoSchedule' &&
      !healthTaints.has(taint.key) &&
      !(tolerations ?? []).some((toleration) => isTolerated(taint, toleration)),
  );
}

/** True when the node has all these labels. */
export function isSelected(
  node: Pick<NodeView, 'labels'>,
  nodeSelector: Readonly<Record<string, string>> | undefined,
): boolean {
  for (const key in nodeSelector) if (node.labels[key] !== nodeSelector[key]) return false;
  return true;
}

function isTolerated(taint: NodeView['taints'][number], toleration: Toleration): boolean {
  if (toleration.effect !== undefined && toleration.effect !== taint.effect) return false;
  if (toleration.key === undefined || toleration.key === '') return toleration.operator === 'Exists';
  if (toleration.key !== taint.key) return false;
  return toleration.operator === 'Exists' || (toleration.value ?? '') === (taint.value ?? '');
}
