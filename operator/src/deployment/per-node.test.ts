import type { SLMDeploymentSpec } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import { type Choose, inOrder, seeded } from '../hardware/testing/choices.ts';
import { GPU } from './testing/hardware-plans.ts';
import { NodeSimulation } from './testing/node-simulation.ts';
import { found } from './testing/object-cluster.ts';

const MINUTE = 60_000;
const perNode: Partial<SLMDeploymentSpec> = { placement: { mode: 'PerNode' } };

/** Three nodes with a pod each. */
function three(spec: Partial<SLMDeploymentSpec> = {}, pods = 9): NodeSimulation {
  const simulation = new NodeSimulation();
  for (const name of ['n1', 'n2', 'n3']) simulation.node(name, { pods });
  simulation.deploy('edge', { ...perNode, ...spec }).settle(inOrder);
  return simulation;
}

const statusOf = (simulation: NodeSimulation) => simulation.known.get('edge')?.object.status;
const readyOf = (simulation: NodeSimulation) => statusOf(simulation)?.conditions?.find(({ type }) => type === 'Ready');
const roll = (simulation: NodeSimulation) => simulation.change('edge', { engine: { contextLength: 1024 } });

describe('a deployment with a pod on each node', () => {
  it('has one on each, and says how many that are', () => {
    const simulation = three();
    expect(simulation.layout('edge')).toEqual({ n1: 'new', n2: 'new', n3: 'new' });
    expect(statusOf(simulation)).toMatchObject({ readyText: '3/3', replicas: 3, rollout: { phase: 'Idle' } });
    expect(readyOf(simulation)).toMatchObject({ status: 'True' });
  });

  it('has one more when a node joins', () => {
    const simulation = three().node('n4', { pods: 9 }).settle(inOrder);
    expect(simulation.layout('edge')).toEqual({ n1: 'new', n2: 'new', n3: 'new', n4: 'new' });
    expect(statusOf(simulation)?.readyText).toBe('4/4');
  });

  it('has one fewer when a node is removed', () => {
    const simulation = three();
    simulation.removeNode('n2');
    simulation.settle(inOrder);
    expect(simulation.layout('edge')).toEqual({ n1: 'new', n3: 'new' });
    expect(statusOf(simulation)?.readyText).toBe('2/2');
    expect(simulation.podsOf('edge')).toHaveLength(2);
  });

  it('follows the labels of nodes, and takes the very pod whose node matches no more', () => {
    const simulation = new NodeSimulation();
    for (const name of ['n1', 'n2', 'n3']) simulation.node(name, { pods: 9 }).label(name, { role: 'edge' });
    const spec = { ...perNode, podTemplate: { spec: { nodeSelector: { role: 'edge' } } } };
    simulation.node('n4', { pods: 9 }).deploy('edge', spec).settle(inOrder);
    expect(simulation.layout('edge')).toEqual({ n1: 'new', n2: 'new', n3: 'new', n4: 'none' });
    simulation.label('n2', {}).label('n4', { role: 'edge' }).settle(inOrder);
    expect(simulation.layout('edge')).toEqual({ n1: 'new', n2: 'none', n3: 'new', n4: 'new' });
    expect(statusOf(simulation)?.readyText).toBe('3/3');
  });

  it('says what to do when no node matches, and starts when one does', () => {
    const simulation = new NodeSimulation().node('n1', { pods: 9 });
    const spec = { ...perNode, podTemplate: { spec: { nodeSelector: { role: 'edge' } } } };
    simulation.deploy('edge', spec).settle(inOrder);
    expect(readyOf(simulation)).toMatchObject({
      status: 'False',
      reason: 'NoMatchingNodes',
      message:
        'no node has the labels of podTemplate.spec.nodeSelector (role=edge) and tolerated taints; label a node or change the selector',
    });
    simulation.label('n1', { role: 'edge' }).settle(inOrder);
    expect(statusOf(simulation)).toMatchObject({ readyText: '1/1' });
    expect(readyOf(simulation)).toMatchObject({ status: 'True' });
  });

  it('leaves the pod of a cordoned node, and moves it on when the node is back', () => {
    const simulation = three().cordon('n2');
    simulation.settle(inOrder);
    expect(statusOf(simulation)).toMatchObject({ readyText: '3/3', statusText: 'serving edge; node n2 is cordoned' });
    roll(simulation);
    simulation.settle(inOrder);
    expect(simulation.layout('edge')).toEqual({ n1: 'new', n2: 'old', n3: 'new' });
    expect(statusOf(simulation)?.readyText).toBe('3/3');
    expect(readyOf(simulation)).toMatchObject({
      status: 'True',
      message: expect.stringMatching(/; node n2 is cordoned and keeps its pod of revision [0-9a-f]{10}$/),
    });
    simulation.cordon('n2', false).settle(inOrder);
    expect(simulation.layout('edge')).toEqual({ n1: 'new', n2: 'new', n3: 'new' });
  });

  it('leaves the pod of a node that nobody hears of, and does not wait for it', () => {
    const simulation = three().lose('n3');
    simulation.settle(inOrder);
    expect(simulation.layout('edge')).toEqual({ n1: 'new', n2: 'new', n3: '-' });
    expect(simulation.podsOf('edge')).toHaveLength(3);
    expect(statusOf(simulation)).toMatchObject({
      readyText: '2/3',
      replicas: 3,
      statusText: 'serving edge; node n3 is not ready',
    });
    expect(readyOf(simulation)).toMatchObject({ status: 'True' });
    roll(simulation);
    simulation.settle(inOrder);
    expect(simulation.layout('edge')).toMatchObject({ n1: 'new', n2: 'new' });
    simulation.lose('n3', false).settle(inOrder);
    expect(simulation.layout('edge')).toEqual({ n1: 'new', n2: 'new', n3: 'new' });
    expect(statusOf(simulation)?.readyText).toBe('3/3');
  });

  it('serves on where every node is cordoned, and says so where none is left', () => {
    const simulation = three();
    for (const name of ['n1', 'n2', 'n3']) simulation.cordon(name);
    simulation.settle(inOrder);
    expect(simulation.layout('edge')).toEqual({ n1: 'new', n2: 'new', n3: 'new' });
    expect(readyOf(simulation)).toMatchObject({
      status: 'True',
      message: '3 pods serve; nodes n1, n2, n3 are cordoned',
    });
    for (const name of ['n1', 'n2', 'n3']) simulation.lose(name);
    simulation.settle(inOrder);
    expect(readyOf(simulation)).toMatchObject({ status: 'False', reason: 'NoMatchingNodes' });
    expect(statusOf(simulation)?.readyText).toBe('0/3');
    for (const name of ['n1', 'n2', 'n3']) simulation.lose(name, false).cordon(name, false);
    simulation.settle(inOrder);
    expect(readyOf(simulation)).toMatchObject({ status: 'True' });
    expect(statusOf(simulation)?.readyText).toBe('3/3');
  });

  it.each<[string, SLMDeploymentSpec['strategy']]>([
    ['a pod beside the old one', undefined],
    ['two at a time', { maxSurge: 2 }],
    ['all at once', { maxSurge: '100%', maxUnavailable: 0 }],
    ['the old one first', { maxSurge: 0, maxUnavailable: 1 }],
    ['two old ones first', { maxSurge: 0, maxUnavailable: 2 }],
    ['everything anew', { type: 'Recreate' }],
  ])('rolls node by node: %s', (_sentence, strategy) => {
    for (let seed = 1; seed <= 20; seed++) {
      const simulation = three(strategy === undefined ? {} : { strategy });
      roll(simulation);
      simulation.settle(seeded(seed));
      expect(simulation.layout('edge')).toEqual({ n1: 'new', n2: 'new', n3: 'new' });
    }
  });

  it.each<[string, SLMDeploymentSpec['strategy'], boolean]>([
    ['takes an old one first', undefined, true],
    ['says why it stands still where that is forbidden', { maxUnavailable: 0, maxSurge: 1 }, false],
  ])('on nodes that have room for one pod %s', (_sentence, strategy, moves) => {
    const simulation = three(strategy === undefined ? {} : { strategy }, 1);
    simulation.mayYield = true;
    roll(simulation);
    simulation.settle(inOrder, { until: simulation.clock.now() + 5 * MINUTE });
    expect(simulation.layout('edge')).toEqual({ n1: 'new', n2: 'new', n3: 'new' });
    expect(simulation.setsOf('edge')).toHaveLength(moves ? 2 : 1);
    if (!moves)
      expect(JSON.stringify(statusOf(simulation)?.blockedBy)).toContain('strategy.maxUnavailable lets none go');
  });

  it('comes from any number of pods, and goes back to it', () => {
    const simulation = new NodeSimulation();
    for (const name of ['n1', 'n2', 'n3']) simulation.node(name, { pods: 9 });
    simulation.deploy('edge', { replicas: 2 }).settle(inOrder);
    simulation.change('edge', perNode);
    simulation.settle(inOrder);
    expect(simulation.layout('edge')).toEqual({ n1: 'new', n2: 'new', n3: 'new' });
    simulation.change('edge', { placement: { mode: 'Replicas' }, replicas: 2 });
    simulation.settle(inOrder);
    expect(simulation.podsOf('edge')).toHaveLength(2);
  });

  it('has the best hardware of each node', () => {
    const simulation = new NodeSimulation()
      .node('n1', { pods: 9 })
      .node('n2', { pods: 9, [GPU]: 2 })
      .node('n3', { pods: 9, [GPU]: 1 })
      .deploy('edge', { ...perNode, hardware: { preferred: 'gpu' } });
    simulation.settle(inOrder);
    const tiers = () =>
      Object.fromEntries(
        simulation
          .podsOf('edge')
          .map((pod) => [
            pod.spec?.nodeName,
            pod.metadata?.labels?.['slm.dev/hardware'] ?? pod.metadata?.labels?.['slm.dev/tier'],
          ]),
      );
    expect(tiers()).toEqual({ n1: 'cpu', n2: 'nvidia', n3: 'nvidia' });
    roll(simulation);
    simulation.mayYield = true;
    simulation.settle(inOrder);
    expect(tiers()).toEqual({ n1: 'cpu', n2: 'nvidia', n3: 'nvidia' });
  });
});

describe('its Service', () => {
  const serviceOf = (simulation: NodeSimulation) =>
    simulation.known.get('edge')?.plan?.apply.find(({ kind }) => kind === 'Service') as
      | { spec?: { internalTrafficPolicy?: string } }
      | undefined;

  it('leads to the node’s own pod once every node has one', () => {
    const simulation = new NodeSimulation().node('n1', { pods: 9 }).node('n2', { pods: 9 });
    simulation.deploy('edge', perNode).reconcile('edge');
    expect(serviceOf(simulation)?.spec?.internalTrafficPolicy).toBeUndefined();
    simulation.settle(inOrder);
    expect(serviceOf(simulation)?.spec?.internalTrafficPolicy).toBe('Local');
    roll(simulation);
    simulation.reconcile('edge');
    expect(serviceOf(simulation)?.spec?.internalTrafficPolicy).toBe('Local');
  });
});

const matching = { role: 'edge' };

function randomEvent(simulation: NodeSimulation, choose: Choose): void {
  const nodes = [...simulation.nodes.objects.keys()];
  const node = nodes[choose(Math.max(1, nodes.length))] ?? '';
  const number = choose(4);
  const events: [string, () => unknown][] = [
    [`${node} is cordoned`, () => simulation.cordon(node)],
    [`${node} is uncordoned`, () => simulation.cordon(node, false)],
    [`${node} is lost`, () => simulation.lose(node)],
    [`${node} is back`, () => simulation.lose(node, false)],
    [`${node} goes`, () => simulation.removeNode(node)],
    [`${node} matches`, () => simulation.label(node, matching)],
    [`${node} matches no more`, () => simulation.label(node, {})],
    [`m${number} comes`, () => simulation.node(`m${number}`, { pods: 9 }).label(`m${number}`, matching)],
    ['it moves on', () => simulation.change('edge', { engine: { contextLength: 512 * (1 + number) } })],
    ['it moves on', () => simulation.change('edge', { engine: { contextLength: 512 * (1 + number) } })],
    ['time goes by', () => simulation.clock.advance(10_000)],
  ];
  const [what, happen] = events[choose(events.length)] ?? ['nothing', () => undefined];
  simulation.log.push(`# ${what}`);
  happen();
}

function live(seed: number): void {
  const choose = seeded(seed);
  const simulation = new NodeSimulation();
  for (let index = 0; index <= choose(4); index++) {
    simulation.node(`n${index}`, { pods: 9 }).label(`n${index}`, matching);
  }
  const strategies: SLMDeploymentSpec['strategy'][] = [
    {},
    { maxSurge: 2 },
    { maxSurge: 0, maxUnavailable: 1 },
    { maxUnavailable: '50%', maxSurge: '50%' },
  ];
  const spec = {
    ...perNode,
    podTemplate: { spec: { nodeSelector: { role: 'edge' } } },
    strategy: strategies[choose(4)] ?? {},
  };
  simulation.deploy('edge', spec);
  for (let event = choose(12); event > 0; event--) {
    for (let step = choose(30); step > 0; step--) {
      const moves = simulation.moves();
      moves[choose(Math.max(1, moves.length))]?.();
    }
    randomEvent(simulation, choose);
    if (choose(3) === 0) simulation.settle(choose, { until: simulation.clock.now() + 10_000 * choose(30) });
  }
  simulation.log.push('# the world stands still');
  simulation.settle(choose, { until: simulation.clock.now() + 60 * MINUTE });
  const { object } = found(simulation.known.get('edge'));
  const usable = new Set(simulation.usable(object));
  const layout = simulation.layout('edge');
  for (const node of usable) {
    if (layout[node] !== 'new') throw simulation.failed(`${node} has ${layout[node]}: ${JSON.stringify(layout)}`);
  }
  for (const pod of simulation.podsOf('edge')) {
    const node = simulation.nodes.objects.get(pod.spec?.nodeName ?? '');
    if (node === undefined) throw simulation.failed(`pod ${pod.metadata?.name} has no node`);
    const isLost = node.status?.conditions?.[0]?.status !== 'True';
    if (node.metadata?.labels?.['role'] !== 'edge' && !isLost) {
      throw simulation.failed(`pod ${pod.metadata?.name} stays on ${node.metadata?.name}`);
    }
  }
  if (simulation.reconcile('edge')) throw simulation.failed('it was not woken for what it had to do');
}

/** What went wrong with a seed, if anything did. */
function failureOf(seed: number): string | undefined {
  try {
    live(seed);
    return undefined;
  } catch (error) {
    return `seed ${seed} (again with SLM_SEED=${seed}): ${(error as Error).message}`;
  }
}

describe('nodes that come and go at random', () => {
  const { SLM_SEED: only, SLM_SEEDS: count = '100' } = process.env;
  const seeds = only === undefined ? Array.from({ length: Number(count) }, (_, index) => index + 1) : [Number(only)];
  it('are each served, and no step leaves more unserved than allowed', () => {
    expect(seeds.map(failureOf).find((failure) => failure !== undefined)).toBeUndefined();
  }, 600_000);
});
