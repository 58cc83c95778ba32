/**
 * Owns counting what our processes write to the API server, exactly: from the counters of their own HTTP clients. Reads only.
 */
import type { KubeClient } from '@slm-operator/operator/kube/client';
import { SYSTEM_NAMESPACE } from '../demo/install.ts';

/** `verb resource` → requests that the server accepted or refused, over all pods of the operator and the agents. */
export type WriteCounts = ReadonlyMap<string, number>;

const WRITES = new Set(['create', 'update', 'patch', 'apply', 'delete', 'post', 'put']);

/** The counters as they are now. A pod that cannot be read makes this reject: half a count is none. */
export async function countWrites(client: KubeClient): Promise<WriteCounts> {
  const path = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/pods`;
  const { items } = await client.request<{ items: PodLike[] }>({ method: 'GET', path });
  const counts = new Map<string, number>();
  for (const pod of items) {
    const port = pod.metadata.labels?.['app.kubernetes.io/component'] === 'agent' ? 8082 : 8081;
    const text = await client.request<string>({
      method: 'GET',
      path: `${path}/${pod.metadata.name}:${port}/proxy/metrics`,
    });
    for (const [what, count] of parseWrites(text)) counts.set(what, (counts.get(what) ?? 0) + count);
  }
  return counts;
}

interface PodLike {
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
}

/** Writes in an exposition of Prometheus metrics. Exported for its test. */
export function parseWrites(exposition: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const [, labels = '', value = ''] of exposition.matchAll(/^kube_client_requests_total\{([^}]*)\} (\S+)$/gm)) {
    const of = (name: string) => new RegExp(`(?:^|,)${name}="([^"]*)"`).exec(labels)?.[1] ?? '';
    const verb = of('verb').toLowerCase();
    if (!WRITES.has(verb)) continue;
    const what = `${verb} ${of('resource')}`;
    counts.set(what, (counts.get(what) ?? 0) + Number(value));
  }
  return counts;
}

/** What came to `after` since `before`, without what did not change. */
export function difference(before: WriteCounts, after: WriteCounts): Map<string, number> {
  const grown = [...after].map(([what, count]) => [what, count - (before.get(what) ?? 0)] as const);
  return new Map(grown.filter(([, count]) => count > 0).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** True for the renewals of leases, which go on for ever. */
export function isLease(what: string): boolean {
  return what.includes('leases');
}

/** Sum of the counts. */
export function total(counts: WriteCounts, which: (what: string) => boolean = () => true): number {
  let sum = 0;
  for (const [what, count] of counts) if (which(what)) sum += count;
  return sum;
}
