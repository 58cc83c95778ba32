/**
 * Load from inside the cluster: a pod that asks through the Service at fixed times, whatever becomes of its requests, and
 * counts every one of them. Owns the pod; what it does is the client's, what it says is the report's.
 */
import { readFile } from 'node:fs/promises';
import type { Lab } from './harness.ts';
import type { LoadLine, LoadPlan } from './load-client.ts';
import { countRequests, gapsOf, parseLoad } from './load-report.ts';

export interface LoadResult {
  /** Requests that were due. */
  readonly sent: number;
  readonly answered: number;
  /** The first ten requests that were not answered completely. */
  readonly failures: readonly string[];
  /** Every request, for counts of a span of time. */
  readonly lines: readonly LoadLine[];
}

export interface Load {
  /** Requests answered so far. */
  answered(): Promise<number>;
  /** Ends the load, waits for what is under way, and counts. @throws Error when the client lost count */
  stop(): Promise<LoadResult>;
}

export interface LoadOptions extends Partial<Omit<LoadPlan, 'url' | 'key' | 'model'>> {
  readonly namespace: string;
  readonly deployment: string;
  /** The server's: it has the same Node. */
  readonly image: string;
  /** Default: wherever the pod fits. */
  readonly node?: string;
}

/** Starts a client in a pod. Default: two short requests a second and no stream. */
export async function startLoad(lab: Lab, options: LoadOptions): Promise<Load> {
  const { namespace, deployment, image, node, ...rest } = options;
  const name = `load-${deployment}`;
  const plan: LoadPlan = {
    perSecond: 2,
    ...rest,
    url: `http://${deployment}.${namespace}.svc:11434`,
    key: await lab.apiKey(namespace, deployment),
    model: deployment,
  };
  const client = await readFile(new URL('load-client.ts', import.meta.url), 'utf8');
  await lab.apply(
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { namespace, name }, data: { 'client.mts': client } },
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace, name },
      spec: {
        restartPolicy: 'Never',
        automountServiceAccountToken: false,
        securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: 'RuntimeDefault' } },
        ...(node === undefined ? {} : { nodeSelector: { 'kubernetes.io/hostname': node } }),
        containers: [
          {
            name: 'load',
            image,
            imagePullPolicy: 'IfNotPresent',
            command: ['node', '/load/client.mts', JSON.stringify(plan)],
            securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
            volumeMounts: [{ name: 'client', mountPath: '/load', readOnly: true }],
          },
        ],
        volumes: [{ name: 'client', configMap: { name } }],
      },
    },
  );
  await lab.kubectl('-n', namespace, 'wait', '--for=condition=Ready', `pod/${name}`, '--timeout=60s');
  const log = async () => parseLoad(await lab.kubectl('-n', namespace, 'logs', name));
  return {
    answered: async () => countRequests((await log()).lines).answered,
    async stop() {
      await lab.kubectl('-n', namespace, 'exec', name, '--', 'node', '-e', 'process.kill(1, "SIGTERM")');
      const ended = '--for=jsonpath={.status.phase}=Succeeded';
      await lab.kubectl('-n', namespace, 'wait', ended, `pod/${name}`, '--timeout=150s');
      const all = await log();
      if (all.planned === undefined) throw new Error('the load pod ended without a result');
      const gaps = gapsOf(all);
      if (gaps.length > 0) throw new Error(`the load pod lost count of requests ${gaps.slice(0, 10).join(', ')}`);
      await lab.kubectl('-n', namespace, 'delete', `pod/${name}`, `configmap/${name}`, '--wait=false');
      const { answered, failures } = countRequests(all.lines);
      return { sent: all.planned, answered, failures, lines: all.lines };
    },
  };
}
