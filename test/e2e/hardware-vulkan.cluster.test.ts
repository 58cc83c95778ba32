/**
 * The Vulkan image at work in a pod, with all that lies between a device plugin and what the status tells of the engine. The device
 * is Mesa's driver that computes on the processor: for the engine it is a GPU as any other, only slow.
 */
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { Cluster } from '../cluster/cluster.ts';
import { type OfferedDevices, offerDevices } from '../cluster/devices/devices.ts';
import { makeProgress } from '../cluster/progress.ts';
import { buildImages, imageReference } from '../images/build.ts';
import { productVersion } from '../images/bundle.ts';
import { whyNoDebian } from '../images/debian.ts';
import { SOFTWARE_DRIVER } from '../images/mesa.ts';
import { cluster, lab, makeDeployment, makeModel, nodes, openHub, type TestHub } from './context.ts';
import { devices } from './hardware.ts';
import { holds, type TestNamespace, until } from './harness.ts';

const possible = inject('devices') && process.arch === 'x64' && (await whyNoDebian()) === undefined;

describe.runIf(possible)('a pod on a device that only Vulkan reaches', () => {
  let running: Cluster;
  let hub: TestHub;
  let space: TestNamespace;
  let gpu: OfferedDevices;
  const [node = ''] = nodes;

  beforeAll(async () => {
    running = await cluster();
    const [image] = await buildImages(['server-vulkan'], makeProgress());
    await running.loadImages(image ? [image.archive] : []);
    hub = await openHub();
    space = await lab.namespace('vulkan');
    const { sha256 } = await hub.addModel('lm.gguf');
    await lab.apply(makeModel(space.name, 'lm', hub, 'lm.gguf', sha256));
    gpu = await offerDevices(running, {
      node,
      resource: devices.software,
      count: 1,
      allocate: () => ({ envs: { VK_DRIVER_FILES: `/${SOFTWARE_DRIVER}`, GGML_VK_VISIBLE_DEVICES: '0' } }),
    });
  });
  afterAll(async () => {
    await space[Symbol.asyncDispose]();
    await hub[Symbol.asyncDispose]();
    await gpu[Symbol.asyncDispose]();
  });

  it('is served by the image for Vulkan, and the status tells what its engine opened', async () => {
    await lab.apply(
      makeDeployment(space.name, 'drawn', 'lm', {
        hardware: { preferred: 'software', policy: 'Never' },
        resources: { requests: { cpu: '50m', memory: '512Mi' }, limits: { memory: '2Gi' } },
      }),
    );
    const one = await until(
      'it is ready',
      () => lab.deployment(space.name, 'drawn'),
      (it) => holds(it, 'Ready') && it?.status?.hardware?.backend !== undefined,
      // Every shader is compiled for the processor first.
      { timeoutMs: 240_000 },
    );
    expect(one?.status?.hardware).toMatchObject({
      class: 'gpu',
      profile: 'software',
      degraded: false,
      summary: 'software',
      backend: 'Vulkan',
      device: expect.stringMatching(/^llvmpipe/) as unknown,
      layersOffloaded: 31,
      layers: 31,
    });
    const [pod] = await lab.list<{ spec: { nodeName: string; containers: { image: string }[] } }>(
      'pods',
      '-n',
      space.name,
    );
    expect(pod?.spec.nodeName).toBe(node);
    expect(pod?.spec.containers[0]?.image).toBe(imageReference('server-vulkan', await productVersion()));
  });
});

it('the agents tell of their nodes’ processors', async () => {
  const caches = await until(
    'every agent has reported',
    () => lab.nodeCaches(),
    (all) => all.length === nodes.length && all.every((one) => one.status?.devices !== undefined),
  );
  for (const { status } of caches)
    expect(status?.devices?.[0]).toMatchObject({
      id: 'cpu',
      class: 'cpu',
      usable: true,
      cores: expect.any(Number) as unknown,
    });
});
