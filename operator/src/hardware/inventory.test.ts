import { labels, MANAGED_BY } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import type { Node, ObjectOf, Pod } from '../kube/resource.ts';
import { makeStore } from '../runtime/store.ts';
import { makeManualClock } from '../runtime/testing/clocks.ts';
import { allPods, requestsOfPod } from './all-pods.ts';
import { type Expectation, makeInventory } from './inventory.ts';

type NodeObject = ObjectOf<typeof Node>;
type PodObject = ObjectOf<typeof Pod>;

const GPU = 'nvidia.com/gpu';
const fail = (error: unknown) => {
  throw error;
};

/** An inventory over stores that the test writes, as a reflector would. */
function setUp() {
  const nodes = makeStore<NodeObject>(fail);
  const pods = makeStore<PodObject>(fail);
  const caches = makeStore<object>(fail);
  const clock = makeManualClock();
  const inventory = makeInventory({ nodes, pods, caches: caches as never, clock });
  const woken: string[] = [];
  inventory.onWake((key) => woken.push(key));
  let version = 0;
  const stamp = () => String(++version);
  return {
    inventory,
    clock,
    node(name: string, gpus: number, change: { taints?: object[]; unschedulable?: boolean; image?: string } = {}) {
      const amounts = { cpu: '8', memory: '16Gi', pods: '110', ...(gpus < 0 ? {} : { [GPU]: String(gpus) }) };
      const { image, ...spec } = change;
      nodes.put({
        metadata: { name, uid: name, resourceVersion: stamp(), labels: {} },
        spec,
        status: {
          capacity: amounts,
          allocatable: amounts,
          conditions: [{ type: 'Ready', status: 'True' }],
          images: image === undefined ? [] : [{ names: [image] }],
        },
      } as unknown as NodeObject);
    },
    removeNode: (name: string) => nodes.remove({ metadata: { name } }),
    /** A pod of ours, or of others without a deployment. */
    pod(
      name: string,
      {
        on,
        gpus = 1,
        deployment,
        phase = 'Running',
        going = false,
        priority = 0,
      }: { on?: string; gpus?: number; deployment?: string; phase?: string; going?: boolean; priority?: number },
    ) {
      const own =
        deployment === undefined
          ? {}
          : { [labels.managedBy]: MANAGED_BY, [labels.deployment]: deployment, [labels.tier]: 'nvidia' };
      const pod = {
        metadata: {
          name,
          namespace: 'demo',
          uid: name,
          resourceVersion: stamp(),
          labels: own,
          ...(going ? { deletionTimestamp: 'now' } : {}),
        },
        spec: { nodeName: on, priority, containers: [{ resources: { requests: { cpu: '1', [GPU]: String(gpus) } } }] },
        status: { phase },
      };
      pods.put(allPods.transform(pod as unknown as PodObject));
    },
    removePod: (name: string) => pods.remove({ metadata: { name, namespace: 'demo' } }),
    free: (key?: string) => Object.fromEntries(inventory.nodes(key).map(({ name, free }) => [name, free[GPU] ?? 0])),
    /** Who was woken since the last call. */
    woken() {
      clock.advance(10_000);
      return woken.splice(0).sort();
    },
  };
}

const gpu = (replicas: number, nodes = ['n1', 'n2']): Expectation[] => [
  { tier: 'nvidia', replicas, requests: { cpu: 1000, [GPU]: 1, pods: 1 }, nodes },
];

describe('what is free', () => {
  it('is what pods with a node leave, until they have ended', () => {
    const world = setUp();
    world.node('n1', 4);
    world.pod('a', { on: 'n1' });
    world.pod('b', { on: 'n1', gpus: 2, deployment: 'chat' });
    world.pod('c', { gpus: 1 });
    expect(world.free()).toEqual({ n1: 1 });
    expect(world.inventory.nodes()[0]?.free).toMatchObject({ cpu: 6000, pods: 108 });
    world.pod('a', { on: 'n1', phase: 'Succeeded' });
    expect(world.free()).toEqual({ n1: 2 });
    world.pod('b', { on: 'n1', gpus: 2, deployment: 'chat', going: true });
    expect(world.free()).toEqual({ n1: 2 });
    world.removePod('b');
    expect(world.free()).toEqual({ n1: 4 });
  });

  it('is also what placeholders take, which the scheduler puts aside for any pod of ours', () => {
    const world = setUp();
    world.node('n1', 4);
    world.pod('placeholder', { on: 'n1', gpus: 3, priority: -10 });
    expect(world.free()).toEqual({ n1: 4 });
  });

  it('counts pods that were seen before their node, and again when the node comes back', () => {
    const world = setUp();
    world.pod('a', { on: 'n1' });
    world.node('n1', 4);
    expect(world.free()).toEqual({ n1: 3 });
    world.removeNode('n1');
    expect(world.free()).toEqual({});
    world.node('n1', 4);
    expect(world.free()).toEqual({ n1: 3 });
  });

  it('is the same array until something changes', () => {
    const world = setUp();
    world.node('n1', 4);
    const before = world.inventory.nodes();
    world.node('n1', 4, { image: 'x:1' });
    expect(world.inventory.nodes()).toBe(before);
    world.node('n1', 4, { unschedulable: true });
    expect(world.inventory.nodes()).not.toBe(before);
  });
});

describe('a pod of others', () => {
  it('is kept as little more than its name, its node and what it takes', () => {
    const pod = {
      metadata: {
        name: 'a',
        namespace: 'demo',
        uid: 'u',
        resourceVersion: '1',
        annotations: { long: 'x' },
        labels: { a: 'b' },
      },
      spec: { nodeName: 'n1', containers: [{ env: [{ name: 'X' }], resources: { requests: { cpu: '2' } } }] },
      status: { phase: 'Running', conditions: [{ type: 'Ready' }] },
    } as unknown as PodObject;
    const cut = allPods.transform(pod);
    expect(JSON.stringify(cut).length).toBeLessThan(200);
    expect(requestsOfPod(cut)).toEqual({ cpu: 2000, pods: 1 });
  });
});

describe('what was promised', () => {
  it('is not free for others, and is free for the one that it was promised to', () => {
    const world = setUp();
    world.node('n1', 2);
    world.inventory.expect('demo/chat', gpu(1));
    expect(world.free()).toEqual({ n1: 1 });
    expect(world.free('demo/other')).toEqual({ n1: 1 });
    expect(world.free('demo/chat')).toEqual({ n1: 2 });
  });

  it('is kept once, not twice, when the pod has its node', () => {
    const world = setUp();
    world.node('n1', 1);
    world.node('n2', 1);
    world.inventory.expect('demo/chat', gpu(1));
    world.pod('chat-1', { on: 'n2', deployment: 'chat' });
    expect(world.free()).toEqual({ n1: 1, n2: 0 });
  });

  it('is kept again when a pod is gone before the next has come', () => {
    const world = setUp();
    world.node('n1', 1);
    world.inventory.expect('demo/chat', gpu(1));
    world.pod('chat-1', { on: 'n1', deployment: 'chat' });
    world.removePod('chat-1');
    expect(world.free('demo/other')).toEqual({ n1: 0 });
    expect(world.free('demo/chat')).toEqual({ n1: 1 });
  });

  it('ends with a smaller number, and with the deployment', () => {
    const world = setUp();
    world.node('n1', 4);
    world.inventory.expect('demo/chat', gpu(3));
    world.inventory.expect('demo/chat', gpu(1));
    expect(world.free()).toEqual({ n1: 3 });
    world.inventory.forget('demo/chat');
    expect(world.free()).toEqual({ n1: 4 });
  });

  it('moves to another node when others take the place', () => {
    const world = setUp();
    world.node('n1', 1);
    world.inventory.expect('demo/chat', gpu(1));
    world.node('n2', 1);
    world.pod('foreign', { on: 'n1' });
    expect(world.free('demo/other')).toEqual({ n1: 0, n2: 0 });
  });

  it('moves to another node when its own is cordoned or gone', () => {
    const world = setUp();
    world.node('n1', 1);
    world.inventory.expect('demo/chat', gpu(1));
    world.node('n2', 1);
    world.node('n1', 1, { unschedulable: true });
    expect(world.free()).toEqual({ n1: 1, n2: 0 });
    world.inventory.expect('demo/late', gpu(1));
    world.removeNode('n2');
    expect(world.free()).toEqual({ n1: 1 });
  });

  it('goes before those that wait, when something comes free', () => {
    const world = setUp();
    world.node('n1', 1);
    world.pod('foreign', { on: 'n1' });
    world.inventory.expect('demo/first', gpu(1));
    world.woken();
    world.inventory.interest('demo/second', { wants: [GPU], uses: [] });
    world.removePod('foreign');
    expect(world.woken()).toEqual([]);
    expect(world.free('demo/second')).toEqual({ n1: 0 });
  });

  it('never exceeds what there is, whatever comes and goes', () => {
    const world = setUp();
    let seed = 7;
    const random = (bound: number) => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return seed % bound;
    };
    const bound = new Map<string, string>();
    for (let step = 0; step < 2000; step++) {
      const deployment = `d${random(5)}`;
      switch (random(6)) {
        case 0:
          world.node(`n${random(3)}`, random(4), { unschedulable: random(4) === 0 });
          break;
        case 1:
          world.removeNode(`n${random(3)}`);
          break;
        case 2:
          world.inventory.expect(`demo/${deployment}`, gpu(random(4), ['n0', 'n1', 'n2']));
          break;
        case 3:
          world.removePod(`p${random(8)}`);
          break;
        default: {
          const name = `p${random(8)}`;
          const on = bound.get(name) ?? `n${random(3)}`;
          bound.set(name, on);
          world.pod(name, { on, ...(random(2) === 0 ? {} : { deployment }) });
        }
      }
      for (const key of [undefined, `demo/${deployment}`]) {
        for (const { allocatable, free } of world.inventory.nodes(key)) {
          expect(free[GPU] ?? 0).toBeLessThanOrEqual(allocatable[GPU] ?? 0);
        }
      }
    }
    for (let index = 0; index < 5; index++) world.inventory.forget(`demo/d${index}`);
    for (let index = 0; index < 8; index++) world.removePod(`p${index}`);
    for (const { allocatable, free } of world.inventory.nodes()) expect(free).toEqual(allocatable);
  });
});

describe('a deployment that waits is woken', () => {
  const waiting = { wants: [GPU], uses: [] };
  const running = { wants: [], uses: [GPU] };

  it.each<[string, (world: ReturnType<typeof setUp>) => void, string[]]>([
    ['when a pod with such a device ends', (world) => world.removePod('foreign'), ['demo/waits']],
    ['when a node with such a device comes', (world) => world.node('n2', 1), ['demo/runs', 'demo/waits']],
    ['when a plugin offers more', (world) => world.node('n1', 2), ['demo/runs', 'demo/waits']],
    ['when a taint goes', (world) => world.node('n3', -1), ['demo/waits']],
    ['not when a pod takes one', (world) => world.pod('more', { on: 'n1' }), []],
    ['not when something else comes free', (world) => world.removePod('cpu-only'), []],
    ['not when a node’s images change', (world) => world.node('n1', 1, { image: 'x:1' }), []],
  ])('%s', (_, change, expected) => {
    const world = setUp();
    world.node('n1', 1);
    world.node('n3', -1, { taints: [{ key: 'x', effect: 'NoSchedule' }] });
    world.pod('foreign', { on: 'n1' });
    world.pod('cpu-only', { on: 'n1', gpus: 0 });
    world.woken();
    world.inventory.interest('demo/waits', waiting);
    world.inventory.interest('demo/runs', running);
    change(world);
    expect(world.woken()).toEqual(expected);
  });

  it('when a device that it uses is gone', () => {
    const world = setUp();
    world.node('n1', 1);
    world.woken();
    world.inventory.interest('demo/runs', running);
    world.node('n1', 0);
    expect(world.woken()).toEqual(['demo/runs']);
  });

  it('when somebody gives up what was promised', () => {
    const world = setUp();
    world.node('n1', 1);
    world.inventory.expect('demo/chat', gpu(1));
    world.woken();
    world.inventory.interest('demo/waits', waiting);
    world.inventory.expect('demo/chat', []);
    expect(world.woken()).toEqual(['demo/waits']);
  });

  it('once for many changes, and by no change that is undone at once', () => {
    const world = setUp();
    world.node('n1', 4);
    for (const name of ['a', 'b', 'c']) world.pod(name, { on: 'n1' });
    world.woken();
    world.inventory.interest('demo/waits', waiting);
    for (const name of ['a', 'b', 'c']) world.removePod(name);
    expect(world.woken()).toEqual(['demo/waits']);
    world.pod('d', { on: 'n1' });
    world.removePod('d');
    expect(world.woken()).toEqual([]);
  });
});
