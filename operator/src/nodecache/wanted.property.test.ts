import type { ModelRevision, SLMDeployment, SLMModel, SLMNodeCache } from '@slm-operator/crds';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { NodeStock } from '../hardware/node-hardware.ts';
import { choiceFor, inputFor, nodeOf, type World } from './testing/objects.ts';
import type { BoundPod, RevisionUse } from './views.ts';
import { wantedFor as wantedOf } from './wanted.ts';

interface Observed extends World {
  readonly node: NodeStock;
  readonly cache: SLMNodeCache | undefined;
  readonly pods: readonly BoundPod[];
}

function wantedFor(observed: Observed) {
  const { node: at, cache: before, pods } = observed;
  return wantedOf({ node: at, cache: before, pods, ...inputFor(observed, choiceFor([at])) });
}

/** A small world, so that names meet: two namespaces, two models, three revisions, two nodes. */
const namespace = fc.constantFrom('a', 'b');
const name = fc.constantFrom('m1', 'm2');
const digest = fc.constantFrom('1', '2', '3').map((digit) => `sha256:${digit.repeat(64)}`);
const selector = fc.constantFrom<Record<string, string> | undefined>(undefined, { pool: 'x' });

function revisionOf(of: string): ModelRevision {
  const files = [{ path: 'm.gguf', size: 1, digest: of }];
  return {
    name: of.slice(7, 17),
    digest: of,
    size: 1,
    resolvedAt: '',
    files,
    sources: [{ url: `https://host/${of}` }],
  };
}

const model: fc.Arbitrary<SLMModel> = fc
  .record({
    namespace,
    name,
    digests: fc.uniqueArray(digest, { maxLength: 3 }),
    policy: fc.constantFrom('OnDemand' as const, 'Nodes' as const, 'None' as const),
    suspend: fc.boolean(),
  })
  .map(({ digests, policy, suspend, ...metadata }) => {
    const revisions = digests.map(revisionOf);
    const [latest] = revisions;
    return {
      apiVersion: 'slm.dev/v1alpha1',
      kind: 'SLMModel',
      metadata,
      spec: { source: { uri: 'hf://a/b' }, prePull: { policy }, suspend },
      status: latest === undefined ? {} : { latestRevision: latest, revisions },
    };
  });

const deployment: fc.Arbitrary<SLMDeployment> = fc
  .record({ namespace, model: name, selector })
  .map(({ namespace: at, model: of, selector: nodeSelector }) => ({
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMDeployment',
    metadata: { name: 'd', namespace: at },
    spec: { modelRef: { name: of }, podTemplate: { spec: nodeSelector === undefined ? {} : { nodeSelector } } },
  }));

const use: fc.Arbitrary<RevisionUse> = fc.record({
  namespace,
  model: name,
  deployment: fc.constant('d'),
  digest,
  nodeSelector: selector,
  requests: fc.constant({}),
  claims: fc.boolean(),
});
const pod: fc.Arbitrary<BoundPod> = fc.record({
  namespace,
  node: fc.constantFrom('n1', 'n2'),
  digest,
  model: fc.constant(''),
});
const node: fc.Arbitrary<NodeStock> = fc
  .record({
    labels: fc.constantFrom<Record<string, string>>({}, { pool: 'x' }),
    ready: fc.boolean(),
    cordoned: fc.boolean(),
    allocatable: fc.constantFrom<Record<string, number>>({}, { 'nvidia.com/gpu': 1 }, { 'nvidia.com/gpu': 0 }),
  })
  .map((fields) => nodeOf(fields));
const cache: fc.Arbitrary<SLMNodeCache> = fc
  .record({
    wanted: fc.uniqueArray(digest, { maxLength: 3 }),
    held: fc.uniqueArray(digest, { maxLength: 3 }),
    namespace,
  })
  .map(({ wanted, held, namespace: at }) => ({
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMNodeCache',
    metadata: { name: 'n1' },
    spec: {
      wanted: wanted.map((of) => {
        const { files, sources, size } = revisionOf(of);
        return { digest: of, size, files, sources, models: [`${at}/m1`], namespaces: [at] };
      }),
    },
    status: { entries: held.map((of) => ({ digest: of, state: 'Ready' as const, bytesDone: 1, bytesTotal: 1 })) },
  }));

const input: fc.Arbitrary<Observed> = fc.record({
  node,
  cache,
  models: fc.uniqueArray(model, {
    maxLength: 4,
    selector: ({ metadata }) => `${metadata.namespace}/${metadata.name}`,
  }),
  deployments: fc.array(deployment, { maxLength: 3 }),
  uses: fc.array(use, { maxLength: 3 }),
  pods: fc.array(pod, { maxLength: 3 }),
});

const listing = (wanted: ReturnType<typeof wantedFor>, before: SLMNodeCache | undefined): SLMNodeCache => ({
  ...(before as SLMNodeCache),
  spec: { wanted },
});

test('what is written once needs no second write', () => {
  fc.assert(
    fc.property(input, (observed) => {
      const first = wantedFor(observed);
      const second = wantedFor({ ...observed, cache: listing(first, observed.cache) });
      expect(second).toEqual(first);
    }),
    { numRuns: 1000 },
  );
});

test('a running pod never loses a revision that its node was to hold', () => {
  fc.assert(
    fc.property(input, (observed) => {
      const wanted = wantedFor(observed);
      const suspended = new Set(
        observed.models.flatMap(({ metadata, spec, status }) =>
          spec.suspend === true ? (status?.revisions ?? []).map((of) => `${metadata.namespace} ${of.digest}`) : [],
        ),
      );
      for (const { namespace: at, node: on, digest: of } of observed.pods) {
        const listed = observed.cache?.spec?.wanted?.some(
          (entry) => entry.digest === of && entry.namespaces.includes(at),
        );
        const held = observed.cache?.status?.entries?.some((entry) => entry.digest === of);
        if (on !== observed.node.name || listed !== true || held !== true) continue;
        // What a suspended model holds stays, too.
        expect(
          wanted.map((entry) => entry.digest),
          suspended.has(`${at} ${of}`) ? 'suspended' : 'in use',
        ).toContain(of);
        expect(wanted.find((entry) => entry.digest === of)?.namespaces).toContain(at);
      }
    }),
    { numRuns: 2000 },
  );
});

test('a namespace may mount only what a model of its own, or a pod of before, brought there', () => {
  fc.assert(
    fc.property(input, (observed) => {
      for (const entry of wantedFor(observed)) {
        for (const at of entry.namespaces) {
          const owned = observed.models.some(
            ({ metadata, status }) =>
              metadata.namespace === at && (status?.revisions ?? []).some((of) => of.digest === entry.digest),
          );
          const before = observed.cache?.spec?.wanted?.some(
            (old) => old.digest === entry.digest && old.namespaces.includes(at),
          );
          expect(owned || before === true).toBe(true);
        }
      }
    }),
    { numRuns: 1000 },
  );
});
