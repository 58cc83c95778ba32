import type { SLMDeploymentSpec, SLMDeploymentStatus } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import type { Observed } from './observed.ts';
import { planDeployment } from './plan.ts';
import { wantedRevision } from './revision.ts';
import { refusedStatus } from './status.ts';
import {
  ago,
  cache,
  config,
  deployment,
  digest,
  model,
  now,
  observed,
  pod,
  replicaSet,
  replicaSetOf,
} from './testing/objects.ts';

const plan = (change: Partial<Observed> = {}) => planDeployment(observed(change), { now, config });

/** The revision that this spec asks for. */
const wanted = (spec: Partial<SLMDeploymentSpec> = {}) =>
  wantedRevision({ deployment: deployment(spec), model: { digest }, known: [], images: { cpu: 'server:1' } });
const name = (spec: Partial<SLMDeploymentSpec> = {}) => `chat-${wanted(spec).revision}`;

const applied = (result: ReturnType<typeof plan>) =>
  result.apply.map((object) => `${object.kind} ${object.metadata.name}`);
const removed = (result: ReturnType<typeof plan>) => result.remove.map((ref) => `${ref.kind} ${ref.name}`);
const ready = (status: SLMDeploymentStatus | undefined) => {
  const summary = status?.conditions?.filter(({ type }) => ['Ready', 'Reconciling', 'Stalled'].includes(type));
  return summary?.map((condition) => `${condition.type}=${condition.status} ${condition.reason}`).join(', ');
};
const condition = (status: SLMDeploymentStatus | undefined, type: string) => {
  const found = status?.conditions?.find((candidate) => candidate.type === type);
  return found && `${found.status} ${found.reason}: ${found.message}`;
};

describe('what is made', () => {
  it('a new revision when the model says something else of requests, with what it says', () => {
    const before = plan({ replicaSets: [replicaSetOf(wanted())] });
    const spec = { source: { uri: 'hf://org/repo' }, system: 'Be brief.', parameters: { temperature: 0, stop: ['a'] } };
    const after = plan({ model: model({}, { spec }), replicaSets: [replicaSetOf(wanted())] });
    const made = after.apply.find((object) => object.kind === 'ReplicaSet') as unknown as {
      readonly spec: {
        readonly template: {
          readonly spec: { readonly containers: { readonly env: { name: string; value: string }[] }[] };
        };
      };
    };
    expect([
      applied(before).filter((one) => one.startsWith('ReplicaSet')),
      made.spec.template.spec.containers[0]?.env,
    ]).toEqual([
      [],
      expect.arrayContaining([
        { name: 'SLM_MODEL_DEFAULTS', value: '{"parameters":{"temperature":0,"stop":["a"]},"system":"Be brief."}' },
      ]),
    ]);
  });

  it('everything at once for a new deployment', () => {
    const result = plan({ apiKeys: { state: 'to-make', keys: ['a', 'b'] }, deployment: deployment({ replicas: 2 }) });
    expect(result.create?.map((object) => object.metadata.name)).toEqual(['chat-api-keys']);
    expect(applied(result)).toEqual([
      'Service chat',
      'NetworkPolicy chat',
      'PodDisruptionBudget chat',
      `ReplicaSet ${name()}`,
    ]);
    expect(result.events.map(({ reason, note }) => `${reason}: ${note}`)).toEqual([
      `RevisionCreated: made ReplicaSet ${name()} for revision ${wanted().revision} of model smollm2, image server:1, with 2 pods: 3 pods may exist (replicas 2, surge 1)`,
    ]);
  });

  const rows: [string, Partial<Observed>, string[], string[]][] = [
    ['no budget for a single pod', {}, ['Service chat', 'NetworkPolicy chat', `ReplicaSet ${name()}`], []],
    [
      'a budget goes with the second pod',
      {
        disruptionBudget: {
          apiVersion: 'policy/v1',
          kind: 'PodDisruptionBudget',
          metadata: { name: 'chat', uid: 'u' },
        },
      },
      ['Service chat', 'NetworkPolicy chat', `ReplicaSet ${name()}`],
      ['PodDisruptionBudget chat'],
    ],
    [
      'a model for a source written in place, before everything else',
      { deployment: deployment({ model: { uri: 'hf://a/b' } }), model: undefined },
      ['SLMModel chat', 'Service chat', 'NetworkPolicy chat'],
      [],
    ],
    [
      'no model where one of somebody else has the name',
      { deployment: deployment({ model: { uri: 'hf://a/b' } }) },
      ['Service chat', 'NetworkPolicy chat'],
      [],
    ],
    [
      'no ReplicaSet at size zero',
      { deployment: deployment({ replicas: 0 }) },
      ['Service chat', 'NetworkPolicy chat'],
      [],
    ],
    ['no ReplicaSet without a model', { model: undefined }, ['Service chat', 'NetworkPolicy chat'], []],
    [
      'no ReplicaSet without the keys that it mounts',
      { deployment: deployment({ auth: { secretRef: { name: 'keys' } } }), apiKeys: { state: 'missing' } },
      ['Service chat', 'NetworkPolicy chat'],
      [],
    ],
    [
      'a ReplicaSet that exists is never applied again',
      { replicaSets: [replicaSetOf(wanted())] },
      ['Service chat', 'NetworkPolicy chat'],
      [],
    ],
    [
      'the model of an earlier source goes once nothing serves it',
      { replicaSets: [replicaSetOf(wanted())], leftoverModel: model() },
      ['Service chat', 'NetworkPolicy chat'],
      ['SLMModel smollm2'],
    ],
    [
      'and stays as long as something does',
      { replicaSets: [replicaSetOf(wanted(), { number: 2 }), replicaSet('old')], leftoverModel: model() },
      ['Service chat', 'NetworkPolicy chat'],
      [],
    ],
  ];
  it.each(rows)('%s', (_, change, apply, remove) => {
    const result = plan(change);
    expect({ apply: applied(result), remove: removed(result) }).toEqual({ apply, remove });
  });

  it('memory that is computed from the model', () => {
    const result = plan();
    // 94 MiB of weights, 22.5 MiB a thousand tokens for 4 requests of 2048, 320 MiB and a tenth of the weights besides;
    // and the KV cache once more, for prompts that are remembered.
    expect(result.apply.at(-1)).toMatchObject({
      spec: {
        template: {
          spec: {
            containers: [{ resources: { requests: { memory: '768Mi', cpu: '500m' }, limits: { memory: '768Mi' } } }],
          },
        },
      },
    });
  });
});

describe('sizes', () => {
  it('change only the ReplicaSet that was seen', () => {
    const spec = { replicas: 3 };
    const result = plan({ deployment: deployment(spec), replicaSets: [replicaSetOf(wanted(spec))] });
    expect(result.patch).toEqual([
      {
        target: {
          apiVersion: 'apps/v1',
          kind: 'ReplicaSet',
          name: name(spec),
          namespace: 'demo',
          uid: `${wanted(spec).revision}-uid`,
          resourceVersion: '7',
        },
        patch: { spec: { replicas: 3 } },
      },
    ]);
  });

  it('and number of a revision that becomes the goal again, in one patch', () => {
    const back = replicaSetOf(wanted(), { desired: 0, number: 1 });
    const result = plan({ replicaSets: [back, replicaSet('other', { number: 2 })] });
    expect(result.patch?.map(({ patch }) => patch)).toEqual([
      { metadata: { annotations: { 'slm.dev/revision-number': '3' } }, spec: { replicas: 1 } },
    ]);
  });

  it('remove what is no longer kept, as seen', () => {
    const old = [1, 2, 3, 4].map((number) => replicaSet(`o${number}`, { number, desired: 0 }));
    const result = plan({
      deployment: deployment({ revisionHistoryLimit: 2 }),
      replicaSets: [...old, replicaSetOf(wanted(), { number: 5 })],
    });
    expect(result.remove).toMatchObject([
      { name: 'chat-o1', uid: 'o1-uid', resourceVersion: '7' },
      { name: 'chat-o2', uid: 'o2-uid', resourceVersion: '7' },
    ]);
  });
});

describe('status', () => {
  const serving = { replicaSets: [replicaSetOf(wanted())], pods: [pod('chat-x', { phase: 'Running' })] };
  const notReady = {
    conditions: [
      {
        type: 'Ready',
        status: 'False' as const,
        reason: 'Unauthorized',
        message: 'huggingface.co wants a token',
        lastTransitionTime: ago(9),
      },
    ],
  };
  const unresolved = { latestRevision: undefined, revisions: [] } as object;
  const rows: [string, Partial<Observed>, string, string, string][] = [
    ['serving', serving, 'Ready=True Ready', 'Idle', 'serving chat'],
    [
      'scaled to zero',
      { deployment: deployment({ replicas: 0 }) },
      'Ready=True ScaledToZero',
      'Idle',
      'scaled to zero',
    ],
    [
      'on its way to zero',
      { deployment: deployment({ replicas: 0 }), replicaSets: [replicaSetOf(wanted(), { desired: 0, current: 1 })] },
      'Ready=False WaitingForPods, Reconciling=True WaitingForPods',
      'Progressing',
      'pods are going: 1 are left, 0 asked for',
    ],
    [
      'no model',
      { model: undefined },
      'Ready=False ModelNotFound, Reconciling=True ModelNotFound',
      'WaitingForModel',
      'there is no SLMModel smollm2 in namespace demo; create it, or correct spec.modelRef.name',
    ],
    [
      'a model that is being resolved',
      { model: model(unresolved) },
      'Ready=False ModelNotReady, Reconciling=True ModelNotReady',
      'WaitingForModel',
      'model smollm2: its source is being resolved',
    ],
    [
      'a model that says why not',
      { model: model({ ...unresolved, ...notReady }) },
      'Ready=False ModelNotReady, Reconciling=True ModelNotReady',
      'WaitingForModel',
      'model smollm2: huggingface.co wants a token',
    ],
    [
      'a model that only a person can repair',
      {
        model: model({
          ...unresolved,
          conditions: [...notReady.conditions, { ...notReady.conditions[0], type: 'Stalled', status: 'True' }] as never,
        }),
      },
      'Ready=False ModelNotReady, Stalled=True ModelNotReady',
      'WaitingForModel',
      'model smollm2: huggingface.co wants a token',
    ],
    [
      'a model of somebody else in the way',
      { deployment: deployment({ model: { uri: 'hf://a/b' } }), model: model({}, { metadata: { name: 'chat' } }) },
      'Ready=False ModelConflict, Stalled=True ModelConflict',
      'WaitingForModel',
      'SLMModel chat exists and does not belong to this deployment; refer to it with spec.modelRef.name: chat instead of spec.model, or give the deployment another name',
    ],
    [
      'a model whose spec just changed',
      { ...serving, model: model({}, { metadata: { name: 'smollm2', generation: 2 } }) },
      'Ready=False ModelNotReady, Reconciling=True ModelNotReady',
      'Progressing',
      'model smollm2: its changed source is being resolved',
    ],
    [
      'bytes on their way',
      { caches: new Map([['n1', cache('n1', { state: 'Downloading', bytesDone: size(0.62) })]]) },
      'Ready=False WaitingForBytes, Reconciling=True WaitingForBytes',
      'WaitingForModel',
      'model smollm2: 62% of 98 MB on node n1',
    ],
    [
      'no keys',
      { deployment: deployment({ auth: { secretRef: { name: 'keys' } } }), apiKeys: { state: 'missing' } },
      'Ready=False APIKeySecretNotFound, Reconciling=True APIKeySecretNotFound',
      'WaitingForModel',
      'there is no Secret keys in namespace demo; create it with one API key a value, or leave out spec.auth.secretRef',
    ],
    [
      'no certificate',
      { deployment: deployment({ tls: { secretRef: { name: 'cert' } } }), tls: { state: 'missing' } },
      'Ready=False TLSSecretNotFound, Reconciling=True TLSSecretNotFound',
      'WaitingForModel',
      'there is no Secret cert in namespace demo; create it with kubectl create secret tls, or leave out spec.tls',
    ],
    [
      'half a certificate',
      {
        deployment: deployment({ tls: { secretRef: { name: 'cert' } } }),
        tls: { state: 'unusable', lacks: ['tls.key'] },
      },
      'Ready=False TLSSecretNotFound, Reconciling=True TLSSecretNotFound',
      'WaitingForModel',
      'Secret cert in namespace demo lacks tls.key: it must be of type kubernetes.io/tls',
    ],
    [
      'nobody who reviews tokens',
      { deployment: deployment({ auth: { type: 'ServiceAccount' } }), broker: { state: 'missing', why: 'no Service' } },
      'Ready=False BrokerNotReady, Reconciling=True BrokerNotReady',
      'WaitingForModel',
      'tokens cannot be reviewed yet: no Service',
    ],
    [
      'pods that start',
      { replicaSets: [replicaSetOf(wanted(), { available: 0 })], pods: [pod()] },
      'Ready=False WaitingForPods, Reconciling=True WaitingForPods',
      'Progressing',
      'pods are starting: 0 of 1 pods serve',
    ],
    [
      'a rollout',
      { replicaSets: [replicaSetOf(wanted(), { number: 2, available: 0 }), replicaSet('old')] },
      'Ready=False RollingUpdate, Reconciling=True RollingUpdate',
      'Progressing',
      `moving to revision ${wanted().revision}: 1 of 1 pods have it, 1 of 1 pods serve`,
    ],
    [
      'a pause in a rollout',
      { deployment: deployment({ paused: true }), replicaSets: [replicaSet('old')] },
      'Ready=False Paused, Reconciling=True Paused',
      'Paused',
      `spec.paused is true: 0 of 1 pods have revision ${wanted().revision}; set it to false to go on`,
    ],
    [
      'a pause without a rollout',
      { ...serving, deployment: deployment({ paused: true }) },
      'Ready=True Ready',
      'Idle',
      'serving chat',
    ],
    [
      'a rollout that stands still',
      {
        deployment: deployment(
          {},
          {
            observedGeneration: 1,
            updateRevision: wanted().revision,
            replicas: 1,
            updatedReplicas: 1,
            rollout: { phase: 'Progressing', lastProgressTime: ago(601) },
          },
        ),
        replicaSets: [replicaSetOf(wanted(), { available: 0 })],
      },
      'Ready=False ProgressDeadlineExceeded, Stalled=True ProgressDeadlineExceeded',
      'Stalled',
      'no progress for 10 min: pods are starting: 0 of 1 pods serve',
    ],
  ];
  it.each(rows)('%s', (_, change, summary, phase, text) => {
    const { status } = plan(change);
    expect({ summary: ready(status), phase: status?.rollout?.phase, text: status?.statusText }).toEqual({
      summary,
      phase,
      text,
    });
  });

  it('a model that was deleted takes ModelReady away, and nothing else', () => {
    const { status, patch } = plan({ ...serving, model: undefined });
    expect(condition(status, 'ModelReady')).toMatch(/^False ModelNotFound/);
    expect(condition(status, 'Available')).toBe('True Available: 1 of 1 pods serve');
    expect(patch).toEqual([]);
  });

  it('all of it for two pods that serve', () => {
    const spec = { replicas: 2 };
    const given = {
      deployment: deployment(spec),
      replicaSets: [replicaSetOf(wanted(spec), { desired: 2 })],
      pods: serving.pods,
    };
    expect(plan(given).status).toMatchInlineSnapshot(`
      {
        "apiKeySecret": "chat-api-keys",
        "availableReplicas": 2,
        "conditions": [
          {
            "lastTransitionTime": "2026-11-23T12:00:00Z",
            "message": "2 of 2 pods serve revision f712db10c6",
            "observedGeneration": 1,
            "reason": "Ready",
            "status": "True",
            "type": "Ready",
          },
          {
            "lastTransitionTime": "2026-11-23T12:00:00Z",
            "message": "2 of 2 pods serve",
            "observedGeneration": 1,
            "reason": "Available",
            "status": "True",
            "type": "Available",
          },
          {
            "lastTransitionTime": "2026-11-23T12:00:00Z",
            "message": "model smollm2 revision a1b2c3d4e5 may be served",
            "observedGeneration": 1,
            "reason": "Ready",
            "status": "True",
            "type": "ModelReady",
          },
          {
            "lastTransitionTime": "2026-11-23T12:00:00Z",
            "message": "every pod has a node",
            "observedGeneration": 1,
            "reason": "Scheduled",
            "status": "True",
            "type": "Scheduled",
          },
        ],
        "currentRevision": "f712db10c6",
        "endpoints": {
          "ollama": "http://chat.demo.svc:11434",
          "openai": "http://chat.demo.svc:8080/v1",
        },
        "hardware": {
          "class": "cpu",
          "degraded": false,
          "message": "2 pods on cpu",
          "profile": "cpu",
          "summary": "cpu",
          "tiers": [
            {
              "class": "cpu",
              "name": "cpu",
              "profile": "cpu",
              "readyReplicas": 2,
              "replicas": 2,
            },
          ],
        },
        "modelName": "smollm2",
        "observedGeneration": 1,
        "readyReplicas": 2,
        "readyText": "2/2",
        "replicas": 2,
        "rollout": {
          "lastProgressTime": "2026-11-23T12:00:00Z",
          "message": "2 of 2 pods serve revision f712db10c6",
          "phase": "Idle",
        },
        "selector": "app.kubernetes.io/managed-by=slm-operator,slm.dev/deployment=chat",
        "statusText": "serving chat",
        "updateRevision": "f712db10c6",
        "updatedReplicas": 2,
      }
    `);
  });

  it('a wait keeps the time when it began, and a condition that of its last change', () => {
    const first = plan({ model: undefined }).status;
    const again = planDeployment(observed({ model: undefined, deployment: deployment({}, first) }), {
      now: now + 60_000,
      config,
    });
    expect(again.status).toEqual(first);
    expect(again.events).toEqual([]);
  });

  it('the second plan of what a plan wrote is the same: nothing to write', () => {
    const first = plan(serving).status;
    const second = planDeployment(observed({ ...serving, deployment: deployment({}, first) }), {
      now: now + 5000,
      config,
    });
    expect(second.status).toEqual(first);
    expect(second).toMatchObject({ patch: [], remove: [], events: [], outcome: { outcome: 'done' } });
  });

  it('few pods are enough where the strategy allows for it, but never none', () => {
    const spec = { replicas: 2, strategy: { maxUnavailable: '100%' } };
    const given = (available: number) => ({
      deployment: deployment(spec),
      replicaSets: [replicaSetOf(wanted(spec), { desired: 2, available })],
    });
    expect(condition(plan(given(1)).status, 'Available')).toMatch(/^True/);
    expect(condition(plan(given(0)).status, 'Available')).toBe(
      'False Unavailable: pods are starting: 0 of 2 pods serve',
    );
  });
});

describe('events', () => {
  it('tell of new trouble once', () => {
    const { events } = plan({ model: undefined });
    expect(events).toMatchObject([{ type: 'Warning', reason: 'ModelNotFound' }]);
  });
  it('do not tell of ordinary waits', () => {
    const caches = new Map([['n1', cache('n1', { state: 'Queued' })]]);
    expect(plan({ caches }).events).toEqual([]);
    const rolling = [replicaSetOf(wanted(), { number: 2, available: 0 }), replicaSet('old')];
    expect(plan({ replicaSets: rolling }).events).toEqual([]);
  });
});

describe('outcomes', () => {
  const missing: Partial<Observed> = {
    deployment: deployment({ auth: { secretRef: { name: 'keys' } } }),
    apiKeys: { state: 'missing' },
  };
  it.each([
    ['done when it serves', { replicaSets: [replicaSetOf(wanted())] }, { outcome: 'done' }],
    ['looks again for keys, which are not watched', missing, { outcome: 'waiting', requeueAfter: 10_000 }],
    [
      'comes back at the deadline',
      { replicaSets: [replicaSetOf(wanted(), { available: 0 })] },
      { outcome: 'waiting', reason: 'WaitingForPods', requeueAfter: 601_000 },
    ],
  ] as [string, Partial<Observed>, object][])('%s', (_, change, outcome) => {
    expect(plan(change).outcome).toMatchObject(outcome);
  });
});

it('a refusal is the first thing that status tells, and pods that serve still count', () => {
  const planned = plan({ replicaSets: [replicaSetOf(wanted())] }).status ?? {};
  const target = { apiVersion: 'v1', kind: 'Service', name: 'chat' };
  const status = refusedStatus(planned, undefined, { reason: 'ChildConflict', message: 'taken', target }, now);
  expect(ready(status)).toBe('Ready=False ChildConflict, Reconciling=True ChildConflict');
  expect(status).toMatchObject({
    statusText: 'taken',
    blockedBy: [{ reason: 'ChildConflict', message: 'taken', since: ago(0) }],
  });
  expect(condition(status, 'Available')).toMatch(/^True/);
});

function size(part: number): number {
  return Math.ceil(98_362_432 * part);
}
