import { describe, expect, it } from 'vitest';
import { sumOf } from './operator-process.ts';
import { inLanes, percentile } from './placement-load.ts';
import { makeDeployment, makeModels, makeNodes, namespacesFor } from './placement-objects.ts';
import { addedSince, type Recording } from './placement-peer.ts';
import { heapFlags } from './placement-world.ts';

describe('the world', () => {
  const nodes = makeNodes(200) as { metadata: { name: string }; status: { allocatable: Record<string, string> } }[];
  const withResource = (resource: string) => nodes.filter(({ status }) => status.allocatable[resource] !== undefined);

  it('has nodes of mixed hardware, most of them with processors alone', () => {
    expect(new Set(nodes.map(({ metadata }) => metadata.name)).size).toBe(200);
    const counts = ['nvidia.com/gpu', 'amd.com/gpu', 'npu.intel.com/accel'].map((name) => withResource(name).length);
    expect(counts).toEqual([30, 10, 20]);
  });

  it('spreads each kind over the nodes, so that a smaller cluster has every kind too', () => {
    const kinds = makeNodes(40).map((node) => Object.keys((node as (typeof nodes)[number]).status.allocatable).join());
    expect(new Set(kinds).size).toBe(4);
  });

  it('has a model for every deployment, in its namespace', () => {
    const namespaces = namespacesFor(120);
    expect(namespaces).toEqual(['team-1', 'team-2', 'team-3']);
    const models = new Set(makeModels(namespaces).map(({ metadata }) => `${metadata.namespace}/${metadata.name}`));
    for (let index = 0; index < 120; index++) {
      const { metadata, spec } = makeDeployment(index);
      expect(models).toContain(`${metadata.namespace}/${spec.modelRef?.name}`);
    }
  });

  it('gives the operator the heap of its container', () => {
    expect(heapFlags('512Mi')).toEqual(['--max-old-space-size=256', '--max-semi-space-size=4']);
    expect(() => heapFlags('1G')).toThrow('memory limit of the operator is 1G');
  });
});

it('lanes do each piece once, so many at a time', async () => {
  let now = 0;
  let most = 0;
  const seen: number[] = [];
  await inLanes([1, 2, 3, 4, 5], 2, async (item) => {
    most = Math.max(most, ++now);
    await Promise.resolve();
    seen.push(item);
    now--;
  });
  expect([most, seen]).toEqual([2, [1, 2, 3, 4, 5]]);
  await expect(inLanes([1], 2, () => Promise.reject(new Error('refused')))).rejects.toThrow('refused');
});

it('percentiles are samples', () => {
  const samples = [5, 1, 4, 2, 3];
  expect([0.5, 0.99].map((share) => percentile(samples, share))).toEqual([3, 5]);
  expect(percentile([], 0.5)).toBeNaN();
});

it('metrics are summed over the labels that are asked for', () => {
  const exposition = [
    '# HELP workqueue_depth Keys that wait.',
    'workqueue_depth{name="deployment",controller="deployment"} 3',
    'workqueue_depth{name="model",controller="model"} 2',
    'workqueue_depth_total 7',
    'leader_election_master_status{name="slm-operator"} 1',
  ].join('\n');
  expect(sumOf(exposition, 'workqueue_depth', [])).toBe(5);
  expect(sumOf(exposition, 'workqueue_depth', ['"model"'])).toBe(2);
  expect(sumOf(exposition, 'leader_election_master_status', [])).toBe(1);
});

it('what was added is told from what was there', () => {
  const child = (kind: string, name: string) =>
    ({ type: { kind }, object: { metadata: { name, namespace: 'team-1' } } }) as never;
  const before: Recording = new Map([['team-1/a', [child('Service', 'a'), child('ReplicaSet', 'a-1')]]]);
  const after: Recording = new Map([
    ['team-1/a', [child('Service', 'a'), child('ReplicaSet', 'a-1'), child('ReplicaSet', 'a-2')]],
    ['team-1/b', [child('Service', 'b')]],
  ]);
  const added = addedSince(before, after);
  expect([...added].map(([key, children]) => [key, children.map(({ object }) => object.metadata.name)])).toEqual([
    ['team-1/a', ['a-2']],
    ['team-1/b', ['b']],
  ]);
});
