/**
 * What GitOps tools, people and autoscalers write beside each other: kubectl scale, an autoscaler through the scale subresource, and
 * the same manifest again, as each tool applies it. None of it changes anything else, and nobody but users writes a spec.
 */
import { UNSEEN_GENERATION } from '@slm-operator/crds';
import { condition, conditions, World } from '@slm-operator/operator/deployment/testing/world';
import { SLMDeployment } from '@slm-operator/operator/execution/kinds';
import { defineResource, type KubeObject, ReplicaSet, Service } from '@slm-operator/operator/kube/index';
import { afterEach, beforeAll, beforeEach, describe, expect, inject, it } from 'vitest';
import { stringify } from 'yaml';
import { makeClients } from '../cluster/clients.ts';
import { silentProgress } from '../cluster/progress.ts';
import { ensureTools } from '../cluster/tools.ts';

/** An autoscaler looks every 15 s, and a busy machine is slow. */
const patient = { timeout: 50_000, interval: 250 };

let kubectl: ReturnType<typeof makeClients>['kubectl'];
let world: World;
beforeAll(async () => {
  const tools = await ensureTools(['kubectl', 'helm'], silentProgress);
  kubectl = makeClients({ kubeconfig: inject('kubeconfig'), tools }).kubectl;
});
beforeEach(async () => {
  world = await World.start(inject('kubeconfig'));
});
afterEach(() => world[Symbol.asyncDispose]());

/** As somebody keeps it in Git: much is said, and nothing that an API server or an operator could fill in. */
const spec = () => ({
  modelRef: { name: 'smollm2' },
  servedNames: ['smollm2:135m', 'chat'],
  engine: { contextLength: 1024, kvCache: { type: 'Q8_0' } },
  hardware: { preferred: 'cpu' },
  resources: { limits: { cpu: '1000m', memory: '1024Mi' } },
  service: { annotations: { team: 'search' } },
  strategy: { maxSurge: '25%', progressDeadlineSeconds: 300 },
  podTemplate: { spec: { nodeSelector: { test: world.namespace } } },
});

function manifest(more: { spec?: object; labels?: object; annotations?: object } = {}): string {
  return stringify({
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMDeployment',
    metadata: {
      ...world.ref('chat'),
      labels: { 'app.kubernetes.io/part-of': 'search', ...more.labels },
      ...(more.annotations && { annotations: more.annotations }),
    },
    spec: { ...spec(), ...more.spec },
  });
}

/** The ways in which tools write a manifest. Both GitOps tools take over what others wrote. */
const ways: Record<string, readonly string[]> = {
  'kubectl, client-side': ['apply', '-f', '-'],
  'kubectl, server-side': ['apply', '--server-side', '-f', '-'],
  'Argo CD, client-side': ['apply', '--field-manager=argocd-controller', '-f', '-'],
  'Argo CD, server-side': [
    'apply',
    '--server-side',
    '--force-conflicts',
    '--field-manager=argocd-controller',
    '-f',
    '-',
  ],
  Flux: ['apply', '--server-side', '--force-conflicts', '--field-manager=kustomize-controller', '-f', '-'],
};

/** Applies, and waits until all of it serves. */
async function serving(way: readonly string[], input = manifest()): Promise<void> {
  const node = await world.addNode();
  const digest = await world.addModel('smollm2', 'one');
  await world.reportNode(node, digest, 100);
  await kubectl(way, { input });
  await world.serveUntil('chat', { conditions: conditions(condition('Ready', 'True')) });
}

/** What must not change when nobody asked for it: specs and names of everything that belongs to the deployment. */
async function children() {
  const sets = await world.replicaSets();
  const service = await world.client.get(Service, world.ref('chat'));
  return {
    sets: sets.map(({ metadata, spec }) => ({ name: metadata?.name, selector: spec?.selector, pod: spec?.template })),
    service: service.metadata?.resourceVersion,
    pods: (await world.pods()).map(({ metadata }) => metadata?.name ?? '').sort(),
  };
}

type Autoscaler = KubeObject & { readonly status?: { readonly conditions?: readonly { readonly message: string }[] } };

async function managersOfSpec(): Promise<string[]> {
  const { metadata } = await world.client.get<KubeObject>(SLMDeployment, world.ref('chat'));
  const fields = (metadata as { managedFields?: { manager: string; fieldsV1: Record<string, unknown> }[] })
    .managedFields;
  return [...new Set((fields ?? []).filter(({ fieldsV1 }) => 'f:spec' in fieldsV1).map(({ manager }) => manager))];
}

describe('the same manifest again', () => {
  it.each(Object.entries(ways))('by %s: nothing is written, and nothing differs', async (_, way) => {
    await serving(way);
    const before = await world.deployment('chat');
    const were = await children();
    for (let round = 0; round < 2; round++) {
      await kubectl(way, { input: manifest() });
      expect(await kubectl(['diff', ...way.filter((word) => word !== 'apply')], { input: manifest() })).toBe('');
    }
    expect(await world.quiet(1500)).toBe(0);
    const after = await world.deployment('chat');
    expect(after.spec).toEqual(spec());
    expect(after.metadata.generation).toBe(before.metadata.generation);
    expect(after.status).toEqual(before.status);
    expect(await children()).toEqual(were);
  });

  it('with the marks of the tool that tracks it: no rollout, and no write', async () => {
    await serving(ways['Flux'] ?? []);
    const before = await world.deployment('chat');
    const were = await children();
    const marks = {
      labels: { 'app.kubernetes.io/instance': 'search', 'kustomize.toolkit.fluxcd.io/name': 'search' },
      annotations: { 'argocd.argoproj.io/tracking-id': `search:slm.dev/SLMDeployment:${world.namespace}/chat` },
    };
    await kubectl(ways['Argo CD, server-side'] ?? [], { input: manifest(marks) });
    expect(await world.quiet(1500)).toBe(0);
    expect((await world.deployment('chat')).metadata.generation).toBe(before.metadata.generation);
    expect(await children()).toEqual(were);
  });

  it('after the operator has done everything it does, the spec is the one of Git, and its own in no field', async () => {
    await serving(ways['Flux'] ?? []);
    await kubectl(ways['Flux'] ?? [], { input: manifest({ spec: { engine: { contextLength: 2048 } } }) });
    await world.serveUntil('chat', { observedGeneration: 2, conditions: conditions(condition('Ready', 'True')) });
    expect((await world.deployment('chat')).spec).toEqual({ ...spec(), engine: { contextLength: 2048 } });
    expect(await managersOfSpec()).toEqual(['kustomize-controller']);
  });
});

describe('a size that somebody else sets', () => {
  it('kubectl scale changes the size alone, and the next commit without a size leaves it', async () => {
    await serving(ways['Flux'] ?? []);
    const were = await children();
    const { status: old } = await world.deployment('chat');
    await kubectl(['scale', '-n', world.namespace, 'slmd/chat', '--replicas=3']);
    const { spec: scaled, status } = await world.serveUntil('chat', { readyText: '3/3', rollout: { phase: 'Idle' } });
    expect(scaled).toEqual({ ...spec(), replicas: 3 });
    expect(status?.currentRevision).toBe(old?.currentRevision);
    const { pods, ...rest } = await children();
    expect(rest).toEqual({ sets: were.sets, service: were.service });
    expect(pods).toEqual(expect.arrayContaining(were.pods));

    for (const way of Object.values(ways)) await kubectl(way, { input: manifest() });
    expect(await world.quiet(1500)).toBe(0);
    expect((await world.deployment('chat')).spec).toEqual({ ...spec(), replicas: 3 });
    expect((await children()).pods).toEqual(pods);
  });

  it('a HorizontalPodAutoscaler moves it through the scale subresource, and GitOps does not move it back', async () => {
    await serving(ways['Argo CD, server-side'] ?? []);
    const were = await children();
    const autoscaler = defineResource<Autoscaler>({
      group: 'autoscaling',
      version: 'v2',
      plural: 'horizontalpodautoscalers',
      kind: 'HorizontalPodAutoscaler',
      namespaced: true,
    });
    await world.client.create(autoscaler, {
      metadata: world.ref('chat'),
      spec: {
        scaleTargetRef: { apiVersion: 'slm.dev/v1alpha1', kind: 'SLMDeployment', name: 'chat' },
        minReplicas: 2,
        maxReplicas: 4,
      },
    } as Autoscaler);
    // The API server has no scale for a size that nobody wrote, and an autoscaler says so; one kubectl scale gives it one.
    const why = async () =>
      (await world.client.get<Autoscaler>(autoscaler, world.ref('chat'))).status?.conditions?.[0]?.message;
    await expect.poll(why, patient).toContain('the spec replicas field ".spec.replicas" does not exist');
    await kubectl(['scale', '-n', world.namespace, 'slmd/chat', '--replicas=1']);
    await expect.poll(async () => (await world.deployment('chat')).spec.replicas, patient).toBe(2);
    await world.serveUntil('chat', { readyText: '2/2', rollout: { phase: 'Idle' } });
    expect((await children()).sets).toEqual(were.sets);
    expect(await managersOfSpec()).not.toContain('slm-operator');

    await kubectl(ways['Argo CD, server-side'] ?? [], { input: manifest() });
    expect(await world.quiet(1500)).toBe(0);
    expect((await world.deployment('chat')).spec).toEqual({ ...spec(), replicas: 2 });
    const { items } = await world.client.listAll(ReplicaSet, { namespace: world.namespace });
    expect(items).toHaveLength(1);
  });
});

it('an object that the operator has not seen says so, and tools that wait for it wait', async () => {
  await world.stopOperators();
  await kubectl(ways['Flux'] ?? [], { input: manifest() });
  const { status, metadata } = await world.client.get(SLMDeployment, world.ref('chat'));
  expect(status).toEqual({ observedGeneration: UNSEEN_GENERATION });
  expect(metadata.generation).toBe(1);
  world.startOperator();
  await world.until('chat', { observedGeneration: 1, conditions: conditions(condition('Ready', 'False')) });
});
