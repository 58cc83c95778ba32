import { labels } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import type { PodObject } from './observed.ts';
import { choosePodsByNode } from './pods-to-go.ts';
import type { SizeIntent } from './rollout-planner.ts';
import { ago, pod, replicaSet } from './testing/objects.ts';

const COST = 'controller.kubernetes.io/pod-deletion-cost';

interface Change {
  readonly ready?: boolean;
  readonly marked?: boolean;
  readonly closed?: boolean;
}

/** `old@n1`: a pod of revision old on node n1. */
function podAt(text: string, { ready = true, marked = false, closed = false }: Change = {}): PodObject {
  const [revision = '', nodeName = ''] = text.split('@');
  const status = { conditions: [{ type: 'Ready', status: ready ? 'True' : 'False', lastTransitionTime: ago(9) }] };
  const it = pod(text, status, revision);
  return {
    ...it,
    metadata: {
      ...it.metadata,
      labels: { ...it.metadata?.labels, [labels.traffic]: closed ? 'closed' : 'open' },
      ...(marked ? { annotations: { [COST]: '-1000' } } : {}),
    },
    spec: { ...it.spec, nodeName } as NonNullable<PodObject['spec']>,
  };
}

const shrink = (revision: string, from: number, to: number): SizeIntent => ({
  name: `chat-${revision}`,
  from,
  to,
  why: 'test',
});

/** Marks that are set and taken away, and sizes that are written. */
function choose(pods: readonly PodObject[], sizes: readonly SizeIntent[], sets: Readonly<Record<string, number>>) {
  const replicaSets = Object.entries(sets).map(([revision, desired]) => replicaSet(revision, { desired }));
  const old = new Set(
    Object.keys(sets)
      .filter((it) => it !== 'new')
      .map((it) => `chat-${it}`),
  );
  const { patch, sizes: written } = choosePodsByNode({ pods, replicaSets }, sizes, old);
  return {
    marks: patch.map(({ target, patch: it }) => {
      const cost = (it as { metadata: { annotations: Record<string, string | null> } }).metadata.annotations[COST];
      return `${cost === null ? '-' : '+'}${target.name}`;
    }),
    sizes: written.map(({ name, to }) => `${name}=${to}`),
  };
}

describe('the pod that goes', () => {
  it.each<[string, PodObject[], SizeIntent[], Record<string, number>, string[], string[]]>([
    [
      'is the one whose node the new revision serves',
      [podAt('old@n1'), podAt('old@n2'), podAt('old@n3'), podAt('new@n2')],
      [shrink('old', 3, 2)],
      { old: 3, new: 1 },
      ['+old@n2'],
      [],
    ],
    [
      'goes when its mark was seen',
      [podAt('old@n1'), podAt('old@n2', { marked: true }), podAt('new@n2')],
      [shrink('old', 2, 1)],
      { old: 2, new: 1 },
      [],
      ['chat-old=1'],
    ],
    [
      'is no longer the one that was marked before, when its new pod went',
      [podAt('old@n1', { marked: true }), podAt('old@n2'), podAt('new@n2')],
      [shrink('old', 2, 1)],
      { old: 2, new: 1 },
      ['-old@n1', '+old@n2'],
      [],
    ],
    [
      'is not one whose new pod gets no requests yet',
      [podAt('old@n1'), podAt('old@n2'), podAt('new@n2', { closed: true }), podAt('new@n1')],
      [shrink('old', 2, 1)],
      { old: 2, new: 2 },
      ['+old@n1'],
      [],
    ],
    [
      'is not one whose new pod does not serve',
      [podAt('old@n1'), podAt('old@n2'), podAt('new@n1', { ready: false }), podAt('new@n2')],
      [shrink('old', 2, 1)],
      { old: 2, new: 2 },
      ['+old@n2'],
      [],
    ],
    [
      'is of whichever old revision has its node served',
      [podAt('oldest@n1'), podAt('older@n2'), podAt('new@n2')],
      [shrink('oldest', 1, 0)],
      { oldest: 1, older: 1, new: 1 },
      [],
      ['chat-older=0'],
    ],
    [
      'is one that does not serve, and stays the one when it gets ready',
      [podAt('old@n1', { ready: false }), podAt('old@n2'), podAt('new@n2')],
      [shrink('old', 2, 1)],
      { old: 2, new: 1 },
      ['+old@n1'],
      [],
    ],
    [
      'is one that was not made yet',
      [podAt('old@n1'), podAt('new@n2')],
      [shrink('old', 2, 1)],
      { old: 2, new: 1 },
      [],
      ['chat-old=1'],
    ],
    [
      'waits until the one before is gone',
      [podAt('old@n1'), podAt('old@n2'), podAt('old@n3'), podAt('new@n2')],
      [shrink('old', 2, 1), { name: 'chat-new', from: 1, to: 2, why: 'test' }],
      { old: 2, new: 1 },
      [],
      ['chat-new=2'],
    ],
    [
      'is any where all go',
      [podAt('old@n1'), podAt('new@n1')],
      [shrink('old', 1, 0)],
      { old: 1, new: 1 },
      [],
      ['chat-old=0'],
    ],
  ])('%s', (_sentence, pods, sizes, sets, marks, written) => {
    expect(choose(pods, sizes, sets)).toEqual({ marks, sizes: written });
  });
});
