import type { CacheEntry, SLMNodeCache } from '@slm-operator/crds';
import { expect, it } from 'vitest';
import { type GateInput, gateOf } from './gate.ts';
import type { NodeView } from './node-match.ts';
import { cache, deployment, digest, model, node, size } from './testing/objects.ts';

const downloading: Partial<CacheEntry> = { state: 'Downloading', bytesDone: 60_984_708, bytesPerSecond: 3_200_000 };

function input(change: Partial<GateInput> & { nodes: readonly NodeView[] }, ...caches: SLMNodeCache[]): GateInput {
  return {
    deployment: deployment(),
    model: model(),
    bytes: { digest, size },
    caches: new Map(caches.map((known) => [known.metadata.name, known])),
    ...change,
  };
}

const rows: [string, GateInput, string][] = [
  ['opens when every node has the bytes', input({ nodes: [node()] }, cache()), 'open'],
  [
    'tells how far the nodes are',
    input(
      { nodes: [node('n1'), node('n2'), node('n3')] },
      cache('n1', downloading),
      cache('n2', downloading),
      cache('n3', downloading),
    ),
    'WaitingForBytes: model smollm2: 62% of 98 MB on 3 nodes, 12 s left',
  ],
  [
    'names a single node',
    input({ nodes: [node()] }, cache('n1', { state: 'Queued', bytesDone: 0 })),
    'WaitingForBytes: model smollm2: 0% of 98 MB on node n1',
  ],
  [
    'never says 100 before it is true',
    input({ nodes: [node()] }, cache('n1', { state: 'Verifying' })),
    'WaitingForBytes: model smollm2: 99% of 98 MB on node n1',
  ],
  [
    'waits for a node that was not told to pull yet',
    input({ nodes: [node('n1'), node('n2')] }, cache('n1'), { ...cache('n2'), status: { observedGeneration: 1 } }),
    'WaitingForBytes: model smollm2: 50% of 98 MB on 2 nodes',
  ],
  [
    'tells why a node tries again',
    input(
      { nodes: [node()] },
      cache('n1', {
        state: 'Failed',
        bytesDone: 0,
        error: { reason: 'ConnectionFailed', message: 'host x refused the connection', attempts: 2, nextRetry: 'soon' },
      }),
    ),
    'WaitingForBytes: model smollm2: 0% of 98 MB on node n1; node n1: host x refused the connection',
  ],
  [
    'tells that nothing is pulled while the model is suspended',
    input(
      { model: model({}, { spec: { source: { uri: 'hf://a/b' }, suspend: true } }), nodes: [node()] },
      { ...cache(), status: { observedGeneration: 1 } },
    ),
    'WaitingForBytes: model smollm2: 0% of 98 MB on node n1; spec.suspend of the model is true, so nothing is pulled',
  ],
  [
    'is held up by no node that failed for good',
    input(
      { nodes: [node('n1'), node('n2')] },
      cache('n1'),
      cache('n2', { state: 'Failed', error: { reason: 'InsufficientDisk', message: 'full', attempts: 1 } }),
    ),
    'open',
  ],
  [
    'is held up by no node whose failure the next try will hardly mend',
    input(
      { nodes: [node('n1'), node('n2')] },
      cache('n1'),
      cache('n2', {
        state: 'Failed',
        error: { reason: 'DigestMismatch', message: 'other bytes', attempts: 1, nextRetry: 'in an hour' },
      }),
    ),
    'open',
  ],
  [
    'is held up by no node that failed again and again',
    input(
      { nodes: [node('n1'), node('n2')] },
      cache('n1'),
      cache('n2', {
        state: 'Failed',
        error: { reason: 'ConnectionFailed', message: 'refused', attempts: 4, nextRetry: 'soon' },
      }),
    ),
    'open',
  ],
  [
    'stays closed when all nodes failed for good',
    input(
      { nodes: [node()] },
      cache('n1', { state: 'Failed', error: { reason: 'DigestMismatch', message: 'other bytes', attempts: 1 } }),
    ),
    'PullFailed: model smollm2: node n1: other bytes',
  ],
  [
    'is held up by no node that is not ready, cordoned or going',
    input(
      {
        nodes: [node(), node('n2', { ready: false }), node('n3', { cordoned: true }), node('n4', { deleted: true })],
      },
      cache(),
    ),
    'open',
  ],
  [
    'stays closed when no node is ready',
    input({ nodes: [node('n1', { ready: false })] }, cache()),
    'NoMatchingNodes: no node for the pods is ready and uncordoned: n1',
  ],
  ['is held up by no node without an agent', input({ nodes: [node(), node('n2')] }, cache()), 'open'],
  [
    'stays closed when no agent has reported',
    input({ nodes: [node()] }),
    'AgentNotReady: the node agent has not reported on n1; see the slm-operator-agent pods there',
  ],
  [
    'counts only nodes with the labels that the pods ask for',
    input(
      {
        deployment: deployment({ podTemplate: { spec: { nodeSelector: { disk: 'fast' } } } }),
        nodes: [node('n1', { labels: { disk: 'fast' } }), node('n2')],
      },
      cache(),
      cache('n2', downloading),
    ),
    'open',
  ],
  [
    'says which labels no node has',
    input(
      { deployment: deployment({ podTemplate: { spec: { nodeSelector: { disk: 'fast' } } } }), nodes: [node()] },
      cache(),
    ),
    'NoMatchingNodes: no node has the labels of podTemplate.spec.nodeSelector (disk=fast) and tolerated taints; label a node or change the selector',
  ],
  [
    'counts no node with a taint that the pods do not tolerate',
    input({ nodes: [node('n1', { taints: [{ key: 'gpu', effect: 'NoSchedule' }] })] }, cache()),
    'NoMatchingNodes: every node has a taint that podTemplate.spec.tolerations does not tolerate',
  ],
  ['says when there is no node at all', input({ nodes: [] }), 'NoMatchingNodes: the cluster has no node'],
  [
    'is always open for a model that is not pulled ahead',
    input({ model: model({}, { spec: { source: { uri: 'hf://a/b' }, prePull: { policy: 'None' } } }), nodes: [] }),
    'open',
  ],
  [
    'waits only for the nodes where the model is pulled ahead',
    input(
      {
        model: model(
          {},
          { spec: { source: { uri: 'hf://a/b' }, prePull: { policy: 'Nodes', nodeSelector: { ssd: 'yes' } } } },
        ),
        nodes: [node('n1', { labels: { ssd: 'yes' } }), node('n2')],
      },
      cache(),
      cache('n2', downloading),
    ),
    'open',
  ],
];

it.each(rows)('%s', (_, given, expected) => {
  const gate = gateOf(given);
  expect(gate.open ? 'open' : `${gate.reason}: ${gate.why}`).toBe(expected);
});
