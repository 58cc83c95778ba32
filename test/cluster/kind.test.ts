import { describe, expect, it } from 'vitest';
import { kindConfig, lackingNodes } from './kind.ts';
import { fakeNodes } from './kwok.ts';

describe('kindConfig', () => {
  const roles = (nodes: number) =>
    (kindConfig(nodes, 8) as { nodes: { role: string }[] }).nodes.map(({ role }) => role);

  it('puts the control plane beside the nodes that were asked for, but one node is both', () => {
    expect(roles(3)).toEqual(['control-plane', 'worker', 'worker', 'worker']);
    expect(roles(1)).toEqual(['control-plane']);
  });

  it('sets the same times as the bare cluster', () => {
    expect(JSON.stringify(kindConfig(1, 40))).toContain('40s');
  });
});

describe('lackingNodes', () => {
  const known = new Map([
    ['a', new Map([['app:1', 'sha256:new']])],
    ['b', new Map([['app:1', 'sha256:old']])],
    ['c', new Map<string, string>()],
  ]);

  it('leaves out those that have every image of the archive, by digest', () => {
    expect(lackingNodes([{ name: 'app:1', digest: 'sha256:new' }], known)).toEqual(['b', 'c']);
  });

  it('names every node for an archive that does not say what it holds', () => {
    expect(lackingNodes([], known)).toEqual(['a', 'b', 'c']);
  });
});

describe('fakeNodes', () => {
  it('numbers them, in three zones, tainted against pods that do not ask for them', () => {
    const { items } = fakeNodes(4);
    expect(items.map(({ metadata }) => `${metadata.name} ${metadata.labels['topology.kubernetes.io/zone']}`)).toEqual([
      'fake-0001 zone-1',
      'fake-0002 zone-2',
      'fake-0003 zone-3',
      'fake-0004 zone-1',
    ]);
  });
});
