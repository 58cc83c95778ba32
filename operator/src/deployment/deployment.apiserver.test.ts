import { afterEach, beforeEach, expect, inject, it } from 'vitest';
import { SLMDeployment, SLMModel } from '../execution/kinds.ts';
import {
  ConfigMap,
  defineResource,
  Event,
  type KubeObject,
  NetworkPolicy,
  PodDisruptionBudget,
  ReplicaSet,
  Secret,
  Service,
} from '../kube/index.ts';
import { isReady } from './pod-causes.ts';
import { condition, conditions, slow, versionOf, World } from './testing/world.ts';

let world: World;
beforeEach(async () => {
  world = await World.start(inject('kubeconfig'));
});
afterEach(() => world[Symbol.asyncDispose]());

/** A deployment that serves. */
async function serving(replicas = 1): Promise<{ node: string; digest: string }> {
  const node = await world.addNode();
  const digest = await world.addModel('smollm2', 'one');
  await world.reportNode(node, digest, 100);
  await world.deploy('chat', { modelRef: { name: 'smollm2' }, replicas });
  await world.serveUntil('chat', { conditions: conditions(condition('Ready', 'True')) });
  return { node, digest };
}

it('waits for the model, then for its bytes, then serves, and says so at every step', async () => {
  const node = await world.addNode();
  await world.deploy('chat', { modelRef: { name: 'smollm2' }, replicas: 2 });
  await world.until('chat', {
    conditions: conditions(condition('Ready', 'False', 'ModelNotFound')),
    statusText: `there is no SLMModel smollm2 in namespace ${world.namespace}; create it, or correct spec.modelRef.name`,
    rollout: { phase: 'WaitingForModel' },
  });

  const digest = await world.addModel('smollm2', 'one');
  await world.reportNode(node, digest, 62);
  await world.until('chat', {
    conditions: conditions(condition('ModelReady', 'False', 'WaitingForBytes')),
    statusText: `model smollm2: 62% of 98 MB on node ${node}, 4 s left`,
  });
  expect(await world.pods()).toEqual([]);

  await world.reportNode(node, digest, 100);
  await expect.poll(() => world.pods(), slow).toHaveLength(2);
  const { status } = await world.serveUntil('chat', { conditions: conditions(condition('Ready', 'True', 'Ready')) });
  expect(status).toMatchObject({
    readyText: '2/2',
    statusText: 'serving chat',
    endpoints: {
      ollama: `http://chat.${world.namespace}.svc:11434`,
      openai: `http://chat.${world.namespace}.svc:8080/v1`,
    },
    apiKeySecret: 'chat-api-keys',
    rollout: { phase: 'Idle' },
  });
  expect(status?.blockedBy).toBeUndefined();

  const secret = await world.client.get(Secret, world.ref('chat-api-keys'));
  for (const key of ['key-1', 'key-2']) {
    expect(Buffer.from(secret.data?.[key] ?? '', 'base64').toString()).toMatch(/^sk-slm-[\w-]{43}$/);
  }
  expect((await world.client.get(Service, world.ref('chat'))).spec?.ports?.map((port) => port.port)).toEqual([
    11434, 8080,
  ]);
  expect(await world.client.find(PodDisruptionBudget, world.ref('chat'))).toBeDefined();
  expect((await world.client.get(NetworkPolicy, world.ref('chat'))).spec?.policyTypes).toEqual(['Ingress', 'Egress']);
});

it('writes nothing while nothing changes', async () => {
  await serving(2);
  expect(await world.quiet(3000)).toBe(0);
  // A touch wakes the controller, which finds everything as it should be.
  const before = await world.client.get(Service, world.ref('chat'));
  await world.client.patch(SLMDeployment, world.ref('chat'), 'merge', {
    metadata: { annotations: { touched: 'yes' } },
  });
  expect(await world.quiet(1000)).toBe(0);
  expect(versionOf(await world.client.get(Service, world.ref('chat')))).toBe(versionOf(before));
});

it('rolls to new bytes only when they are on the nodes, one pod after another', async () => {
  const { node } = await serving(2);
  const second = await world.resolveModel('smollm2', 'two');
  await world.reportNode(node, second, 30);
  await world.until('chat', {
    rollout: { phase: 'WaitingForModel' },
    statusText: expect.stringContaining('30% of 98 MB') as string,
    conditions: conditions(condition('Available', 'True')),
  });
  expect(await world.replicaSets()).toHaveLength(1);

  await world.reportNode(node, second, 100);
  await expect.poll(async () => (await world.replicaSets()).map((set) => set.spec?.replicas), slow).toEqual([2, 1]);
  await world.until('chat', { rollout: { phase: 'Progressing' }, availableReplicas: 2 });
  const { status } = await world.serveUntil('chat', {
    conditions: conditions(condition('Ready', 'True')),
    updatedReplicas: 2,
    replicas: 2,
  });
  expect(status?.currentRevision).toBe(status?.updateRevision);
  expect((await world.replicaSets()).map((set) => set.spec?.replicas)).toEqual([0, 2]);
  expect(world.events.map((event) => event.reason)).toContain('RolloutComplete');
});

it('stays within its bounds when controllers come, go and overlap in the middle of a rollout', async () => {
  await serving(3);
  const totals: number[] = [];
  const served: number[] = [];
  let stop = world.startOperator();
  await world.change('chat', { engine: { contextLength: 1024 } });
  for (let round = 0; ; round++) {
    const sets = await world.replicaSets();
    totals.push(sets.reduce((total, set) => total + (set.spec?.replicas ?? 0), 0));
    served.push((await world.pods()).filter(isReady).length);
    const { status } = await world.deployment('chat');
    if (status?.observedGeneration === 2 && status.rollout?.phase === 'Idle') break;
    expect(round).toBeLessThan(200);
    if (round % 4 === 3) {
      await stop();
      stop = world.startOperator();
    }
    await world.serveAll();
  }
  expect(Math.max(...totals)).toBe(4);
  expect(Math.min(...served)).toBeGreaterThanOrEqual(3);
});

it('goes back to the ReplicaSet of an earlier spec, and renumbers it', async () => {
  await serving();
  const [first] = await world.replicaSets();
  await world.change('chat', { engine: { contextLength: 1024 } });
  await expect.poll(() => world.replicaSets(), slow).toHaveLength(2);
  await world.serveUntil('chat', { rollout: { phase: 'Idle' }, conditions: conditions(condition('Ready', 'True')) });
  await world.change('chat', { engine: null });
  await expect.poll(async () => (await world.replicaSets()).at(-1)?.metadata?.name, slow).toBe(first?.metadata?.name);
  await world.serveUntil('chat', { conditions: conditions(condition('Ready', 'True')) });
  const sets = await world.replicaSets();
  expect(sets.map((set) => [set.spec?.replicas, set.metadata?.annotations?.['slm.dev/revision-number']])).toEqual([
    [0, '2'],
    [1, '3'],
  ]);
});

it('stands still while paused, and still honours a new size', async () => {
  await serving(2);
  await world.change('chat', { paused: true, engine: { contextLength: 1024 } });
  await world.until('chat', {
    rollout: { phase: 'Paused' },
    conditions: conditions(condition('Ready', 'False', 'Paused')),
  });
  await world.change('chat', { replicas: 3 });
  await expect.poll(async () => (await world.replicaSets()).map((set) => set.spec?.replicas), slow).toEqual([3]);
  await world.change('chat', { paused: false });
  await world.serveUntil('chat', {
    conditions: conditions(condition('Ready', 'True')),
    updatedReplicas: 3,
    replicas: 3,
  });
});

it('is sized through the scale subresource, down to zero and back', async () => {
  await serving();
  const path = `/apis/slm.dev/v1alpha1/namespaces/${world.namespace}/slmdeployments/chat/scale`;
  const scale = (replicas: number) =>
    world.client.request({
      method: 'PATCH',
      path,
      contentType: 'application/merge-patch+json',
      body: { spec: { replicas } },
    });
  await scale(0);
  await world.serveUntil('chat', { conditions: conditions(condition('Ready', 'True', 'ScaledToZero')), replicas: 0 });
  await scale(2);
  await world.serveUntil('chat', { conditions: conditions(condition('Ready', 'True', 'Ready')), readyText: '2/2' });
  const answer = await world.client.request<{ status: { replicas: number; selector: string } }>({
    method: 'GET',
    path,
  });
  expect(answer.status).toEqual({
    replicas: 2,
    selector: 'app.kubernetes.io/managed-by=slm-operator,slm.dev/deployment=chat',
  });
});

it('makes an SLMModel for a source written in place, and lets one of somebody else be', async () => {
  await world.addNode();
  await world.deploy('inline', { model: { uri: 'hf://org/repo' } });
  await expect
    .poll(() => world.client.find(SLMModel, world.ref('inline')), slow)
    .toMatchObject({
      spec: { source: { uri: 'hf://org/repo' } },
    });

  await world.addModel('taken', 'mine');
  const before = await world.client.get(SLMModel, world.ref('taken'));
  await world.deploy('taken', { model: { uri: 'hf://other/repo' } });
  await world.until('taken', { conditions: conditions(condition('Stalled', 'True', 'ModelConflict')) });
  expect((await world.client.get(SLMModel, world.ref('taken'))).spec).toEqual(before.spec);
});

it('refuses to touch a Service that is not its own, and says what to do', async () => {
  await world.client.create(Service, {
    metadata: world.ref('chat'),
    spec: { ports: [{ port: 80 }], selector: { app: 'theirs' } },
  });
  await world.addNode();
  await world.deploy('chat', { modelRef: { name: 'smollm2' } });
  await world.until('chat', {
    conditions: conditions(condition('Ready', 'False', 'ChildConflict')),
    statusText:
      'Service chat exists and does not belong to SLMDeployment chat; it is left as it is: delete or rename it, or choose another name for SLMDeployment chat',
  });
  expect((await world.client.get(Service, world.ref('chat'))).spec?.selector).toEqual({ app: 'theirs' });
});

const ResourceQuota = defineResource<KubeObject & { spec: object }>({
  group: '',
  version: 'v1',
  plural: 'resourcequotas',
  kind: 'ResourceQuota',
  namespaced: true,
});

it('says which quota refuses its pods', async () => {
  await world.client.create(ResourceQuota, { metadata: world.ref('tight'), spec: { hard: { pods: '0' } } });
  const node = await world.addNode();
  await world.reportNode(node, await world.addModel('smollm2', 'one'), 100);
  await world.deploy('chat', { modelRef: { name: 'smollm2' } });
  await world.until('chat', {
    conditions: conditions(condition('Ready', 'False', 'QuotaExceeded')),
    statusText:
      'ResourceQuota tight allows pods=0, pods=0 is used and pods=1 more is asked for; raise the quota or ask for less',
  });
  expect(await world.pods()).toEqual([]);
});

it('lifts what scheduler, kubelet and server say about a pod', async () => {
  const node = await world.addNode();
  await world.reportNode(node, await world.addModel('smollm2', 'one'), 100);
  await world.deploy('chat', { modelRef: { name: 'smollm2' } });
  await expect.poll(() => world.pods(), slow).toHaveLength(1);
  const [pod] = await world.pods();
  if (pod === undefined) throw new Error('no pod');

  await world.podStatus(pod, {
    conditions: [
      {
        type: 'PodScheduled',
        status: 'False',
        reason: 'Unschedulable',
        message:
          '0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient memory. preemption: 0/3 nodes …',
      },
    ],
  });
  await world.until('chat', {
    conditions: conditions(condition('Scheduled', 'False', 'Unschedulable')),
    statusText: `pod ${pod.metadata?.name}: no node can take it; of 3 nodes 1: cordoned, 2: too little memory left`,
  });

  await world.bind(pod, node);
  const ended = { exitCode: 137, reason: 'OOMKilled' };
  await world.podStatus(pod, {
    phase: 'Running',
    conditions: [{ type: 'PodScheduled', status: 'True' }],
    containerStatuses: [
      {
        name: 'server',
        image: 'x',
        imageID: '',
        ready: false,
        restartCount: 2,
        state: { waiting: { reason: 'CrashLoopBackOff' } },
        lastState: { terminated: ended },
      },
    ],
  });
  await world.until('chat', { conditions: conditions(condition('Ready', 'False', 'OutOfMemory')) });
});

it('reads the kubelet’s mount event of a pod that waits for its volume', async () => {
  const node = await world.addNode();
  await world.reportNode(node, await world.addModel('smollm2', 'one'), 100);
  await world.deploy('chat', { modelRef: { name: 'smollm2' } });
  await expect.poll(() => world.pods(), slow).toHaveLength(1);
  const [pod] = await world.pods();
  if (pod === undefined) throw new Error('no pod');
  await world.bind(pod, node);
  const longAgo = new Date(Date.now() - 60_000).toISOString();
  const { name, namespace, uid } = pod.metadata ?? {};
  await world.client.create(Event, {
    metadata: { name: 'mount', namespace: world.namespace },
    eventTime: `${longAgo.slice(0, -1)}000Z`,
    reportingController: 'kubelet',
    reportingInstance: node,
    action: 'Mount',
    type: 'Warning',
    reason: 'FailedMount',
    note: 'MountVolume.SetUp failed for volume "model" : rpc error: code = PermissionDenied desc = namespace x may not use it',
    regarding: { apiVersion: 'v1', kind: 'Pod', name, namespace, uid },
  });
  await world.podStatus(pod, {
    phase: 'Pending',
    conditions: [{ type: 'PodScheduled', status: 'True', lastTransitionTime: longAgo }],
  });
  await world.until('chat', { statusText: `pod ${name}: namespace x may not use it` });
});

it('goes on serving when the model is deleted, and says so', async () => {
  await serving();
  await world.client.delete(SLMModel, world.ref('smollm2'));
  await world.until('chat', {
    conditions: conditions(condition('ModelReady', 'False', 'ModelNotFound'), condition('Available', 'True')),
    readyReplicas: 1,
  });
  expect(await world.pods()).toHaveLength(1);
  await world.addModel('smollm2', 'one');
  await world.until('chat', { conditions: conditions(condition('Ready', 'True')) });
  expect(await world.replicaSets()).toHaveLength(1);
});

it('waits for the Secret of its certificate, and then serves HTTPS', async () => {
  const node = await world.addNode();
  await world.reportNode(node, await world.addModel('smollm2', 'one'), 100);
  await world.deploy('chat', { modelRef: { name: 'smollm2' }, tls: { secretRef: { name: 'cert' } } });
  await world.until('chat', {
    conditions: conditions(condition('Ready', 'False', 'TLSSecretNotFound')),
    statusText: `there is no Secret cert in namespace ${world.namespace}; create it with kubectl create secret tls, or leave out spec.tls`,
  });
  expect(await world.pods()).toEqual([]);

  const data = {
    'tls.crt': Buffer.from('certificate').toString('base64'),
    'tls.key': Buffer.from('key').toString('base64'),
  };
  await world.client.create(Secret, { metadata: world.ref('cert'), type: 'kubernetes.io/tls', data });
  // Looked for every ten seconds; any change wakes it sooner.
  await world.change('chat', { limits: { maxTokens: 100 } });
  await expect.poll(() => world.pods(), slow).toHaveLength(1);
  const { status } = await world.serveUntil('chat', { conditions: conditions(condition('Ready', 'True')) });
  expect(status?.endpoints).toEqual({
    ollama: `https://chat.${world.namespace}.svc:11434`,
    openai: `https://chat.${world.namespace}.svc:8080/v1`,
  });
  const [container] = (await world.pods())[0]?.spec?.containers ?? [];
  expect(container?.readinessProbe?.httpGet?.scheme).toBe('HTTPS');
  expect(container?.env).toEqual(
    expect.arrayContaining([
      { name: 'SLM_TLS_CERT_FILE', value: '/etc/slm/tls/tls.crt' },
      { name: 'SLM_TLS_KEY_FILE', value: '/etc/slm/tls/tls.key' },
      { name: 'SLM_MAX_TOKENS', value: '100' },
    ]),
  );
});

it('gives pods that take ServiceAccount tokens the broker’s address, and lets them out to it alone', async () => {
  const node = await world.addNode();
  await world.reportNode(node, await world.addModel('smollm2', 'one'), 100);
  await world.deploy('chat', { modelRef: { name: 'smollm2' }, auth: { type: 'ServiceAccount' } });
  await world.until('chat', {
    conditions: conditions(condition('Ready', 'False', 'BrokerNotReady')),
    blockedBy: [expect.objectContaining({ message: expect.stringContaining('slm-operator-ca') as string }) as object],
  });
  await world.client.create(ConfigMap, { metadata: world.ref('slm-operator-ca'), data: { 'ca.crt': 'authority' } });
  const operator = await world.client.create(Service, {
    metadata: world.ref('slm-operator'),
    spec: { ports: [{ port: 9443 }], selector: {} },
  });
  await world.change('chat', { auth: { allowedServiceAccounts: [{ namespace: 'team' }] } });
  await expect.poll(() => world.pods(), slow).toHaveLength(1);

  const ip = operator.spec?.clusterIP;
  expect((await world.client.get(ConfigMap, world.ref('chat-broker'))).data).toEqual({
    address: `${ip}:9443`,
    host: `slm-operator.${world.namespace}.svc`,
    'ca.crt': 'authority',
  });
  expect((await world.client.get(NetworkPolicy, world.ref('chat'))).spec).toMatchObject({
    policyTypes: ['Ingress', 'Egress'],
    egress: [
      {
        ports: [{ port: 9443 }],
        to: [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': world.namespace } } }],
      },
    ],
  });
  const [pod] = await world.pods();
  expect(pod?.spec?.automountServiceAccountToken).toBe(false);
  expect(pod?.spec?.volumes?.find((volume) => volume.name === 'broker')?.projected?.sources).toEqual([
    { configMap: { name: 'chat-broker' } },
    { serviceAccountToken: { audience: 'slm-operator', expirationSeconds: 3600, path: 'token' } },
  ]);
  expect(pod?.spec?.containers[0]?.env).toEqual(
    expect.arrayContaining([
      { name: 'SLM_AUTH', value: 'ServiceAccount' },
      { name: 'SLM_BROKER_DIR', value: '/etc/slm/broker' },
      { name: 'SLM_TOKEN_AUDIENCE', value: `chat.${world.namespace}.svc` },
    ]),
  );
  expect((await world.deployment('chat')).status?.apiKeySecret).toBeUndefined();

  // Who may ask is the broker's to know: another list makes no new pods, and a new authority no new revision.
  await world.change('chat', { auth: { allowedServiceAccounts: [{ name: 'other' }] } });
  await world.client.patch(ConfigMap, world.ref('slm-operator-ca'), 'merge', { data: { 'ca.crt': 'renewed' } });
  await world.change('chat', { revisionHistoryLimit: 1 });
  await expect
    .poll(async () => (await world.client.get(ConfigMap, world.ref('chat-broker'))).data?.['ca.crt'], slow)
    .toBe('renewed');
  expect(await world.replicaSets()).toHaveLength(1);
});

it('leaves nothing behind when it is deleted', async () => {
  await serving(2);
  await world.client.delete(SLMDeployment, world.ref('chat'));
  await expect
    .poll(async () => {
      await world.serveAll();
      const found = await Promise.all(
        [ReplicaSet, Service, PodDisruptionBudget, NetworkPolicy].map((type) =>
          world.client.listAll<KubeObject>(type, { namespace: world.namespace }),
        ),
      );
      const secret = await world.client.find(Secret, world.ref('chat-api-keys'));
      return found.flatMap((list) => list.items).length + (await world.pods()).length + (secret === undefined ? 0 : 1);
    }, slow)
    .toBe(0);
});
