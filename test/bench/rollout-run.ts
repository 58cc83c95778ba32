/**
 * One run of the benchmark `rollout`: the operator moves many deployments to new revisions in a world of its own, then the controller
 * manager moves Deployments with the same pods in another. Owns the phases and what is taken from each; `rollout.ts` makes rows of it.
 */
import path from 'node:path';
import { SLMDeployment, SLMModel, SLMRollout } from '@slm-operator/operator/execution/kinds';
import type { KubeClient } from '@slm-operator/operator/kube/client';
import { findProcesses } from '../cluster/daemons.ts';
import type { Progress, Step } from '../cluster/progress.ts';
import type { Write } from './audit-log.ts';
import { startOperator, usageOf, waitUntilLeading } from './operator-process.ts';
import { startAgents } from './placement-agents.ts';
import { inLanes } from './placement-load.ts';
import { changeOfAll, makeDeployment, makeModels, namespacesFor, newerFile, newFile } from './placement-objects.ts';
import { describeWrites, quiet } from './placement-run.ts';
import { isReady, openWatches } from './placement-watch.ts';
import { OPERATOR_USER, type PlacementWorld, startWorld, until } from './placement-world.ts';
import { DEPLOYMENT_CONTROLLER, openDeployments, recordTemplates, type Templates } from './rollout-peer.ts';
import { watchServing } from './rollout-watch.ts';

/** Ways to make everything roll. */
export const rolloutParts = ['settings', 'model', 'waves'] as const;
export type RolloutPart = (typeof rolloutParts)[number];

/** Pods of each deployment. */
export const REPLICAS = 3;
/** How many users write at the same time. */
const USERS = 16;
/** Waves of the part of that name. */
const WAVES = 4;
const TIMEOUT_MS = 1_200_000;

export interface RolloutOptions {
  readonly deployments: number;
  readonly nodes: number;
  readonly parts: readonly RolloutPart[];
  /** The operator's bundle. */
  readonly operatorFile: string;
  readonly profile?: string | undefined;
  readonly progress: Progress;
}

/** All deployments moved once. */
export interface Roll {
  /** From the first request of a user until all serve with the new revision, and nothing else. */
  readonly seconds: number;
  /** Of the one who moves them. */
  readonly writes: readonly Write[];
  /** Of the operator; nothing of the peer, which has none. */
  readonly operatorCpu: number;
  /** Of all controllers: the operator and the controller manager. */
  readonly controllersCpu: number;
  /** Deployments that served with fewer pods at some time. */
  readonly below: number;
}

export interface RolloutSide {
  readonly rolls: ReadonlyMap<RolloutPart, Roll>;
}

export interface RolloutOurs extends RolloutSide {
  readonly rss: number;
  readonly peakRss: number;
  /** Memory that is its own, at the end. */
  readonly anonymous: number;
}

interface Recorded {
  readonly before: Templates;
  readonly after: ReadonlyMap<RolloutPart, Templates>;
}

/** Both sides, one after the other. */
export async function runRollout(options: RolloutOptions): Promise<{ ours: RolloutOurs; peer: RolloutSide }> {
  const { ours, recorded } = await runOurs(options);
  for (const [part, { writes }] of ours.rolls)
    options.progress.note(`${part}: ${describeWrites(writes, options.deployments * REPLICAS)} for a pod`);
  return { ours, peer: await runPeer(options, recorded) };
}

async function runOurs(options: RolloutOptions): Promise<{ ours: RolloutOurs; recorded: Recorded }> {
  const { deployments, progress } = options;
  const namespaces = namespacesFor(deployments);
  await using world = await startWorld({ nodes: options.nodes, namespaces, progress });
  const { admin } = world;
  const { kubeconfig } = await world.addUser(OPERATOR_USER);
  const log = path.join(world.folder, 'operator.log');
  const { operatorFile: file, profile } = options;
  const operator = await startOperator({
    file,
    profile,
    kubeconfig,
    env: world.operatorEnv,
    flags: world.heapFlags,
    log,
  });
  await using stopping = { [Symbol.asyncDispose]: () => operator.stop() };
  await using agents = await startAgents((await world.addUser('bench-agents')).client);
  await using watched = await openWatches(admin);
  void [stopping, agents];

  const step = progress.step(`${deployments} deployments, operator`);
  step.update('models on every node');
  await waitUntilLeading(operator, log);
  const models = makeModels(namespaces);
  await inLanes(models, USERS, async (model) => void (await admin.create(SLMModel, model)));
  await until(() => watched.models.list().filter(isReady).length === models.length, 'the models to be on every node');
  const specs = Array.from({ length: deployments }, (_, index) => makeRolling(index));
  await inLanes(specs, USERS, async (spec) => void (await admin.create(SLMDeployment, spec)));
  const ready = () => watched.deployments.list().filter(isReady).length;
  await waitFor('the deployments to serve', step, ready, deployments);
  await quiet(world, OPERATOR_USER);

  const before = await recordTemplates(admin);
  const after = new Map<RolloutPart, Templates>();
  const rolls = new Map<RolloutPart, Roll>();
  const changes: Record<RolloutPart, () => Promise<void>> = {
    settings: () => changeSettings(admin, specs),
    model: () => changeModels(admin, models, newFile),
    waves: () => changeModels(admin, models, newerFile),
  };
  for (const part of options.parts) {
    if (part === 'waves') await orderWaves(admin, namespaces);
    const revisions = new Map(
      watched.deployments.list().map((object) => [idOf(object), object.status?.updateRevision]),
    );
    const isMoved = (object: ReturnType<typeof watched.deployments.list>[number]) =>
      isReady(object) && object.status?.updateRevision !== revisions.get(idOf(object));
    rolls.set(
      part,
      await roll(world, {
        user: OPERATOR_USER,
        sets: watched.replicaSets,
        work: changes[part],
        wait: () =>
          waitFor(
            `${part}: the deployments to have moved`,
            step,
            () => watched.deployments.list().filter(isMoved).length,
            deployments,
          ),
        operatorCpu: async () => (await operator.usage()).cpuSeconds,
      }),
    );
    after.set(part, await recordTemplates(admin));
  }
  const { rss, peakRss, anonymous } = await operator.usage();
  step.done(`moved ${rolls.size} times`);
  return { ours: { rolls, rss, peakRss, anonymous }, recorded: { before, after } };
}

async function runPeer(options: RolloutOptions, { before, after }: Recorded): Promise<RolloutSide> {
  const { deployments, progress } = options;
  await using world = await startWorld({ nodes: options.nodes, namespaces: namespacesFor(deployments), progress });
  await using watched = await openWatches(world.admin);
  await using peers = await openDeployments(world.admin);
  const step = progress.step(`${deployments} Deployments, controller manager`);
  const rolled = () => peers.rolled();
  await peers.write(before, REPLICAS, USERS);
  await waitFor('the Deployments to serve', step, rolled, deployments);
  await quiet(world, DEPLOYMENT_CONTROLLER);
  const rolls = new Map<RolloutPart, Roll>();
  for (const [part, templates] of after) {
    rolls.set(
      part,
      await roll(world, {
        user: DEPLOYMENT_CONTROLLER,
        sets: watched.replicaSets,
        work: () => peers.write(templates, REPLICAS, USERS),
        wait: () => waitFor(`${part}: the Deployments to have moved`, step, rolled, deployments),
        operatorCpu: () => Promise.resolve(0),
      }),
    );
  }
  step.done(`moved ${rolls.size} times`);
  return { rolls };
}

async function roll(
  world: PlacementWorld,
  options: {
    readonly user: string;
    readonly sets: Parameters<typeof watchServing>[0];
    readonly work: () => Promise<void>;
    readonly wait: () => Promise<void>;
    readonly operatorCpu: () => Promise<number>;
  },
): Promise<Roll> {
  const { user, operatorCpu } = options;
  const serving = watchServing(options.sets);
  const before = await Promise.all([operatorCpu(), managerCpu(world)]);
  const started = performance.now();
  await options.work();
  await options.wait();
  const seconds = (performance.now() - started) / 1000;
  serving.stop();
  const writes = (await quiet(world, user)).filter((write) => write.user === user);
  const [operator, manager] = await Promise.all([operatorCpu(), managerCpu(world)]);
  const ownCpu = operator - before[0];
  return {
    seconds,
    writes,
    operatorCpu: ownCpu,
    controllersCpu: ownCpu + manager - before[1],
    below: serving.below(REPLICAS),
  };
}

async function managerCpu({ folder }: PlacementWorld): Promise<number> {
  const [manager] = findProcesses(folder, 'kube-controller-manager');
  if (manager === undefined) throw new Error(`the controller manager ended: see ${folder}`);
  return (await usageOf(manager.pid)).cpuSeconds;
}

function waitFor(what: string, step: Step, count: () => number, all: number): Promise<void> {
  return until(
    () => {
      const now = count();
      step.update(`${what}: ${now} of ${all}`);
      return now >= all;
    },
    what,
    TIMEOUT_MS,
  );
}

/** Without a wish for devices: of those there are too few for one more pod of each, and a plain Deployment would wait for ever. */
function makeRolling(index: number) {
  const { hardware: _, ...spec } = makeDeployment(index).spec;
  return { ...makeDeployment(index), spec: { ...spec, replicas: REPLICAS, hardware: { preferred: 'cpu' } } };
}

async function changeSettings(client: KubeClient, specs: readonly ReturnType<typeof makeRolling>[]): Promise<void> {
  await inLanes(specs, USERS, async ({ metadata: { name, namespace = '' } }) => {
    await client.patch(SLMDeployment, { name, namespace }, 'merge', changeOfAll);
  });
}

/** The bytes of every model change; who serves them is not told. */
async function changeModels(client: KubeClient, models: ReturnType<typeof makeModels>, uri: string): Promise<void> {
  await inLanes(models, USERS, async ({ metadata: { name, namespace = '' } }) => {
    await client.patch(SLMModel, { name, namespace }, 'merge', { spec: { source: { uri } } });
  });
}

/** From now on a quarter of the namespaces after the other. */
async function orderWaves(client: KubeClient, namespaces: readonly string[]): Promise<void> {
  const size = Math.ceil(namespaces.length / WAVES);
  const waves = Array.from({ length: WAVES }, (_, wave) => namespaces.slice(wave * size, (wave + 1) * size))
    .filter((values) => values.length > 0)
    .map((values, wave) => {
      const expression = { key: 'kubernetes.io/metadata.name', operator: 'In' as const, values };
      return { name: `wave-${wave + 1}`, namespaceSelector: { matchExpressions: [expression] } };
    });
  const apiVersion = 'slm.dev/v1alpha1';
  await client.create(SLMRollout, { apiVersion, kind: 'SLMRollout', metadata: { name: 'fleet' }, spec: { waves } });
  await until(async () => isReady(await client.get(SLMRollout, { name: 'fleet' })), 'the SLMRollout to be Ready');
}

function idOf({ metadata }: { readonly metadata: { readonly name?: string; readonly namespace?: string } }): string {
  return `${metadata.namespace}/${metadata.name}`;
}
