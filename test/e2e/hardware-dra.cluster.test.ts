/** Devices by dynamic resource allocation: a claim in place of a resource, from a profile's classes or the site's template. */
import type { SLMDeployment } from '@slm-operator/crds';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import type { Cluster } from '../cluster/cluster.ts';
import { type DraDriver, deviceClass, draDevices, startDraDriver } from '../cluster/devices/dra.ts';
import { silentProgress } from '../cluster/progress.ts';
import { cluster, lab, makeDeployment, makeModel, nodes, openHub, type TestHub } from './context.ts';
import { DRA_CLASSES } from './hardware.ts';
import { condition, holds, type TestNamespace, until } from './harness.ts';

interface Pod {
  readonly metadata: { readonly name: string; readonly labels: Record<string, string> };
  readonly spec: { readonly nodeName?: string };
}
interface Claim {
  readonly status?: {
    readonly allocation?: { readonly devices: { readonly results: readonly { request: string; device: string }[] } };
  };
}

let running: Cluster;
let hub: TestHub;
let space: TestNamespace;
let driver: DraDriver | undefined;
const [, , node = ''] = nodes;
const classes = DRA_CLASSES.map((name) => deviceClass(name, name));

beforeAll(async () => {
  if (!inject('devices')) return;
  running = await cluster();
  hub = await openHub();
  space = await lab.namespace('dra');
  const { sha256 } = await hub.addModel('lm.gguf');
  await lab.apply(...classes, makeModel(space.name, 'lm', hub, 'lm.gguf', sha256, { policy: 'Nodes' }), {
    apiVersion: 'resource.k8s.io/v1',
    kind: 'ResourceClaimTemplate',
    metadata: { namespace: space.name, name: 'one-gpu' },
    spec: { spec: { devices: { requests: [{ name: 'gpu', exactly: { deviceClassName: DRA_CLASSES[1] } }] } } },
  });
  driver = await startDraDriver(running, { node, driver: DRA_CLASSES[1], devices: draDevices(1) }, silentProgress);
});
afterAll(async () => {
  if (!inject('devices')) return;
  if (space !== undefined) {
    // A kubelet gives a claim back through its driver: without it the pod, and its model on every node, would stay for ever.
    await lab.kubectl('-n', space.name, 'delete', 'slmd', '--all');
    const pods = () => lab.list<Pod>('pods', '-n', space.name);
    await until('the pods have given their claims back', pods, (left) => left.length === 0);
    await space[Symbol.asyncDispose]();
  }
  await hub?.[Symbol.asyncDispose]();
  await driver?.[Symbol.asyncDispose]();
  await lab.kubectl('delete', 'deviceclasses', ...DRA_CLASSES);
});

const says = (what: string, name: string, isDone: (one: SLMDeployment | undefined) => boolean) =>
  until(what, () => lab.deployment(space.name, name), isDone, { timeoutMs: 40_000 });
const podsOf = (name: string) => lab.list<Pod>('pods', '-n', space.name, '-l', `slm.dev/deployment=${name}`);

it.runIf(inject('devices'))(
  'a profile’s classes are claimed by the first that has a device; who finds none goes to a processor',
  async () => {
    await lab.apply(
      makeDeployment(space.name, 'classes', 'lm', {
        replicas: 2,
        hardware: { preferred: 'dra-classes', fallbackAfter: '4s' },
      }),
    );
    const one = await says('both are ready', 'classes', (it) => holds(it, 'Ready') && it?.status?.readyReplicas === 2);
    expect(one?.status?.hardware?.summary).toBe('1 dra-classes, 1 cpu (fallback)');
    expect(condition(one, 'HardwareDegraded')).toMatchObject({ status: 'True', reason: 'FellBack' });
    const [claim] = await lab.list<Claim>('resourceclaims', '-n', space.name);
    const [allocated] = claim?.status?.allocation?.devices.results ?? [];
    // The second of the two classes: of the first there is no device.
    expect(allocated).toMatchObject({ device: 'gpu-0', request: expect.stringMatching(/^[^/]+\/[^/]+$/) });
    const pod = (await podsOf('classes')).find(({ metadata }) => metadata.labels['slm.dev/tier'] === 'dra-classes');
    expect(pod?.spec.nodeName).toBe(node);
    const print = ['node', '-p', 'process.env.DRA_DEVICES'];
    const seen = await lab.kubectl('-n', space.name, 'exec', pod?.metadata.name ?? '', '--', ...print);
    expect(seen.trim()).toBe('gpu-0');
    await lab.remove('slmd', 'classes', space.name);
  },
);

it.runIf(inject('devices'))(
  'the site’s own template is claimed, and a pod that waits for a device gets one that comes',
  async () => {
    await until(
      'the claim of the other test is gone',
      () => lab.list('resourceclaims', '-n', space.name),
      (claims) => claims.length === 0,
    );
    await driver?.setDevices([]);
    await lab.apply(
      makeDeployment(space.name, 'template', 'lm', { hardware: { preferred: 'dra-template', policy: 'Never' } }),
    );
    const waiting = await says(
      'it says what it waits for',
      'template',
      (it) => (it?.status?.blockedBy?.length ?? 0) > 0,
    );
    expect(waiting?.status?.hardware?.summary).toBe('waiting for dra-template');
    expect(waiting?.status?.blockedBy?.[0]?.message).toMatch(/claim|device/);
    await driver?.setDevices(draDevices(1));
    const ready = await says('it runs', 'template', (it) => holds(it, 'Ready'));
    expect(ready?.status?.hardware).toMatchObject({ class: 'gpu', profile: 'dra-template', degraded: false });
  },
);
