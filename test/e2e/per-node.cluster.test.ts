/** A pod on each node: each node is served by its own, rolls by itself, and goes on when the control plane is away. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cluster, lab, makeDeployment, makeModel, nodes, openHub, type TestHub } from './context.ts';
import { condition, holds, type TestNamespace, until } from './harness.ts';

interface Pod {
  readonly metadata: {
    readonly name: string;
    readonly labels: Record<string, string>;
    readonly deletionTimestamp?: string;
  };
  readonly spec: { readonly nodeName?: string };
  readonly status: {
    readonly podIP?: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly containerStatuses?: readonly { readonly containerID: string; readonly restartCount: number }[];
  };
}

/** Label of the nodes that are to serve. */
const ROLE = 'per-node-test/role';

let hub: TestHub;
let space: TestNamespace;
let key: string;
const deployment = () => lab.deployment(space.name, 'edge');
const allPods = () => lab.list<Pod>('pods', '-n', space.name, '-l', 'slm.dev/deployment=edge');
const pods = async () => (await allPods()).filter((pod) => pod.metadata.deletionTimestamp === undefined);
const isReady = (pod: Pod) => pod.status.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True');
const change = (spec: object) =>
  lab.kubectl('-n', space.name, 'patch', 'slmd/edge', '--type=merge', '-p', JSON.stringify({ spec }));
const label = (node: string, value: string | undefined) =>
  lab.kubectl('label', 'node', node, '--overwrite', value === undefined ? `${ROLE}-` : `${ROLE}=${value}`);
const isServing = (count: number) => (one: Awaited<ReturnType<typeof deployment>>) =>
  holds(one, 'Ready') && one?.status?.readyText === `${count}/${count}`;

/** Asks the Service from a node, outside of any pod, as its kubelet's neighbours do. Answers the status code, 0 for none. */
async function askFrom(node: string): Promise<number> {
  const service = await lab.get<{ spec: { clusterIP: string } }>('service', 'edge', space.name);
  return askAddress(node, service!.spec.clusterIP);
}

async function askAddress(node: string, address: string): Promise<number> {
  const url = `http://${address}:11434/v1/models`;
  const asked = `fetch(${JSON.stringify(url)}, {headers: {authorization: "Bearer ${key}"}, signal: AbortSignal.timeout(4000)})`;
  const script = `${asked}.then(r => r.text().then(() => r.status), () => 0).then(code => console.log(code))`;
  const running = await cluster();
  // The nodes of a bare cluster see this machine's files; those of kind have curl, which prints 000 for none.
  const command =
    running.provider === 'bare'
      ? [process.execPath, '-e', script]
      : ['sh', '-c', `curl -s -o /dev/null -m 4 -w '%{http_code}' -H 'authorization: Bearer ${key}' ${url} || true`];
  const { stdout } = await running.node(node).exec(command);
  return Number(stdout.trim());
}

beforeAll(async () => {
  hub = await openHub();
  space = await lab.namespace('per-node');
  const model = await hub.addModel('one.gguf');
  for (const node of nodes) await label(node, 'edge');
  await lab.apply(
    makeModel(space.name, 'lm', hub, 'one.gguf', model.sha256),
    makeDeployment(space.name, 'edge', 'lm', {
      placement: { mode: 'PerNode' },
      podTemplate: { spec: { nodeSelector: { [ROLE]: 'edge' } } },
      strategy: { drainTimeoutSeconds: 5 },
    }),
  );
  await until('each node serves', deployment, isServing(nodes.length), { timeoutMs: 240_000 });
  key = await lab.apiKey(space.name, 'edge');
});
afterAll(async () => {
  for (const node of nodes) await label(node, undefined);
  await space[Symbol.asyncDispose]();
  await hub[Symbol.asyncDispose]();
});

describe('a deployment with a pod on each node', () => {
  it('has one on each, and its Service leads to the node’s own', async () => {
    expect((await pods()).map((pod) => pod.spec.nodeName ?? '').sort()).toEqual([...nodes].sort());
    const local = async () =>
      (await lab.get<{ spec: { internalTrafficPolicy: string } }>('service', 'edge', space.name))?.spec;
    await until('the Service is local', local, (spec) => spec?.internalTrafficPolicy === 'Local');
    for (const node of nodes) {
      await until(
        `${node} is served`,
        () => askFrom(node),
        (code) => code === 200,
      );
    }
  });

  it('serves no node from another', async () => {
    const [node = ''] = nodes;
    await label(node, 'none');
    await until('two nodes serve', deployment, isServing(nodes.length - 1));
    expect((await pods()).map((pod) => pod.spec.nodeName)).not.toContain(node);
    await until(
      `${node} is served no more`,
      () => askFrom(node),
      (code) => code === 0,
    );
    for (const other of nodes.slice(1)) expect(await askFrom(other)).toBe(200);
    await label(node, 'edge');
    await until('each node serves again', deployment, isServing(nodes.length));
    await until(
      `${node} is served`,
      () => askFrom(node),
      (code) => code === 200,
    );
  });
});

describe('a rolling update', () => {
  it('goes node by node, and every node is served throughout', async () => {
    const before = (await deployment())!.status!.updateRevision!;
    const unserved: string[] = [];
    const over = new AbortController();
    const watch = nodes.map(async (node) => {
      while (!over.signal.aborted) {
        const code = await askFrom(node);
        if (code !== 200) unserved.push(`${node}: ${code}`);
      }
    });
    await change({ engine: { contextLength: 640 } });
    await until(
      'the new revision is on each node',
      deployment,
      (one) => isServing(nodes.length)(one) && one?.status?.currentRevision !== before,
      { timeoutMs: 240_000 },
    );
    await until('the old pods are gone', allPods, (all) => all.length === nodes.length, { timeoutMs: 60_000 });
    over.abort();
    await Promise.all(watch);
    expect(unserved).toEqual([]);
    expect((await pods()).map((pod) => pod.spec.nodeName ?? '').sort()).toEqual([...nodes].sort());
  });

  it('that may not surge takes one node at a time', async () => {
    const before = (await deployment())!.status!.updateRevision!;
    await change({ strategy: { maxSurge: 0, maxUnavailable: 1 }, engine: { contextLength: 704 } });
    const served: number[] = [];
    const beside: number[] = [];
    await until(
      'the new revision is on each node',
      async () => {
        const [one, all] = await Promise.all([deployment(), pods()]);
        served.push(new Set(all.filter(isReady).map((pod) => pod.spec.nodeName)).size);
        beside.push(all.length);
        return one;
      },
      (one) => isServing(nodes.length)(one) && one?.status?.currentRevision !== before,
      { timeoutMs: 240_000, everyMs: 100 },
    );
    expect(Math.min(...served)).toBeGreaterThanOrEqual(nodes.length - 1);
    expect(Math.max(...beside)).toBeLessThanOrEqual(nodes.length);
    await change({ strategy: { maxSurge: null, maxUnavailable: null } });
  });
});

describe('a node', () => {
  it('that is cordoned keeps its pod, and gets the new revision when it is back', async () => {
    const node = nodes.at(-1)!;
    const old = (await deployment())!.status!.updateRevision!;
    const revisionOn = async () =>
      (await pods()).filter((pod) => pod.spec.nodeName === node).map((pod) => pod.metadata.labels['slm.dev/revision']);
    await lab.kubectl('cordon', node);
    await change({ engine: { contextLength: 768 } });
    const one = await until(
      'the other nodes have the new revision',
      deployment,
      (it) => isServing(nodes.length)(it) && it?.status?.currentRevision !== old,
      { timeoutMs: 240_000 },
    );
    expect(await revisionOn()).toEqual([old]);
    expect(condition(one, 'Ready')?.message).toContain(`node ${node} is cordoned and keeps its pod of revision ${old}`);
    expect(await askFrom(node)).toBe(200);
    await lab.kubectl('uncordon', node);
    const wanted = one!.status!.updateRevision!;
    await until('it has the new revision', revisionOn, (there) => there.length === 1 && there[0] === wanted, {
      timeoutMs: 120_000,
    });
    await until('each node serves', deployment, isServing(nodes.length));
  });

  it('that is drained has no pod, and gets one when it is back', async () => {
    const node = nodes.at(-1)!;
    await lab.kubectl(
      'drain',
      node,
      '--ignore-daemonsets',
      '--delete-emptydir-data',
      '--timeout=120s',
      `--pod-selector=slm.dev/deployment=edge`,
    );
    const one = await until('two nodes serve', deployment, isServing(nodes.length - 1));
    expect(condition(one, 'Ready')?.message).toContain(`node ${node} is cordoned`);
    await lab.kubectl('uncordon', node);
    await until('each node serves again', deployment, isServing(nodes.length), { timeoutMs: 120_000 });
  });

  it('that loses its power keeps its place, and serves again by the same pod', async () => {
    const node = nodes.at(-1)!;
    const [pod] = (await pods()).filter((one) => one.spec.nodeName === node);
    const control = (await cluster()).node(node);
    await control.kill();
    const one = await until(
      'its pod does not count',
      deployment,
      (it) => it?.status?.readyText === `${nodes.length - 1}/${nodes.length}`,
      { timeoutMs: 90_000 },
    );
    expect(one?.status?.statusText).toContain(`node ${node} is not ready`);
    expect(holds(one, 'Ready')).toBe(true);
    expect((await pods()).map(({ metadata }) => metadata.name)).toContain(pod!.metadata.name);
    await control.start();
    await until('each node serves again', deployment, isServing(nodes.length), { timeoutMs: 180_000 });
    expect((await pods()).map(({ metadata }) => metadata.name)).toContain(pod!.metadata.name);
    await until(
      `${node} is served`,
      () => askFrom(node),
      (code) => code === 200,
    );
  });
});

describe('while the control plane is away', () => {
  it('a server that ends is started again, and its node served', async () => {
    const node = nodes.at(-1)!;
    const service = await lab.get<{ spec: { clusterIP: string } }>('service', 'edge', space.name);
    const address = service!.spec.clusterIP;
    const [pod] = (await pods()).filter((one) => one.spec.nodeName === node);
    const running = await cluster();
    const control = running.node(node);
    await running.apiServer.stop();
    try {
      // In a container HOSTNAME is the name of its pod.
      const find = `grep -lz '^HOSTNAME=${pod!.metadata.name}$' /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3`;
      await control.exec(['sh', '-c', `for pid in $(${find}); do kill -9 $pid; done`]);
      await until(
        'its node is served no more',
        () => askAddress(node, address),
        (status) => status === 0,
        { everyMs: 20 },
      );
      await until(
        'its node is served',
        () => askAddress(node, address),
        (status) => status === 200,
      );
      for (const other of nodes) expect(await askAddress(other, address)).toBe(200);
    } finally {
      await running.apiServer.start();
    }
    await until('each node serves', deployment, isServing(nodes.length), { timeoutMs: 120_000 });
    const [after] = (await pods()).filter((one) => one.spec.nodeName === node);
    expect(after?.metadata.name).toBe(pod?.metadata.name);
    expect(after?.status.containerStatuses?.[0]?.restartCount).toBeGreaterThan(0);
  });
});
