import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import type { KubeClient } from '../kube/client.ts';
import { accessFrom, loadKubeConfig } from '../kube/config.ts';
import { makeKubeClient } from '../kube/http-client.ts';
import { ConfigMap, Lease, Namespace } from '../kube/resource.ts';
import { eventually } from './testing/eventually.ts';

const namespace = `failover-${process.pid}`;
const program = fileURLToPath(new URL('testing/failover-replica.ts', import.meta.url));
/** Of the replicas: 3 s of lease, a try each 0.3 to 0.66 s; the rest is for a busy machine to be slow in. */
const TAKEOVER_MS = 3000 + 660 + 6000;

let client: KubeClient;
const children = new Set<ChildProcess>();

beforeAll(async () => {
  const access = accessFrom(loadKubeConfig({ file: inject('kubeconfig') }));
  client = makeKubeClient({ access, userAgent: 'failover-test/1' });
  await client.create(Namespace, { metadata: { name: namespace } });
});

afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await client.delete(Namespace, { name: namespace });
  await client.close();
});

/** A replica as a process of its own. */
function startReplica(identity: string) {
  const child = spawn(process.execPath, [program, inject('kubeconfig'), namespace, identity], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.add(child);
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  return {
    identity,
    child,
    said: (word: string) => eventually(() => output.includes(word), { timeoutMs: 20_000 }),
    get leads() {
      return output.includes('leading');
    },
    async end(signal: NodeJS.Signals) {
      const exited = once(child, 'exit');
      child.kill(signal);
      const [code] = (await exited) as [number | null];
      children.delete(child);
      return code;
    },
  };
}

interface Entry {
  readonly version: number;
  readonly by: string;
}

async function readEffects(): Promise<Map<string, Entry[]>> {
  const { items } = await client.listAll(ConfigMap, { namespace, labelSelector: 'role=effect' });
  return new Map(
    items.map((item) => [
      item.metadata?.labels?.['input-key'] ?? '',
      (item.data?.['history'] ?? '').split(' ').map((entry) => {
        const [version, by = ''] = entry.split('@');
        return { version: Number(version), by };
      }),
    ]),
  );
}

/** Changes inputs all the time; knows what the last version of each is. */
class Writer {
  readonly versions = new Map<string, number>();
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #next = 0;

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async make(): Promise<string> {
    const name = `input-${this.#next++}`;
    this.versions.set(name, 1);
    const metadata = { name, namespace, labels: { role: 'input' } };
    await client.create(ConfigMap, { metadata, data: { version: '1' } });
    return name;
  }

  async remove(name: string): Promise<void> {
    this.versions.delete(name);
    await client.delete(ConfigMap, { name, namespace });
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      for (const [name, version] of Array.from(this.versions)) {
        if (this.#stop.signal.aborted || !this.versions.has(name)) continue;
        this.versions.set(name, version + 1);
        await client.patch(ConfigMap, { name, namespace }, 'merge', { data: { version: String(version + 1) } });
      }
    }
  }
}

it('the standby goes on within the lease after kill -9 of the leader, and nothing is lost or done twice', async () => {
  const writer = new Writer();
  for (let i = 0; i < 20; i++) await writer.make();

  let leader = startReplica('r0');
  await leader.said('leading');
  writer.start();

  for (let round = 1; round <= 2; round++) {
    const standby = startReplica(`r${round}`);
    await standby.said('synced');
    await eventually(async () =>
      [...(await readEffects()).values()].some((history) => history.at(-1)?.by === leader.identity),
    );
    expect(standby.leads).toBe(false);

    const killedAt = performance.now();
    await leader.end('SIGKILL');
    // While nobody leads: one comes, one goes.
    await writer.remove(`input-${round}`);
    await writer.make();
    await standby.said('leading');
    const took = performance.now() - killedAt;
    expect(took).toBeLessThan(TAKEOVER_MS);
    leader = standby;
  }

  await eventually(async () => [...(await readEffects()).values()].some((history) => history.at(-1)?.by === 'r2'));
  await writer.stop();
  const effects = await eventually(
    async () => {
      const now = await readEffects();
      const last = new Map(Array.from(now, ([name, history]) => [name, history.at(-1)?.version]));
      expect(Object.fromEntries(last)).toEqual(Object.fromEntries(writer.versions));
      return now;
    },
    { timeoutMs: 20_000, everyMs: 100 },
  );

  for (const [name, history] of effects) {
    const versions = history.map((entry) => entry.version);
    expect(versions, `versions of ${name}, each once and in order`).toEqual(
      Array.from(new Set(versions)).sort((left, right) => left - right),
    );
    const writers = history.map((entry) => entry.by);
    expect(writers, `writers of ${name}, one after the other`).toEqual(writers.toSorted());
  }
  // Guards the test itself: all three leaders did some of the work.
  const authors = new Set([...effects.values()].flatMap((history) => history.map((entry) => entry.by)));
  expect(authors).toEqual(new Set(['r0', 'r1', 'r2']));
  const lease = await client.get(Lease, { name: 'failover', namespace });
  expect(lease.spec).toMatchObject({ holderIdentity: 'r2', leaseTransitions: 2 });

  // A leader that is asked to stop gives the lease back: the next one need not wait for it to run out.
  const last = startReplica('r3');
  await last.said('synced');
  expect(await leader.end('SIGTERM')).toBe(0);
  expect((await client.get(Lease, { name: 'failover', namespace })).spec?.holderIdentity).not.toBe(leader.identity);
  await last.said('leading');
  expect(await last.end('SIGTERM')).toBe(0);
}, 60_000);

it('a leader whose lease somebody else took ends with status 1 and leaves the lease alone', async () => {
  const replica = startReplica('r9');
  await replica.said('leading');
  const lease = await client.get(Lease, { name: 'failover', namespace });
  await client.update(Lease, { ...lease, spec: { ...lease.spec, holderIdentity: 'somebody-else' } });
  const [code] = (await once(replica.child, 'exit')) as [number | null];
  children.delete(replica.child);
  expect(code).toBe(1);
  expect((await client.get(Lease, { name: 'failover', namespace })).spec?.holderIdentity).toBe('somebody-else');
}, 30_000);
