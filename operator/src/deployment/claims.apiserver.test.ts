/** Devices that are claimed (Dynamic Resource Allocation): the templates as a real API server takes them, and clusters without claims. */
import { afterEach, expect, inject, it } from 'vitest';
import { withoutClaims } from '../hardware/claims.ts';
import { readProfiles } from '../hardware/profiles.ts';
import { ResourceClaimTemplate } from '../kube/index.ts';
import { condition, conditions, slow, World } from './testing/world.ts';

const profiles = readProfiles(
  JSON.stringify({
    one: { class: 'gpu', claim: { deviceClasses: ['gpu.example.com'] }, image: 'cuda', device: 'gpu' },
    several: { class: 'gpu', claim: { deviceClasses: ['large.example.com', 'small.example.com'] }, image: 'cuda' },
    own: { class: 'gpu', claim: { templateName: 'our-gpus' }, image: 'cuda' },
  }),
  'the profiles of the test',
);

let world: World;
afterEach(() => world[Symbol.asyncDispose]());

/** A node with the model, and a deployment that is told to run on a profile. */
async function deployOn(preferred: string, hardwareProfiles = profiles, more: object = {}): Promise<void> {
  world = await World.start(inject('kubeconfig'), { hardwareProfiles });
  const digest = await world.addModel('smollm2', 'one');
  await world.reportNode(await world.addNode(), digest, 100);
  await world.deploy('chat', { modelRef: { name: 'smollm2' }, hardware: { preferred, policy: 'Never', ...more } });
}

const templates = async () => (await world.client.listAll(ResourceClaimTemplate, { namespace: world.namespace })).items;

/** What the pods of the only ReplicaSet claim. */
async function claims() {
  await expect.poll(() => world.replicaSets(), slow).toHaveLength(1);
  const [set] = await world.replicaSets();
  const { resourceClaims, containers } = set?.spec?.template?.spec ?? {};
  return { set: set?.metadata?.name, resourceClaims, ofServer: containers?.[0]?.resources?.claims };
}

it('one class is claimed exactly, as many devices as asked for, and the template goes with the deployment', async () => {
  await deployOn('one', profiles, { count: 2 });
  const { set, resourceClaims, ofServer } = await claims();
  expect(resourceClaims).toEqual([{ name: 'device', resourceClaimTemplateName: set }]);
  expect(ofServer).toEqual([{ name: 'device' }]);
  const [template] = await templates();
  expect(template?.metadata).toMatchObject({
    name: set,
    ownerReferences: [{ kind: 'SLMDeployment', name: 'chat', controller: true }],
  });
  expect(template?.spec.spec.devices?.requests).toEqual([
    {
      name: 'device',
      exactly: { deviceClassName: 'gpu.example.com', allocationMode: 'ExactCount', count: 2 },
    },
  ]);
  await world.serveUntil('chat', {
    conditions: conditions(condition('Ready', 'True'), condition('HardwareDegraded', 'False')),
    hardware: { class: 'gpu', profile: 'one', summary: 'one' },
  });
});

it('of several classes the first that has a device is claimed', async () => {
  await deployOn('several');
  await claims();
  const [template] = await templates();
  const request = { allocationMode: 'ExactCount', count: 1 };
  expect(template?.spec.spec.devices?.requests).toEqual([
    {
      name: 'device',
      firstAvailable: [
        { name: 'choice-1', deviceClassName: 'large.example.com', ...request },
        { name: 'choice-2', deviceClassName: 'small.example.com', ...request },
      ],
    },
  ]);
});

it('a template of the site’s own is named, and none is made', async () => {
  await deployOn('own');
  const { resourceClaims } = await claims();
  expect(resourceClaims).toEqual([{ name: 'device', resourceClaimTemplateName: 'our-gpus' }]);
  expect(await templates()).toEqual([]);
});

it('the template of a revision that is history goes with its ReplicaSet', async () => {
  await deployOn('one');
  const { set: first } = await claims();
  await world.serveUntil('chat', { conditions: conditions(condition('Ready', 'True')) });
  await world.change('chat', { revisionHistoryLimit: 0, engine: { threads: 2 } });
  await world.serveUntil('chat', { conditions: conditions(condition('Ready', 'True')), rollout: { phase: 'Idle' } });
  const names = async () => (await templates()).map(({ metadata }) => metadata?.name);
  await expect.poll(names, slow).not.toContain(first);
  expect(await names()).toEqual((await world.replicaSets()).map(({ metadata }) => metadata?.name));
});

it('on a cluster without claims the deployment says what to change, and nothing is tried', async () => {
  await deployOn('one', withoutClaims(profiles));
  const { status } = await world.until('chat', {
    conditions: conditions(condition('Ready', 'False', 'ClaimsNotServed')),
  });
  expect(status?.blockedBy?.map(({ message }) => message).join()).toContain(
    'hardware profile one claims its devices, and this cluster has no resource.k8s.io/v1, which comes with Kubernetes 1.34',
  );
  expect(await world.quiet(2000)).toBe(0);
  expect(await templates()).toEqual([]);
  expect(await world.replicaSets()).toEqual([]);
});
