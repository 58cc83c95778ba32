/**
 * The benchmark `rollout`: many deployments move to a new revision, by the operator and as Kubernetes' own Deployments with the same
 * pods. Owns the rows; a run is `rollout-run.ts`.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { isEventWrite, isLeaseWrite } from './audit-log.ts';
import type { Bench } from './main.ts';
import { bundleOperator } from './operator-process.ts';
import { watchOthers } from './other-load.ts';
import { objectWrites } from './placement-run.ts';
import type { Samples } from './report.ts';
import { REPLICAS, type Roll, type RolloutPart, rolloutParts, runRollout } from './rollout-run.ts';

export { rolloutParts } from './rollout-run.ts';

const DEFAULT_DEPLOYMENTS = 1000;
const DEFAULT_NODES = 200;

type Run = Awaited<ReturnType<typeof runRollout>>;

const titles: Record<RolloutPart, string> = {
  settings: 'a setting of each',
  model: 'new bytes of their models',
  waves: 'new bytes, in four waves',
};

export const rollout: Bench = async (options) => {
  const { progress } = options;
  const folder = await mkdtemp(path.join(tmpdir(), 'slm-rollout-operator-'));
  const others = await watchOthers();
  try {
    const operatorFile = options.operator ?? (await bundleOperator(folder));
    const parts = rolloutParts.filter((part) => options.only?.includes(part) ?? true);
    const sizes = options.deployments ?? [DEFAULT_DEPLOYMENTS];
    const nodes = options.nodes ?? DEFAULT_NODES;
    const runs = new Map<number, Run[]>(sizes.map((size) => [size, []]));
    for (let run = 0; run < options.runs; run++) {
      for (const [deployments, done] of runs) {
        progress.note(`run ${run + 1} of ${options.runs}, ${deployments} deployments of ${REPLICAS} pods`);
        done.push(await runRollout({ deployments, nodes, parts, operatorFile, profile: options.profile, progress }));
      }
    }
    const busy = await others();
    options.describe?.(
      `${nodes} fake nodes, ${REPLICAS} pods a deployment, the operator as a process; other programs took ${Math.round(busy * 100)} % of the processors`,
    );
    return [...runs].flatMap(([size, done]) => rows(size, done, parts));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

function rows(size: number, runs: readonly Run[], parts: readonly RolloutPart[]): Samples[] {
  const pods = size * REPLICAS;
  const megabytes = (bytes: number) => bytes / 1e6;
  return [
    ...parts.flatMap((part) => partRows(`${size}, ${titles[part]}`, runs, part, pods)),
    {
      name: `${size}: memory of the operator afterwards`,
      unit: 'MB',
      ours: runs.map(({ ours }) => megabytes(ours.rss)),
      goal: { max: 150 },
    },
    {
      name: `${size}: of it its own, without files of the program`,
      unit: 'MB',
      ours: runs.map(({ ours }) => megabytes(ours.anonymous)),
    },
    {
      name: `${size}: memory at most`,
      unit: 'MB',
      ours: runs.map(({ ours }) => megabytes(ours.peakRss)),
      goal: { max: 150 },
    },
  ];
}

function partRows(title: string, runs: readonly Run[], part: RolloutPart, pods: number): Samples[] {
  const both = (name: string, unit: string, of: (roll: Roll) => number, more: Partial<Samples> = {}): Samples => ({
    name: `${title}: ${name}`,
    unit,
    ours: runs.flatMap(({ ours }) => valueOf(ours.rolls.get(part), of)),
    peer: runs.flatMap(({ peer }) => valueOf(peer.rolls.get(part), of)),
    ...more,
  });
  return [
    // Of the peer nobody asks a source, and no node pulls anything.
    both('until all have moved', 's', ({ seconds }) => seconds, part === 'settings' ? { goal: { maxRatio: 1.5 } } : {}),
    both('writes a pod moved, to the objects', 'writes', ({ writes }) => objectWrites(writes).length / pods),
    both('with events', 'writes', ({ writes }) => writes.filter((write) => !isLeaseWrite(write)).length / pods),
    both('of these status', 'writes', ({ writes }) => writes.filter(isStatusWrite).length / pods),
    both('deployments with fewer pods than asked for', 'deployments', ({ below }) => below, { goal: { max: 0 } }),
    {
      name: `${title}: CPU of the operator`,
      unit: 's',
      ours: runs.flatMap(({ ours }) => valueOf(ours.rolls.get(part), ({ operatorCpu }) => operatorCpu)),
    },
    both('CPU of all controllers', 's', ({ controllersCpu }) => controllersCpu),
  ];
}

function valueOf(roll: Roll | undefined, of: (roll: Roll) => number): number[] {
  return roll === undefined ? [] : [of(roll)];
}

function isStatusWrite(write: Roll['writes'][number]): boolean {
  return write.resource.endsWith('/status') && !isEventWrite(write);
}
