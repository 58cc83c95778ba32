// Dynamic resource allocation on real kubelets: claims are allocated by the scheduler, prepared by the driver and seen by pods.
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { PAUSE_IMAGE } from '../bare/node-files.ts';
import { type Cluster, openCluster } from '../cluster.ts';
import { silentProgress } from '../progress.ts';
import { type DraDriver, deviceClass, draDevices, startDraDriver } from './dra.ts';

const DRIVER = 'probe.example.com';
const space = `dra-${randomBytes(3).toString('hex')}`;
let cluster: Cluster;
let node: string;
let driver: DraDriver;

beforeAll(async () => {
  if (!inject('devices')) return;
  cluster = (await openCluster(silentProgress))!;
  node = cluster.nodeNames[0] ?? '';
  await cluster.kubectl(['create', 'namespace', space]);
  await apply(deviceClass(DRIVER, DRIVER), deviceClass(`none.${DRIVER}`, `none.${DRIVER}`));
  driver = await startDraDriver(cluster, { node, driver: DRIVER, devices: draDevices(1) }, silentProgress);
});
afterAll(async () => {
  if (!inject('devices')) return;
  await driver?.[Symbol.asyncDispose]();
  await cluster.kubectl(['delete', 'deviceclass', DRIVER, `none.${DRIVER}`]);
  await cluster.kubectl(['delete', 'namespace', space, '--wait=false']);
});

const apply = (...items: object[]) =>
  cluster.kubectl(['apply', '-f', '-'], { input: JSON.stringify({ apiVersion: 'v1', kind: 'List', items }) });
const awaitPod = (name: string, condition: string) =>
  cluster.kubectl(['-n', space, 'wait', `pod/${name}`, `--for=${condition}`, '--timeout=60s']);

/** A template and a pod that claims by it. */
function claimingPod(name: string, request: object): object[] {
  return [
    {
      apiVersion: 'resource.k8s.io/v1',
      kind: 'ResourceClaimTemplate',
      metadata: { name, namespace: space },
      spec: { spec: { devices: { requests: [{ name: 'device', ...request }] } } },
    },
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace: space },
      spec: {
        terminationGracePeriodSeconds: 0,
        resourceClaims: [{ name: 'device', resourceClaimTemplateName: name }],
        containers: [{ name: 'pause', image: PAUSE_IMAGE, resources: { claims: [{ name: 'device' }] } }],
      },
    },
  ];
}

it.runIf(inject('devices'))('the first device that is there is claimed, and seen in the container', async () => {
  const firstAvailable = [
    { name: 'best', deviceClassName: `none.${DRIVER}` },
    { name: 'next', deviceClassName: DRIVER },
  ];
  await apply(...claimingPod('one', { firstAvailable }));
  await awaitPod('one', 'condition=Ready');
  const { stdout } = await cluster
    .node(node)
    .exec(['sh', '-c', 'cat /proc/[0-9]*/environ 2>/dev/null | tr "\\0" "\\n" | grep ^DRA_DEVICES']);
  expect(stdout.trim()).toBe('DRA_DEVICES=gpu-0');
  const claims = 'jsonpath={.items[*].status.allocation.devices.results[*].request}';
  expect(await cluster.kubectl(['-n', space, 'get', 'resourceclaims', '-o', claims])).toBe('device/next');
});

it.runIf(inject('devices'))('a claim waits while there is no device, and is allocated when one comes', async () => {
  await apply(...claimingPod('two', { exactly: { deviceClassName: DRIVER } }));
  await awaitPod('two', 'condition=PodScheduled=false');
  await driver.setDevices(draDevices(2));
  await expect(awaitPod('two', 'condition=Ready')).resolves.toContain('pod/two condition met');
});
