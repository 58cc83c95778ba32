import {
  type CacheEntry,
  entryStates,
  type SLMModel,
  type SLMModelStatus,
  type SLMNodeCache,
} from '@slm-operator/crds';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { demandOf } from '../nodecache/demand.ts';
import { choiceFor, nodeOf } from '../nodecache/testing/objects.ts';
import type { Resolution } from '../sources/resolve.ts';
import type { ObservedModel, ResolutionState } from './observed.ts';
import { sourceHash } from './parts.ts';
import { planModel } from './plan.ts';

const NOW = Date.parse('2026-01-01T00:00:00Z');
const SIZE = 1000;
const digest = fc.constantFrom('a', 'b').map((letter) => `sha256:${letter.repeat(64)}`);

function resolutionOf(of: string): Resolution {
  const files = [{ path: 'm.gguf', size: SIZE, digest: of }];
  const sources = [{ url: `https://host/${of}` }];
  return { digest: of, size: SIZE, files, sources, metadata: { format: 'GGUF' }, estimate: { weights: SIZE } };
}

const spec: fc.Arbitrary<SLMModel['spec']> = fc.record({
  source: fc.constantFrom('hf://a/one', 'hf://a/two').map((uri) => ({ uri })),
  prePull: fc.constantFrom('OnDemand' as const, 'Nodes' as const, 'None' as const).map((policy) => ({ policy })),
  suspend: fc.boolean(),
});

const reasons = fc.constantFrom('NotFound' as const, 'ConnectionFailed' as const, 'DigestMismatch' as const);
const state = (of: SLMModel['spec']): fc.Arbitrary<ResolutionState | undefined> =>
  fc.option(
    fc
      .record({
        known: fc.boolean(),
        running: fc.boolean(),
        result: fc.option(digest.map(resolutionOf), { nil: undefined }),
        reason: reasons,
        terminal: fc.boolean(),
        retryIn: fc.integer({ min: -10, max: 10_000 }),
      })
      .map(({ known, running, result, reason, terminal, retryIn }) => ({
        hash: known ? sourceHash(of) : 'other',
        generation: 1,
        running: running && result === undefined,
        failures: 1,
        ...(result === undefined
          ? { failure: { reason, terminal, message: 'no' }, retryAt: NOW + retryIn }
          : { result }),
      })),
    { nil: undefined },
  );

const nodes = ['n1', 'n2'].map((name) => nodeOf({ name, ready: name === 'n1' }));
const choice = choiceFor(nodes);

const entry: fc.Arbitrary<CacheEntry> = fc
  .record({
    digest,
    state: fc.constantFrom(...entryStates),
    bytesDone: fc.nat(SIZE * 2),
    rate: fc.nat(100),
    final: fc.boolean(),
  })
  .map(({ rate, final, ...rest }) => ({
    ...rest,
    bytesTotal: SIZE,
    bytesPerSecond: rate,
    ...(rest.state === 'Failed'
      ? { error: { reason: 'Odd', message: 'm', attempts: 1, ...(final ? {} : { nextRetry: '2026-01-01T00:00:09Z' }) } }
      : {}),
  }));

const caches = fc
  .tuple(...nodes.map(() => fc.option(fc.uniqueArray(entry, { selector: (one) => one.digest }), { nil: undefined })))
  .map(
    (all) =>
      new Map(
        all.flatMap((entries, index): [string, SLMNodeCache][] => {
          const name = nodes[index]?.name ?? '';
          if (entries === undefined) return [];
          const status = { observedGeneration: 1, entries };
          return [[name, { apiVersion: 'slm.dev/v1alpha1', kind: 'SLMNodeCache', metadata: { name }, status }]];
        }),
      ),
  );

function observedOf(
  of: SLMModel['spec'],
  resolution: ResolutionState | undefined,
  held: ObservedModel['caches'],
  used: boolean,
  status?: SLMModelStatus,
): ObservedModel {
  const metadata = { name: 'm', namespace: 'demo', generation: 1 };
  const deployment = {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMDeployment' as const,
    metadata: { name: 'd', namespace: 'demo' },
    spec: { modelRef: { name: 'm' } },
  };
  const deployments = used ? [deployment] : [];
  return {
    model: {
      apiVersion: 'slm.dev/v1alpha1',
      kind: 'SLMModel',
      metadata,
      spec: of,
      ...(status === undefined ? {} : { status }),
    },
    sourceHash: sourceHash(of),
    resolution,
    nodes,
    caches: held,
    deployments,
    demandOf: (one) => demandOf({ model: one, deployments, uses: [], choice }),
    uses: [],
    lastWrite: undefined,
  };
}

/** Two specs, one after the other, so that there is a past. */
const history = fc
  .tuple(spec, spec)
  .chain(([first, second]) =>
    fc.tuple(fc.constant(first), state(first), fc.constant(second), state(second), caches, caches, fc.boolean()),
  );

test('whatever is observed: one plan is enough, conditions are as kstatus reads them, and a revision is never lost', () => {
  fc.assert(
    fc.property(history, ([first, firstState, second, secondState, firstCaches, secondCaches, used]) => {
      const before = planModel(observedOf(first, firstState, firstCaches, used), { now: NOW }).status;
      const observed = observedOf(second, secondState, secondCaches, used, before);
      const plan = planModel(observed, { now: NOW + 5000 });
      const { status } = plan;
      const conditions = new Map(status?.conditions?.map((condition) => [condition.type, condition]));

      // Carrying the plan out changes what is observed so that nothing is left to do.
      const again = planModel(
        { ...observed, model: { ...observed.model, ...(status && { status }) } },
        { now: NOW + 9000 },
      );
      expect(again.status).toEqual(status);
      expect(again.events).toEqual([]);

      const ready = conditions.get('Ready');
      expect(ready).toBeDefined();
      const others = [conditions.get('Reconciling'), conditions.get('Stalled')].filter((one) => one !== undefined);
      expect(others).toHaveLength(ready?.status === 'True' ? 0 : 1);
      for (const other of others) expect([other.status, other.reason]).toEqual(['True', ready?.reason]);
      for (const { message } of conditions.values()) expect(message).not.toMatch(/undefined|NaN|\[object/);

      if (before?.latestRevision !== undefined) expect(status?.latestRevision).toBeDefined();
      if (status?.latestRevision !== undefined) {
        expect(status.revisions?.[0]).toMatchObject(status.latestRevision);
        expect(status.cache?.percent).toBeLessThanOrEqual(100);
        expect(status.cache?.percent === 100).toBe(
          (status.cache?.desiredNodes ?? 0) > 0 && status.cache?.readyNodes === status.cache?.desiredNodes,
        );
      }
      if (second.suspend === true) expect(plan.resolve).toBe(false);
      if (plan.resolve) expect(secondState?.running !== true || secondState.hash !== sourceHash(second)).toBe(true);
    }),
    { numRuns: 1500 },
  );
});
