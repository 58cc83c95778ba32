/** Owns deciding that a node is Ready by news, and not by what the API server remembers of it. */
import type { ApiReader } from '../api-reader.ts';

interface NodeObject {
  readonly status: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
}
interface LeaseObject {
  readonly spec: { readonly renewTime?: string };
}

/**
 * Makes a function that says whether the node is Ready and has renewed its lease after the moment `since` (ISO). After a
 * power failure the old Ready stands for seconds; the lease cannot be renewed by a dead node.
 */
export function startedLeaseCheck(api: ApiReader, name: string, since: string): () => Promise<boolean> {
  return async () => {
    const node = await api.get<NodeObject>(`/api/v1/nodes/${name}`);
    if (!node || !isReady(node)) return false;
    const lease = await api.get<LeaseObject>(`/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/${name}`);
    return Date.parse(lease?.spec.renewTime ?? '') > Date.parse(since);
  };
}

/** Whether the condition Ready of a node object is True. */
export function isReady(node: NodeObject): boolean {
  return node.status.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
}
