/** Owns fake nodes beside the real ones, for scale tests: kwok plays their kubelets, and no pod on them runs anything. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { runCommand } from './command.ts';
import { endedReason, findProcesses, startDaemon, waitUntil } from './daemons.ts';
import type { Progress } from './progress.ts';
import { ensureTools } from './tools.ts';

/** Label of every fake node. */
export const FAKE_NODE_LABEL = 'slm.dev/fake-node';
/** kwok plays the kubelet of a node that carries it with the value `fake`. */
export const KWOK_ANNOTATION = 'kwok.x-k8s.io/node';

/** Pods get to a fake node only if they tolerate this. */
export const FAKE_NODE_TAINT = { key: KWOK_ANNOTATION, value: 'fake', effect: 'NoSchedule' } as const;

/** The objects of fake nodes `fake-0001` to `fake-COUNT`, in three zones, as one List. */
export function fakeNodes(count: number) {
  const resources = { cpu: '32', memory: '256Gi', pods: '110', 'ephemeral-storage': '1Ti', 'nvidia.com/gpu': '8' };
  return {
    apiVersion: 'v1',
    kind: 'List',
    items: Array.from({ length: count }, (_, index) => {
      const name = `fake-${String(index + 1).padStart(4, '0')}`;
      const labels = {
        [FAKE_NODE_LABEL]: 'true',
        'kubernetes.io/hostname': name,
        'kubernetes.io/os': 'linux',
        'kubernetes.io/arch': 'amd64',
        'topology.kubernetes.io/zone': `zone-${(index % 3) + 1}`,
      };
      return {
        apiVersion: 'v1',
        kind: 'Node',
        metadata: { name, labels, annotations: { [KWOK_ANNOTATION]: 'fake' } },
        spec: { taints: [FAKE_NODE_TAINT] },
        status: { capacity: resources, allocatable: resources },
      };
    }),
  };
}

/** The command of kwok, whose stages are written to `folder`. */
export async function kwokCommand(options: {
  readonly folder: string;
  readonly kubeconfig: string;
  readonly progress: Progress;
}): Promise<string[]> {
  const tools = await ensureTools(['kwok', 'kwok-stages'], options.progress);
  const stages = path.join(options.folder, 'kwok-stages.yaml');
  await writeFile(stages, await runCommand([tools['kwok-stages']]));
  return [
    tools.kwok,
    `--config=${stages}`,
    `--kubeconfig=${options.kubeconfig}`,
    '--manage-all-nodes=false',
    `--manage-nodes-with-annotation-selector=${KWOK_ANNOTATION}=fake`,
    '--node-lease-duration-seconds=40',
    '--server-address=127.0.0.1:0',
  ];
}

/** Makes fake nodes join a cluster until there are `count`, and waits until they are Ready. */
export async function ensureKwokNodes(options: {
  /** State folder of the cluster: the daemon is marked with it. */
  readonly folder: string;
  readonly kubeconfig: string;
  readonly kubectl: (args: readonly string[], options?: { readonly input?: string }) => Promise<string>;
  readonly count: number;
  readonly progress: Progress;
}): Promise<void> {
  const { folder, kubeconfig, kubectl, count, progress } = options;
  const step = progress.step(`${count} fake nodes`);
  const log = path.join(folder, 'log', 'kwok.log');
  if (findProcesses(folder, 'kwok').length === 0)
    startDaemon({ owner: folder, name: 'kwok', log, command: await kwokCommand({ folder, kubeconfig, progress }) });
  const known = new Set((await kubectl(['get', 'nodes', '-l', FAKE_NODE_LABEL, '-o', 'name'])).split('\n'));
  const { items, ...list } = fakeNodes(count);
  const missing = items.filter(({ metadata }) => !known.has(`node/${metadata.name}`));
  if (missing.length > 0) await kubectl(['create', '-f', '-'], { input: JSON.stringify({ ...list, items: missing }) });
  await waitUntil(
    async () => {
      const jsonpath = '{range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}';
      const states = await kubectl(['get', 'nodes', '-l', FAKE_NODE_LABEL, '-o', `jsonpath=${jsonpath}`]);
      const ready = states.split('\n').filter((state) => state === 'True').length;
      step.update(`${ready} Ready`);
      return ready >= count;
    },
    { what: 'the fake nodes to be Ready', timeoutMs: 180_000, failed: () => endedReason(folder, 'kwok', log) },
  );
  step.done('Ready');
}
