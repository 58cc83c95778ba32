// Real kubelets count, hand out and lose what the plugin offers, as they do with hardware.
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { PAUSE_IMAGE } from '../bare/node-files.ts';
import { type Cluster, openCluster } from '../cluster.ts';
import { silentProgress } from '../progress.ts';
import { dressNode, NFD_LABELS, type OfferedDevices, offerDevices } from './devices.ts';

const RESOURCE = 'devices.example.com/probe';
const space = `devices-${randomBytes(3).toString('hex')}`;
let cluster: Cluster;
let node: string;
let devices: OfferedDevices;

beforeAll(async () => {
  if (!inject('devices')) return;
  cluster = (await openCluster(silentProgress))!;
  node = cluster.nodeNames[0] ?? '';
  await cluster.kubectl(['create', 'namespace', space]);
  devices = await offerDevices(cluster, {
    node,
    resource: RESOURCE,
    count: 2,
    allocate: (ids) => ({ envs: { PROBE_DEVICES: ids.join(',') } }),
  });
});
afterAll(async () => {
  if (!inject('devices')) return;
  await devices?.[Symbol.asyncDispose]();
  await cluster.kubectl(['delete', 'namespace', space, '--wait=false']);
});

async function startPod(name: string, count: number): Promise<void> {
  const resources = { limits: { [RESOURCE]: String(count) } };
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: space },
    spec: { terminationGracePeriodSeconds: 0, containers: [{ name: 'pause', image: PAUSE_IMAGE, resources }] },
  };
  await cluster.kubectl(['apply', '-f', '-'], { input: JSON.stringify(pod) });
}
const awaitPod = (name: string, condition: string) =>
  cluster.kubectl(['-n', space, 'wait', `pod/${name}`, `--for=${condition}`, '--timeout=60s']);
const unschedulable = (name: string) =>
  cluster.kubectl([
    '-n',
    space,
    'get',
    'pod',
    name,
    '-o',
    'jsonpath={.status.conditions[?(@.type=="PodScheduled")].message}',
  ]);

describe.runIf(inject('devices'))('devices that a node offers', () => {
  it('are handed to a pod, with what the plugin puts into its containers', async () => {
    await startPod('one', 1);
    await awaitPod('one', 'condition=Ready');
    const environment = 'cat /proc/[0-9]*/environ 2>/dev/null | tr "\\0" "\\n" | grep ^PROBE_DEVICES';
    const { stdout } = await cluster.node(node).exec(['sh', '-c', environment]);
    expect(stdout).toMatch(/^PROBE_DEVICES=devices-example-com-probe-[01]$/m);
  });

  it('are not handed out twice', async () => {
    await startPod('two', 2);
    await awaitPod('two', 'condition=PodScheduled=false');
    expect(await unschedulable('two')).toContain(`Insufficient ${RESOURCE}`);
  });

  it('stay with their pod when the plugin is gone, and are there again when it is back', async () => {
    await devices.stop();
    expect(await cluster.kubectl(['-n', space, 'get', 'pod', 'one', '-o', 'jsonpath={.status.phase}'])).toBe('Running');
    await devices.start();
    await cluster.kubectl(['-n', space, 'delete', 'pod', 'one']);
    await awaitPod('two', 'condition=Ready');
  });

  it('are registered again with a kubelet that restarts', async () => {
    const field = `jsonpath={.status.allocatable.${RESOURCE.replaceAll('.', '\\.')}}`;
    await cluster.node(node).hold('kubelet');
    await cluster.node(node).release('kubelet');
    // Only a kubelet that hears from the plugin can learn of it.
    await devices.setHealthy(1);
    expect(await cluster.kubectl(['get', 'node', node, '-o', field])).toBe('1');
  });
});

it.runIf(inject('devices'))('labels and taints are on the node for as long as they are wanted', async () => {
  const read = () => cluster.kubectl(['get', 'node', node, '-o', 'jsonpath={.metadata.labels} {.spec.taints}']);
  const before = await read();
  const dress = await dressNode(cluster, {
    node,
    labels: NFD_LABELS.nvidia(),
    taints: ['devices.example.com/probe=present:NoSchedule'],
  });
  expect(await read()).toMatch(/"nvidia.com\/gpu.present":"true".* \[\{"effect":"NoSchedule"/);
  await dress[Symbol.asyncDispose]();
  expect(await read()).toBe(before);
});
