import type { CacheEntry, SLMDeployment, SLMModel, SLMModelStatus, SLMNodeCache } from '@slm-operator/crds';
import { describe, expect, test } from 'vitest';
import type { NodeStock } from '../hardware/node-hardware.ts';
import { demandOf, usesModel } from '../nodecache/demand.ts';
import { nodeOf as anyNode, choiceFor, useOf } from '../nodecache/testing/objects.ts';
import type { Resolution } from '../sources/resolve.ts';
import type { ObservedModel, ResolutionState } from './observed.ts';
import { sourceHash } from './parts.ts';
import { planModel } from './plan.ts';

const NOW = Date.parse('2026-01-01T12:00:00Z');
const A = `sha256:${'a'.repeat(64)}`;
const B = `sha256:${'b'.repeat(64)}`;
const SIZE = 1_000_000;

const source = { uri: 'hf://acme/tiny@v1' };

function resolution(digest = A): Resolution {
  return {
    digest,
    sourceRevision: 'c0ffee00'.repeat(5),
    size: SIZE,
    files: [{ path: 'tiny.gguf', size: SIZE, digest }],
    sources: [{ url: 'https://hub/acme/tiny/resolve/c0ffee/{path}' }],
    metadata: {
      format: 'GGUF',
      architecture: 'llama',
      parametersText: '1M',
      quantization: 'Q4_0',
      hasChatTemplate: true,
    },
    estimate: { weights: SIZE, kvCachePer1kTokens: 2048 },
  };
}

function model(spec: Partial<SLMModel['spec']> = {}, status?: SLMModelStatus): SLMModel {
  return {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMModel',
    metadata: { name: 'tiny', namespace: 'demo', generation: 1 },
    spec: { source, ...spec },
    ...(status === undefined ? {} : { status }),
  };
}

const answered = (more: Partial<ResolutionState> = {}): ResolutionState => ({
  hash: sourceHash({ source }),
  generation: 1,
  running: false,
  failures: 0,
  ...more,
});

const failure = (more: object = {}) =>
  ({ reason: 'NotFound', message: 'no such file', terminal: true, ...more }) as const;

const nodeOf = (name: string, more: Partial<NodeStock> = {}) => anyNode({ name, ...more });
const threeNodes = ['n1', 'n2', 'n3'].map((name) => nodeOf(name));

function cacheOf(name: string, entry?: Partial<CacheEntry>, digest = A): [string, SLMNodeCache] {
  const whole: CacheEntry = { digest, state: 'Ready', bytesDone: SIZE, bytesTotal: SIZE, ...entry };
  return [
    name,
    {
      apiVersion: 'slm.dev/v1alpha1',
      kind: 'SLMNodeCache',
      metadata: { name },
      status: { observedGeneration: 1, entries: entry === undefined ? [] : [whole] },
    },
  ];
}

const chat: SLMDeployment = {
  apiVersion: 'slm.dev/v1alpha1',
  kind: 'SLMDeployment',
  metadata: { name: 'chat', namespace: 'demo' },
  spec: { modelRef: { name: 'tiny' } },
};

function observe(more: Partial<ObservedModel> = {}): ObservedModel {
  const observed = {
    model: model(),
    resolution: undefined,
    nodes: [],
    caches: new Map(),
    deployments: [],
    uses: [],
    lastWrite: undefined,
    ...more,
  };
  const { deployments, uses, nodes } = observed;
  return {
    demandOf: (of) => demandOf({ model: of, deployments, uses, choice: choiceFor(nodes) }),
    ...observed,
    deployments: deployments.filter((deployment) => usesModel(deployment, observed.model)),
    sourceHash: sourceHash(observed.model.spec),
  };
}

/** A model that was resolved before, as the API server has it. */
function resolvedModel(spec: Partial<SLMModel['spec']> = {}, more: Partial<ObservedModel> = {}): SLMModel {
  const { status } = planModel(observe({ resolution: answered({ result: resolution() }), ...more }), { now: NOW });
  return model(spec, status);
}

function say(status: SLMModelStatus | undefined): string[] {
  return (status?.conditions ?? []).map(
    ({ type, status: value, reason, message }) => `${type}=${value} ${reason}: ${message}`,
  );
}

function planOf(observed: ObservedModel, now = NOW) {
  const plan = planModel(observed, { now });
  return { ...plan, says: say(plan.status), tells: plan.events.map(({ reason, note }) => `${reason}: ${note}`) };
}

describe('resolving', () => {
  test('a new model is asked for, and the status says so', () => {
    const plan = planOf(observe());
    expect(plan.resolve).toBe(true);
    expect(plan.says).toEqual([
      'Ready=False Resolving: asking hf://acme/tiny@v1',
      'Reconciling=True Resolving: asking hf://acme/tiny@v1',
      'Resolved=Unknown Resolving: asking hf://acme/tiny@v1',
    ]);
  });

  test('a source that is being asked is not asked twice', () => {
    expect(planOf(observe({ resolution: answered({ running: true }) })).resolve).toBe(false);
  });

  test('an answer makes the revision, with everything that the header says', () => {
    const plan = planOf(observe({ resolution: answered({ result: resolution() }) }));
    expect(plan.resolve).toBe(false);
    expect(plan.status).toEqual({
      observedGeneration: 1,
      conditions: [
        expect.objectContaining({
          type: 'Ready',
          status: 'True',
          reason: 'Ready',
          message: 'revision aaaaaaaaaa: no deployment uses it yet, so no node pulls it ahead',
        }),
        expect.objectContaining({
          type: 'Resolved',
          status: 'True',
          message: 'hf://acme/tiny@v1 is revision aaaaaaaaaa, commit c0ffee00c0ff, 1.0 MB',
        }),
        expect.objectContaining({ type: 'Verified', status: 'Unknown', reason: 'Verifying' }),
        expect.objectContaining({ type: 'Cached', status: 'False', reason: 'NotWanted' }),
      ],
      resolvedSource: sourceHash({ source }),
      latestRevision: {
        name: 'aaaaaaaaaa',
        digest: A,
        sourceRevision: 'c0ffee00'.repeat(5),
        size: SIZE,
        resolvedAt: '2026-01-01T12:00:00Z',
      },
      revisions: [
        {
          name: 'aaaaaaaaaa',
          digest: A,
          sourceRevision: 'c0ffee00'.repeat(5),
          size: SIZE,
          resolvedAt: '2026-01-01T12:00:00Z',
          files: [{ path: 'tiny.gguf', size: SIZE, digest: A }],
          sources: [{ url: 'https://hub/acme/tiny/resolve/c0ffee/{path}' }],
        },
      ],
      metadata: resolution().metadata,
      estimate: resolution().estimate,
      cache: {
        desiredNodes: 0,
        readyNodes: 0,
        downloadingNodes: 0,
        failedNodes: 0,
        bytesDone: 0,
        bytesTotal: 0,
        percent: 0,
        bytesPerSecond: 0,
        nodes: '0/0',
        progress: '',
      },
    });
    expect(plan.tells).toEqual([
      'RevisionResolved: hf://acme/tiny@v1 at commit c0ffee00c0ff is revision aaaaaaaaaa, 1.0 MB',
    ]);
    expect(plan.outcome).toEqual({ outcome: 'done' });
  });

  test('what was resolved is never asked for again, also after a restart', () => {
    const plan = planOf(observe({ model: resolvedModel() }));
    expect(plan.resolve).toBe(false);
    expect(plan.status).toEqual(resolvedModel().status);
    expect(plan.tells).toEqual([]);
  });

  test('a failure that only a change can end is Stalled, and looked at again later', () => {
    const plan = planOf(observe({ resolution: answered({ failures: 1, failure: failure(), retryAt: NOW + 300_000 }) }));
    expect(plan.resolve).toBe(false);
    expect(plan.says).toEqual([
      'Ready=False NotFound: no such file',
      'Stalled=True NotFound: no such file',
      'Resolved=False NotFound: no such file',
    ]);
    expect(plan.tells).toEqual(['NotFound: no such file']);
    expect(plan.outcome).toMatchObject({ outcome: 'waiting', reason: 'NotFound', requeueAfter: 300_000 });
  });

  test('a failure that may pass is Reconciling', () => {
    const passing = failure({ reason: 'ConnectionFailed', terminal: false });
    const plan = planOf(observe({ resolution: answered({ failures: 1, failure: passing, retryAt: NOW + 1000 }) }));
    expect(plan.says[1]).toBe('Reconciling=True ConnectionFailed: no such file');
  });

  test('a failure is said once, not at every attempt', () => {
    const observed = observe({ resolution: answered({ failures: 1, failure: failure(), retryAt: NOW + 1000 }) });
    const { status } = planModel(observed, { now: NOW });
    expect(planOf({ ...observed, model: model({}, status as SLMModelStatus) }).tells).toEqual([]);
  });

  test('when the time has come it is asked again, and the failure stays in sight meanwhile', () => {
    const state = answered({ failures: 1, failure: failure(), retryAt: NOW });
    expect(planOf(observe({ resolution: state })).resolve).toBe(true);
    expect(planOf(observe({ resolution: { ...state, running: true } })).says[2]).toBe(
      'Resolved=False NotFound: no such file',
    );
  });

  test('a person who touches the spec is not made to wait', () => {
    const state = answered({ generation: 0, failures: 1, failure: failure(), retryAt: NOW + 300_000 });
    expect(planOf(observe({ resolution: state })).resolve).toBe(true);
  });

  test('a source that fails after an earlier success keeps the revision that is served', () => {
    const changed = { source: { uri: 'hf://acme/gone' } };
    const state = answered({ hash: sourceHash(changed), failures: 1, failure: failure(), retryAt: NOW + 1000 });
    const plan = planOf(observe({ model: model(changed, resolvedModel().status), resolution: state }));
    expect(plan.status?.latestRevision?.digest).toBe(A);
    expect(plan.says.slice(0, 2)).toEqual([
      'Ready=False NotFound: no such file; revision aaaaaaaaaa of before is served meanwhile',
      'Stalled=True NotFound: no such file; revision aaaaaaaaaa of before is served meanwhile',
    ]);
  });

  test('an answer about a source of before is passed over', () => {
    const changed = model({ source: { uri: 'hf://acme/other' } });
    const plan = planOf(observe({ model: changed, resolution: answered({ result: resolution() }) }));
    expect(plan.resolve).toBe(true);
    expect(plan.status?.latestRevision).toBeUndefined();
  });

  test('a digest that is another than asked for is said by Verified, too', () => {
    const wrong = failure({ reason: 'DigestMismatch', message: 'it is another' });
    const plan = planOf(observe({ resolution: answered({ failures: 1, failure: wrong, retryAt: NOW + 1000 }) }));
    expect(plan.says).toContain('Verified=False DigestMismatch: it is another');
    expect(plan.says).toContain('Stalled=True DigestMismatch: it is another');
  });

  test('a suspended model asks nobody', () => {
    const plan = planOf(observe({ model: model({ suspend: true }) }));
    expect(plan.resolve).toBe(false);
    expect(plan.says[0]).toBe('Ready=False Suspended: spec.suspend is true: hf://acme/tiny@v1 is not asked');
    expect(plan.says[1]).toMatch(/^Stalled=True Suspended/);
  });
});

describe('revisions', () => {
  const use = (digest: string, deployment = 'chat') => useOf(digest, { model: 'tiny', deployment });
  const changed = { source: { uri: 'hf://acme/tiny@v2' } };
  const second = answered({ hash: sourceHash(changed), result: resolution(B) });
  const digests = (more: Partial<ObservedModel>) =>
    planOf(
      observe({ model: model(changed, resolvedModel().status), resolution: second, ...more }),
    ).status?.revisions?.map(({ digest, usedBy }) => `${digest.slice(7, 8)} ${usedBy?.join(',') ?? '-'}`);

  test.each<[string, Partial<ObservedModel>, string[]]>([
    ['the one before goes when nothing uses it', {}, ['b -']],
    ['the one before stays while a ReplicaSet uses it', { uses: [use(A), use(A, 'talk')] }, ['b -', 'a chat,talk']],
    ['the one before stays until the rollout has begun', { deployments: [chat] }, ['b -', 'a -']],
    ['the one before goes when the rollout is through', { deployments: [chat], uses: [use(B)] }, ['b chat']],
    ['both stay in the midst of a rollout', { deployments: [chat], uses: [use(B), use(A)] }, ['b chat', 'a chat']],
  ])('%s', (_, more, expected) => {
    expect(digests(more)).toEqual(expected);
  });
});

describe('users of a revision', () => {
  const use = (deployment: string) => useOf(A, { model: 'tiny', deployment });
  const many = Array.from({ length: 40 }, (_, index) => use(`chat-${index}`));
  const usersOf = (uses: ReturnType<typeof use>[], usersSince?: number) => {
    const plan = planOf(observe({ model: resolvedModel(), uses, usersSince }));
    return {
      status: undefined,
      wait: plan.outcome.outcome === 'waiting' ? plan.outcome.requeueAfter : undefined,
      ...plan,
    };
  };

  test('alone wait a moment for more of them, the longer the more there are', () => {
    expect(usersOf([use('chat')])).toMatchObject({ status: undefined, usersWait: true, wait: 2000 });
    expect(usersOf([use('chat')], NOW - 500)).toMatchObject({ status: undefined, wait: 1500 });
    expect(usersOf(many)).toMatchObject({ status: undefined, wait: 60_000 });
  });

  test('are written together in the end', () => {
    const { status, usersWait } = usersOf([use('chat'), use('talk')], NOW - 4000);
    expect(usersWait).toBe(false);
    expect(status?.revisions?.[0]?.usedBy).toEqual(['chat', 'talk']);
  });

  test('come along with whatever else there is to write', () => {
    const observed = observe({ model: resolvedModel(), uses: [use('chat')], deployments: [chat], nodes: threeNodes });
    expect(planOf(observed).status?.revisions?.[0]?.usedBy).toEqual(['chat']);
  });
});

describe('pulling', () => {
  const wanted = { deployments: [chat], nodes: threeNodes };
  const pull = (caches: [string, SLMNodeCache][], more: Partial<ObservedModel> = {}) =>
    planOf(observe({ ...wanted, model: resolvedModel(), caches: new Map(caches), ...more }));

  test.each<[string, [string, SLMNodeCache][], string, string, string]>([
    [
      'nobody has begun',
      [cacheOf('n1'), cacheOf('n2'), cacheOf('n3')],
      '0/3 0%',
      'Ready=False Queued: revision aaaaaaaaaa: 0 of 3 nodes hold it; 0% of 3.0 MB',
      'Reconciling',
    ],
    [
      'the nodes are at it',
      [
        cacheOf('n1'),
        cacheOf('n2', { state: 'Downloading', bytesDone: 400_000, bytesPerSecond: 100_000 }),
        cacheOf('n3', { state: 'Downloading', bytesDone: 700_000, bytesPerSecond: 100_000 }),
      ],
      '0/3 36% 200 kB/s 6s',
      'Ready=False Downloading: revision aaaaaaaaaa: 0 of 3 nodes hold it; 36% of 3.0 MB, 200 kB/s, 6 s left',
      'Reconciling',
    ],
    [
      'one has it, one verifies, and one failed and tries again',
      [
        cacheOf('n1', {}),
        cacheOf('n2', { state: 'Verifying' }),
        cacheOf('n3', {
          state: 'Failed',
          bytesDone: 0,
          error: { reason: 'ConnectionFailed', message: 'refused', attempts: 2, nextRetry: '2026-01-01T12:00:10Z' },
        }),
      ],
      '1/3 66%',
      'Ready=False Downloading: revision aaaaaaaaaa: 1 of 3 nodes holds it; 66% of 3.0 MB; node n3: refused',
      'Reconciling',
    ],
    [
      'the last one has no room',
      [
        cacheOf('n1', {}),
        cacheOf('n2', {}),
        cacheOf('n3', {
          state: 'Failed',
          bytesDone: 0,
          error: { reason: 'InsufficientDisk', message: 'it needs 1 MB', attempts: 1 },
        }),
      ],
      '2/3 66%',
      'Ready=False InsufficientDisk: revision aaaaaaaaaa: 2 of 3 nodes hold it; 66% of 3.0 MB; node n3: it needs 1 MB',
      'Stalled',
    ],
    [
      'all bytes are there, and not all verified',
      [cacheOf('n1', {}), cacheOf('n2', {}), cacheOf('n3', { state: 'Verifying' })],
      '2/3 99%',
      'Ready=False Downloading: revision aaaaaaaaaa: 2 of 3 nodes hold it; 99% of 3.0 MB',
      'Reconciling',
    ],
    [
      'an agent says nothing',
      [cacheOf('n1', {}), cacheOf('n2', {})],
      '2/3 66%',
      'Ready=False AgentNotReady: revision aaaaaaaaaa: 2 of 3 nodes hold it; 66% of 3.0 MB; no report from the node agent on n3; see the slm-operator-agent pods there',
      'Reconciling',
    ],
    [
      'all have it',
      [cacheOf('n1', {}), cacheOf('n2', {}), cacheOf('n3', {})],
      '3/3 100%',
      'Ready=True Ready: revision aaaaaaaaaa: 3 nodes hold it',
      'Resolved',
    ],
  ])('%s', (_, caches, columns, ready, second) => {
    const { status, says } = pull(caches);
    expect(`${status?.cache?.nodes} ${status?.cache?.progress}`).toBe(columns);
    expect(says[0]).toBe(ready);
    expect(says[1]?.split('=')[0]).toBe(second);
  });

  test('a node that is away is named', () => {
    const nodes = [nodeOf('n1'), nodeOf('n2', { ready: false })];
    const { says } = pull([cacheOf('n1', {}), cacheOf('n2', { state: 'Downloading', bytesDone: 1 })], { nodes });
    expect(says[0]).toBe(
      'Ready=False AgentNotReady: revision aaaaaaaaaa: 1 of 2 nodes holds it; 50% of 2.0 MB; not ready: n2',
    );
  });

  test('wrong bytes on every node are Stalled and not Verified', () => {
    const error = { reason: 'DigestMismatch', message: 'got sha256:1, wanted sha256:2', attempts: 1 };
    const wrong = threeNodes.map(({ name }) => cacheOf(name, { state: 'Failed', bytesDone: 0, error }));
    const { says, status } = pull(wrong);
    expect(says.filter((line) => line.includes('DigestMismatch')).map((line) => line.split(':')[0])).toEqual([
      'Ready=False DigestMismatch',
      'Stalled=True DigestMismatch',
      'Verified=False DigestMismatch',
      'Cached=False DigestMismatch',
    ]);
    expect(status?.failures).toHaveLength(3);
  });

  test('a deployment that fits on no node is told apart from one that is not there', () => {
    const { says } = pull([], {
      nodes: threeNodes.map(({ name }) => nodeOf(name, { taints: [{ key: 'x', effect: 'NoSchedule' }] })),
    });
    expect(says[0]).toMatch(/^Ready=False NoMatchingNodes: .*the deployments of this model ask for/);
  });

  test('policy None is Ready without any node', () => {
    const { says } = pull([], { model: resolvedModel({ prePull: { policy: 'None' } }) });
    expect(says[0]).toBe(
      'Ready=True Ready: revision aaaaaaaaaa: spec.prePull.policy is None, so a node pulls it when the first pod mounts it',
    );
  });

  test('policy Nodes pulls without a deployment', () => {
    const { status } = pull([], { model: resolvedModel({ prePull: { policy: 'Nodes' } }), deployments: [] });
    expect(status?.cache?.desiredNodes).toBe(3);
  });

  test('each quarter and the end are told, once', () => {
    let current = resolvedModel();
    const told: string[] = [];
    for (const done of [0, 100_000, 300_000, 400_000, 800_000, 1_000_000, 1_000_000]) {
      const entry: Partial<CacheEntry> =
        done < SIZE ? { state: 'Downloading', bytesDone: done, bytesPerSecond: 100_000 } : {};
      const plan = planOf(
        observe({ ...wanted, model: current, caches: new Map(threeNodes.map(({ name }) => cacheOf(name, entry))) }),
      );
      told.push(...plan.tells);
      current = model({}, plan.status);
    }
    expect(told).toEqual([
      'PullProgress: revision aaaaaaaaaa: 30% 300 kB/s 7s on 3 nodes',
      'PullProgress: revision aaaaaaaaaa: 80% 300 kB/s 2s on 3 nodes',
      'PullComplete: 3 nodes hold revision aaaaaaaaaa, 3.0 MB in all',
    ]);
  });

  test('progress alone waits for two seconds; news does not', () => {
    const at = (done: number) =>
      new Map(threeNodes.map(({ name }) => cacheOf(name, { state: 'Downloading', bytesDone: done })));
    const before = pull([...at(100_000)]).status as SLMModelStatus;
    const observed = { ...wanted, model: model({}, before), lastWrite: NOW - 500 };
    const more = planOf(observe({ ...observed, caches: at(900_000) }));
    expect(more.status).toBeUndefined();
    expect(more.tells).toEqual([]);
    expect(more.outcome).toMatchObject({ outcome: 'waiting', requeueAfter: 1500 });
    const whole = planOf(observe({ ...observed, caches: new Map(threeNodes.map(({ name }) => cacheOf(name, {}))) }));
    expect(whole.says[0]).toMatch(/^Ready=True/);
    const later = planOf(observe({ ...observed, caches: at(900_000), lastWrite: NOW - 2000 }));
    expect(later.status?.cache?.percent).toBe(90);
  });

  test('an idle model plans the status that it has', () => {
    const all = threeNodes.map(({ name }) => cacheOf(name, {}));
    const first = pull(all).status as SLMModelStatus;
    const again = planModel(observe({ ...wanted, model: model({}, first), caches: new Map(all) }), {
      now: NOW + 86_400_000,
    });
    expect(again.status).toEqual(first);
    expect(again.events).toEqual([]);
  });

  test('a suspended model that is not everywhere says so, and pulls no more', () => {
    const caches = new Map([cacheOf('n1', {}), cacheOf('n2')]);
    const n2 = caches.get('n2') as SLMNodeCache;
    const listed = {
      wanted: [{ digest: A, size: SIZE, files: [], sources: [], models: ['demo/tiny'], namespaces: ['demo'] }],
    };
    caches.set('n2', { ...n2, spec: listed });
    const { says } = pull([...caches], { model: resolvedModel({ suspend: true }) });
    expect(says[0]).toMatch(
      /^Ready=False Suspended: spec\.suspend is true, nothing is pulled; 0% of 1\.0 MB on 1 node/,
    );
  });
});
