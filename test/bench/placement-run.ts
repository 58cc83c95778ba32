/**
 * One run of the benchmark `placement`: first the operator in a world of its own, then the bare client that writes the same objects in
 * another. Owns the phases and what is taken from each; `placement.ts` makes rows of it.
 */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SLMDeployment, SLMModel } from '@slm-operator/operator/execution/kinds';
import { keyOf } from '@slm-operator/operator/kube/resource';
import type { Progress } from '../cluster/progress.ts';
import { countByKind, isEventWrite, isLeaseWrite, type Write } from './audit-log.ts';
import { type OperatorProcess, startOperator, waitUntilLeading } from './operator-process.ts';
import { startAgents } from './placement-agents.ts';
import { inLanes } from './placement-load.ts';
import { changeOfAll, makeDeployment, makeModels, namespacesFor } from './placement-objects.ts';
import { addedSince, madeChild, type Recording, recordChildren, replaceSets, writeChildren } from './placement-peer.ts';
import { isReady, openWatches } from './placement-watch.ts';
import { OPERATOR_USER, PEER_USER, type PlacementWorld, startWorld, until } from './placement-world.ts';

/** Parts that can be left out; the first cannot. */
export const placementParts = ['create', 'latency', 'idle', 'change', 'restart'] as const;
export type Part = (typeof placementParts)[number];

export interface RunOptions {
  readonly deployments: number;
  readonly nodes: number;
  readonly idleSeconds: number;
  readonly parts: ReadonlySet<Part>;
  /** The operator's bundle. */
  readonly operatorFile: string;
  /** Folder for its processor profiles. */
  readonly profile?: string | undefined;
  readonly progress: Progress;
}

/** What a wave of work took: seconds, and the writes of whoever did it. */
export interface Wave {
  readonly toChildren: number;
  readonly toReady: number;
  readonly writes: readonly Write[];
  /** Children that had to be written. */
  readonly children: number;
  /** Of the operator, until it was quiet again. */
  readonly cpuSeconds?: number;
}

export interface Side {
  readonly create: Wave;
  readonly change?: Wave;
  /** Seconds from asking for a deployment to its ReplicaSet, one at a time. */
  readonly latencies: readonly number[];
}

export interface OurSide extends Side {
  readonly idle?: { readonly writes: readonly Write[]; readonly cpuSeconds: number };
  readonly restart?: { readonly seconds: number; readonly writes: readonly Write[]; readonly cpuSeconds: number };
  readonly rss: number;
  readonly peakRss: number;
  /** Its own pages alone, without the files of the program. */
  readonly anonymous: number;
  /** Of the second process, that has only read what is there. */
  readonly restartedRss?: number;
  readonly lanes: number;
}

/** How many users write deployments at the same time. */
const USERS = 16;
/** Deployments that come one at a time. */
const SINGLES = 24;
/** So long without a write is quiet. */
const QUIET_MS = 3000;
/** Who uses a model is written to its status so late, at most; before that nothing is idle. */
const LATE_MS = 62_000;
const WAVE_TIMEOUT_MS = 600_000;

/** Both sides, one after the other. */
export async function runOnce(options: RunOptions): Promise<{ readonly ours: OurSide; readonly peer: Side }> {
  const { ours, recorded } = await runOurs(options);
  tell(ours, options);
  return { ours, peer: await runPeer(options, recorded, ours.lanes) };
}

/** What is in no row: which writes there were. */
function tell({ create, change, idle, restart }: OurSide, { deployments, progress }: RunOptions): void {
  progress.note(`writes for a deployment: ${describeWrites(create.writes, deployments)}`);
  if (change) progress.note(`for its change: ${describeWrites(change.writes, deployments)}`);
  if (idle) progress.note(`while idle: ${describeWrites(idle.writes, 1) || 'none'}`);
  if (restart) progress.note(`after the restart: ${describeWrites(restart.writes, 1) || 'none'}`);
}

/** The children that the operator made. */
interface Recorded {
  readonly before: Recording;
  /** Of the deployments that came one at a time. */
  readonly singles: Recording;
  /** In the change of all. */
  readonly added: Recording;
}

async function runOurs(options: RunOptions) {
  const { deployments, parts, progress } = options;
  const namespaces = namespacesFor(deployments + SINGLES);
  await using world = await startWorld({ nodes: options.nodes, namespaces, progress });
  const { admin, audit } = world;
  const { kubeconfig } = await world.addUser(OPERATOR_USER);
  const agentsClient = (await world.addUser('bench-agents')).client;
  const log = path.join(world.folder, 'operator.log');
  const { operatorFile: file, profile } = options;
  const start = () => startOperator({ file, profile, kubeconfig, env: world.operatorEnv, flags: world.heapFlags, log });
  let operator: OperatorProcess = await start();
  await using stopping = { [Symbol.asyncDispose]: () => operator.stop() };
  await using agents = await startAgents(agentsClient);
  await using watched = await openWatches(admin);
  void [stopping, agents];

  const step = progress.step(`${deployments} deployments, operator`);
  step.update('models on every node');
  await waitUntilLeading(operator, log);
  const models = makeModels(namespaces);
  await inLanes(models, USERS, async (model) => void (await admin.create(SLMModel, model)));
  await until(() => watched.models.list().filter(isReady).length === models.length, 'the models to be on every node');
  await quiet(world, OPERATOR_USER);

  const wave = async (work: () => Promise<void>, count: number, children: (writes: readonly Write[]) => Write[]) => {
    const before = await operator.usage();
    const started = Date.now();
    await work();
    await until(
      () => {
        const ready = watched.deployments.list().filter(isReady).length;
        step.update(`${ready} of ${count} Ready`);
        return watched.deployments.size >= count && ready >= count;
      },
      'the deployments to be Ready',
      WAVE_TIMEOUT_MS,
    );
    const toReady = (Date.now() - started) / 1000;
    const all = await quiet(world, OPERATOR_USER);
    const writes = all.filter(({ user }) => user === OPERATOR_USER);
    const made = children(writes);
    return {
      toReady,
      toChildren: (Math.max(...made.map(({ ended }) => ended)) - started) / 1000,
      writes,
      children: made.length,
      cpuSeconds: (await operator.usage()).cpuSeconds - before.cpuSeconds,
    };
  };

  const specs = Array.from({ length: deployments }, (_, index) => makeDeployment(index));
  const create = await wave(
    () => inLanes(specs, USERS, async (spec) => void (await admin.create(SLMDeployment, spec))),
    deployments,
    (writes) => writes.filter(madeChild),
  );
  const before = await recordChildren(admin);
  const latencies: number[] = [];
  if (parts.has('latency')) {
    step.update('one at a time');
    for (let index = 0; index < SINGLES; index++) {
      const spec = makeDeployment(deployments + index, `single-${index + 1}`);
      await admin.create(SLMDeployment, spec);
      await until(() => isReady(watched.deployments.get(keyOf(spec)) ?? spec), 'a single deployment', 60_000, 20);
      // Its echoes are part of the last one, not of the next.
      await sleep(300);
    }
    latencies.push(...latenciesOf(await audit.read(), OPERATOR_USER));
  }
  const singles = addedSince(before, await recordChildren(admin));
  const idle = parts.has('idle')
    ? await watchIdle(world, operator, options.idleSeconds, (detail) => step.update(detail))
    : undefined;
  let change: Wave | undefined;
  let added: Recording = new Map();
  if (parts.has('change')) {
    step.update('a change of every deployment');
    await quiet(world, OPERATOR_USER);
    change = await wave(
      () =>
        inLanes(specs, USERS, async ({ metadata }) => {
          const { name, namespace = '' } = metadata;
          await admin.patch(SLMDeployment, { name: name ?? '', namespace }, 'merge', changeOfAll);
        }),
      watched.deployments.size,
      (writes) => writes.filter(({ resource }) => resource === 'replicasets.apps'),
    );
    added = addedSince(before, await recordChildren(admin));
    for (const key of added.keys()) if (key.includes('/single-')) (added as Map<string, unknown>).delete(key);
  }
  const { rss, peakRss, anonymous } = await operator.usage();
  const lanes = await operator.metric('controller_runtime_max_concurrent_reconciles', '"deployment"');
  let restart: OurSide['restart'];
  let restartedRss: number | undefined;
  if (parts.has('restart')) {
    step.update('restart');
    await operator.stop();
    await quiet(world, OPERATOR_USER);
    const started = performance.now();
    operator = await start();
    const count = watched.deployments.size;
    await until(() => hasLookedAtAll(operator, count), 'the restarted operator to have looked at all', 120_000, 50);
    const seconds = (performance.now() - started) / 1000;
    const writes = (await quiet(world, OPERATOR_USER)).filter(({ user }) => user === OPERATOR_USER);
    const usage = await operator.usage();
    restart = { seconds, writes, cpuSeconds: usage.cpuSeconds };
    restartedRss = usage.rss;
  }
  step.done(`Ready after ${create.toReady.toFixed(1)} s`);
  const ours: OurSide = {
    create,
    latencies,
    rss,
    peakRss,
    anonymous,
    lanes,
    ...(idle && { idle }),
    ...(change && { change }),
    ...(restart && { restart }),
    ...(restartedRss === undefined ? {} : { restartedRss }),
  };
  return { ours, recorded: { before, singles, added } };
}

async function runPeer(options: RunOptions, recorded: Recorded, lanes: number): Promise<Side> {
  const { before, singles, added } = recorded;
  const { deployments, progress } = options;
  const namespaces = namespacesFor(deployments + SINGLES);
  await using world = await startWorld({ nodes: options.nodes, namespaces, progress });
  const { client } = await world.addUser(PEER_USER);
  await using watched = await openWatches(world.admin);
  const step = progress.step(`${deployments} deployments, bare client`);
  const wave = async (work: () => Promise<void>, count: number, isChild: (write: Write) => boolean): Promise<Wave> => {
    await quiet(world, PEER_USER);
    const started = Date.now();
    await work();
    const toReady = (Date.now() - started) / 1000;
    const writes = (await quiet(world, PEER_USER)).filter(({ user }) => user === PEER_USER);
    const made = writes.filter(isChild);
    return {
      toReady,
      toChildren: (Math.max(...made.map(({ ended }) => ended)) - started) / 1000,
      writes,
      children: count,
    };
  };
  const total = [...before.values()].flat().length;
  const create = await wave(() => writeChildren(client, watched, before, lanes), total, madeChild);
  const latencies: number[] = [];
  if (options.parts.has('latency')) {
    for (let index = 0; index < SINGLES; index++) {
      const spec = makeDeployment(deployments + index, `single-${index + 1}`);
      await world.admin.create(SLMDeployment, spec);
      for (const { type, object } of singles.get(keyOf(spec)) ?? []) await client.create(type, object);
      await sleep(500);
    }
    latencies.push(...latenciesOf(await world.audit.read(), PEER_USER));
  }
  const change = options.parts.has('change')
    ? await wave(
        () => replaceSets(client, watched, before, added, lanes),
        2 * added.size,
        ({ resource }) => resource === 'replicasets.apps',
      )
    : undefined;
  step.done(`Ready after ${create.toReady.toFixed(1)} s`);
  return { create, latencies, ...(change && { change }) };
}

/** Waits until a user has written nothing but leases for a while; answers all writes since the last look. */
export async function quiet({ audit }: PlacementWorld, user: string, quietMs = QUIET_MS): Promise<Write[]> {
  const seen: Write[] = [];
  for (let since = performance.now(); performance.now() - since < quietMs; ) {
    await sleep(250);
    const writes = await audit.read();
    seen.push(...writes);
    if (writes.some((write) => write.user === user && !isLeaseWrite(write))) since = performance.now();
  }
  return seen;
}

async function watchIdle(
  world: PlacementWorld,
  operator: OperatorProcess,
  seconds: number,
  tell: (detail: string) => void,
) {
  const { audit } = world;
  tell('waiting for what is written late');
  await quiet(world, OPERATOR_USER, LATE_MS);
  tell(`${seconds} s of nothing`);
  const before = await operator.usage();
  await sleep(seconds * 1000);
  const writes = (await audit.read()).filter(({ user }) => user === OPERATOR_USER);
  return { writes, cpuSeconds: (await operator.usage()).cpuSeconds - before.cpuSeconds };
}

/** From the request for a single deployment to the answer to the making of its ReplicaSet, in seconds. */
function latenciesOf(writes: readonly Write[], user: string): number[] {
  const asked = writes.filter(
    ({ resource, name }) => resource === 'slmdeployments.slm.dev' && name.startsWith('single-'),
  );
  return asked.flatMap(({ namespace, name, begun }) => {
    const made = writes.find(
      (write) =>
        write.user === user &&
        madeChild(write) &&
        write.resource === 'replicasets.apps' &&
        write.namespace === namespace &&
        write.name.startsWith(`${name}-`),
    );
    return made === undefined ? [] : [(made.ended - begun) / 1000];
  });
}

async function hasLookedAtAll(operator: OperatorProcess, count: number): Promise<boolean> {
  try {
    const looked = await operator.metric('controller_runtime_reconcile_total', '"deployment"');
    const waiting = await operator.metric('workqueue_depth');
    const active = await operator.metric('controller_runtime_active_workers');
    return looked >= count && waiting === 0 && active === 0;
  } catch {
    // It does not answer yet.
    return false;
  }
}

/** Writes without leases and events. */
export function objectWrites(writes: readonly Write[]): Write[] {
  return writes.filter((write) => !isLeaseWrite(write) && !isEventWrite(write));
}

/** The kinds of writes, the most frequent first. */
export function describeWrites(writes: readonly Write[], per: number): string {
  return [...countByKind(writes)]
    .toSorted(([, a], [, b]) => b - a)
    .map(([what, count]) => `${what} ${(count / per).toFixed(2)}`)
    .join(', ');
}
