/** What GitOps tools say of SLMModels from the commit to the bytes on every node, and kstatus of what nodes hold. */
import type { CacheEntry, SLMModel, SLMNodeCache } from '@slm-operator/crds';
import { API_VERSION, UNSEEN_GENERATION } from '@slm-operator/crds';
import type { PullEntry } from '@slm-operator/operator/agent/puller';
import { desiredStatus } from '@slm-operator/operator/agent/status';
import type { ObservedModel } from '@slm-operator/operator/model/observed';
import { sourceHash } from '@slm-operator/operator/model/parts';
import { planModel } from '@slm-operator/operator/model/plan';
import { demandOf } from '@slm-operator/operator/nodecache/demand';
import { choiceFor, nodeOf } from '@slm-operator/operator/nodecache/testing/objects';
import { describe, expect, test } from 'vitest';
import { isInstalled } from '../cluster/command.ts';
import { failed, judge, moving, ready, storyOf } from './engines.ts';

const START = Date.parse('2026-01-01T12:00:00Z');
const SIZE = 1_000_000;
const digestOf = (letter: string) => `sha256:${letter.repeat(64)}`;
const nodes = ['n1', 'n2'].map((name) => nodeOf({ name }));

/** A model and its controller; each step is a moment later. */
class Life {
  readonly moments: { readonly object: SLMModel }[] = [];
  #now = START;
  #model: SLMModel = {
    apiVersion: API_VERSION,
    kind: 'SLMModel',
    metadata: { name: 'tiny', namespace: 'demo', generation: 1 },
    spec: { source: { uri: 'hf://acme/tiny' }, prePull: { policy: 'Nodes' } },
    status: { observedGeneration: UNSEEN_GENERATION },
  };
  #resolution: ObservedModel['resolution'];
  #caches = new Map<string, SLMNodeCache>();

  constructor() {
    this.moments.push({ object: this.#model });
  }

  change(spec: Partial<SLMModel['spec']>): this {
    const { metadata } = this.#model;
    const generation = (metadata.generation ?? 0) + 1;
    this.#model = { ...this.#model, metadata: { ...metadata, generation }, spec: { ...this.#model.spec, ...spec } };
    this.moments.push({ object: this.#model });
    return this.plan();
  }

  /** What the source answers. */
  answers(letter: string): this {
    const digest = digestOf(letter);
    const result = {
      digest,
      size: SIZE,
      files: [{ path: 'tiny.gguf', size: SIZE, digest }],
      sources: [{ url: 'https://hub/{path}' }],
      metadata: { format: 'GGUF' as const },
      estimate: { weights: SIZE, kvCachePer1kTokens: 2048 },
    };
    return this.#resolved({ result });
  }

  fails(reason: 'Unauthorized' | 'ConnectionFailed', terminal: boolean): this {
    const failure = { reason, message: 'give a token in source.secretRef', terminal };
    return this.#resolved({ failure, failures: 1, retryAt: this.#now + 60_000 });
  }

  #resolved(more: Partial<NonNullable<ObservedModel['resolution']>>): this {
    const { spec, metadata } = this.#model;
    const generation = metadata.generation ?? 0;
    this.#resolution = { hash: sourceHash(spec), generation, running: false, failures: 0, ...more };
    return this.plan();
  }

  /** What the agent of a node says of the bytes. */
  node(name: string, letter: string, entry: Partial<CacheEntry>): this {
    const whole = { digest: digestOf(letter), state: 'Ready' as const, bytesDone: SIZE, bytesTotal: SIZE, ...entry };
    const status = { observedGeneration: 1, entries: [whole] };
    const wanted = {
      digest: whole.digest,
      size: SIZE,
      models: ['demo/tiny'],
      namespaces: ['demo'],
      files: [],
      sources: [],
    };
    const spec = { wanted: [wanted] };
    this.#caches.set(name, { apiVersion: API_VERSION, kind: 'SLMNodeCache', metadata: { name }, spec, status });
    return this.plan();
  }

  plan(): this {
    this.#now += 5000;
    const { observedGeneration } = this.#model.status ?? {};
    const { status: _, ...bare } = this.#model;
    const observed = {
      // As stores have it: without the status that only the API server shows.
      model: observedGeneration === UNSEEN_GENERATION ? bare : this.#model,
      sourceHash: sourceHash(this.#model.spec),
      resolution: this.#resolution,
      nodes,
      caches: this.#caches,
      deployments: [],
      uses: [],
      lastWrite: undefined,
      demandOf: (model: SLMModel) => demandOf({ model, deployments: [], uses: [], choice: choiceFor(nodes) }),
    };
    const { status } = planModel(observed, { now: this.#now });
    if (status !== undefined) this.#model = { ...this.#model, status };
    this.moments.push({ object: this.#model });
    return this;
  }
}

const onAll = (life: Life, letter: string) => life.node('n1', letter, {}).node('n2', letter, {});
const pulling = (life: Life, letter: string) =>
  life
    .node('n1', letter, { state: 'Downloading', bytesDone: 10 })
    .node('n1', letter, {})
    .node('n2', letter, { state: 'Verifying' });

const stories: Record<string, [play: () => Life, verdicts: string[]]> = {
  'from the commit to every node': [() => onAll(pulling(new Life().plan().answers('a'), 'a'), 'a'), [moving, ready]],
  'another source': [
    () => {
      const life = onAll(new Life().plan().answers('a'), 'a').change({ source: { uri: 'hf://acme/other' } });
      return onAll(pulling(life.answers('b'), 'b'), 'b');
    },
    [moving, ready, moving, ready],
  ],
  'a source that does not answer for a while': [
    () => onAll(new Life().plan().fails('ConnectionFailed', false).answers('a'), 'a'),
    [moving, ready],
  ],
  'a source that wants a token, until the spec names one': [
    () => {
      const life = new Life().plan().fails('Unauthorized', true);
      const source = { uri: 'hf://acme/tiny', secretRef: { name: 'hub' } };
      return onAll(life.change({ source }).answers('a'), 'a');
    },
    [moving, failed, moving, ready],
  ],
  'suspended before there is a revision': [
    () => new Life().plan().change({ suspend: true }),
    [moving, 'Failed/Suspended/Failed'],
  ],
  'suspended with everything there': [
    () => onAll(new Life().plan().answers('a'), 'a').change({ suspend: true }),
    [moving, ready, moving, 'Current/Suspended/Current'],
  ],
};

const entry = (change: Partial<PullEntry>): PullEntry => ({
  digest: digestOf('a'),
  models: ['demo/tiny'],
  namespaces: ['demo'],
  state: 'Ready',
  bytesDone: SIZE,
  bytesTotal: SIZE,
  ...change,
});
const failure = (terminal: boolean) => ({
  reason: 'DigestMismatch' as const,
  message: 'other bytes',
  attempts: 3,
  nextRetry: START,
  terminal,
});
const nodeStates: Record<string, [entries: PullEntry[], verdict: string]> = {
  'nothing wanted': [[], 'Current'],
  'the bytes are there': [[entry({})], 'Current'],
  'bytes on their way': [[entry({}), entry({ digest: digestOf('b'), state: 'Downloading' })], 'InProgress'],
  'a failure that is tried again': [[entry({ state: 'Failed', error: failure(false) })], 'InProgress'],
  'a failure that stays': [[entry({ state: 'Failed', error: failure(true) })], 'Failed'],
};

describe.skipIf(!(await isInstalled('go')))('an SLMModel (needs Go on the PATH)', () => {
  test.each(Object.entries(stories))(
    '%s',
    async (_, [play, verdicts]) => {
      expect(await storyOf(play().moments)).toEqual(verdicts);
    },
    600_000,
  );
});

test.skipIf(!(await isInstalled('go')))(
  'what nodes hold, to kstatus (needs Go on the PATH)',
  async () => {
    const common = { disk: undefined, devices: [], agentVersion: '1', now: START, previous: undefined };
    const objects = Object.values(nodeStates).map(([entries]) => ({
      apiVersion: API_VERSION,
      kind: 'SLMNodeCache',
      metadata: { name: 'n1', generation: 4 },
      status: desiredStatus({ entries, observedGeneration: 4, ...common }),
    }));
    const said = (await judge(objects)).map(({ kstatus }) => kstatus.status);
    expect(said).toEqual(Object.values(nodeStates).map(([, verdict]) => verdict));
  },
  600_000,
);
