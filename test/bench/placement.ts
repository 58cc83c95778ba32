/**
 * The benchmark `placement`: many deployments on many nodes of mixed hardware, and how near the operator comes to a client that knows
 * beforehand which objects there will be and only writes them. Owns the rows; a run is `placement-run.ts`.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { isLeaseWrite } from './audit-log.ts';
import type { Bench } from './main.ts';
import { bundleOperator } from './operator-process.ts';
import { watchOthers } from './other-load.ts';
import { percentile } from './placement-load.ts';
import {
  type OurSide,
  objectWrites,
  type Part,
  placementParts,
  runOnce,
  type Side,
  type Wave,
} from './placement-run.ts';
import type { Goal, Samples } from './report.ts';

export { placementParts } from './placement-run.ts';

const DEFAULT_DEPLOYMENTS = [1000, 200];
const DEFAULT_NODES = 200;

interface Run {
  readonly ours: OurSide;
  readonly peer: Side;
}

export const placement: Bench = async (options) => {
  const { progress } = options;
  const folder = await mkdtemp(path.join(tmpdir(), 'slm-placement-operator-'));
  const others = await watchOthers();
  try {
    const operatorFile = options.operator ?? (await bundleOperator(folder));
    const parts = new Set<Part>(['create', ...((options.only as readonly Part[] | undefined) ?? placementParts)]);
    const sizes = options.deployments ?? DEFAULT_DEPLOYMENTS;
    const nodes = options.nodes ?? DEFAULT_NODES;
    const runs = new Map<number, Run[]>(sizes.map((size) => [size, []]));
    for (let run = 0; run < options.runs; run++) {
      for (const [deployments, done] of runs) {
        progress.note(`run ${run + 1} of ${options.runs}, ${deployments} deployments`);
        const one = await runOnce({
          deployments,
          nodes,
          idleSeconds: options.idleSeconds,
          parts,
          operatorFile,
          profile: options.profile,
          progress,
        });
        done.push(one);
      }
    }
    const busy = await others();
    const lanes = runs.get(sizes[0] ?? 0)?.[0]?.ours.lanes;
    options.describe?.(
      `${nodes} fake nodes, the operator as a process, ${lanes} connections that write children on both sides; other programs took ${Math.round(busy * 100)} % of the processors`,
    );
    return [...runs].flatMap(([size, done]) => rows(size, done, options.idleSeconds));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

function rows(size: number, runs: readonly Run[], idleSeconds: number): Samples[] {
  const all: Samples[] = [...waveRows(`${size}`, runs, size, ({ create }) => create)];
  const add = (name: string, unit: string, of: (run: Run) => number | undefined, more: Partial<Samples> = {}) => {
    const ours = runs.flatMap((run) => of(run) ?? []);
    if (ours.length > 0) all.push({ name: `${size}: ${name}`, unit, ours, ...more });
  };
  const latency = (share: number): Partial<Samples> & { ours: number[] } => ({
    ours: runs.map(({ ours }) => percentile(ours.latencies, share) * 1000),
    peer: runs.map(({ peer }) => percentile(peer.latencies, share) * 1000),
  });
  if (runs.some(({ ours }) => ours.latencies.length > 0))
    for (const share of [0.5, 0.99])
      all.push({ name: `${size}: create to ReplicaSet, idle, p${share * 100}`, unit: 'ms', ...latency(share) });
  const perMinute = 60 / Math.max(1, idleSeconds);
  add(
    'writes of an idle minute, no leases',
    'writes',
    ({ ours }) => ours.idle && ours.idle.writes.filter((write) => !isLeaseWrite(write)).length * perMinute,
    { goal: { max: 0 } },
  );
  add('CPU of an idle minute', 's', ({ ours }) => ours.idle && ours.idle.cpuSeconds * perMinute);
  all.push(...waveRows(`${size}, change of all`, runs, size, ({ change }) => change));
  add('restart: looked at all after', 's', ({ ours }) => ours.restart?.seconds);
  add('restart: CPU', 's', ({ ours }) => ours.restart?.cpuSeconds);
  add(
    'restart: writes, no leases',
    'writes',
    ({ ours }) => ours.restart?.writes.filter((write) => !isLeaseWrite(write)).length,
    { goal: { max: 0 } },
  );
  const megabytes = (bytes: number | undefined) => bytes && bytes / 1e6;
  add('memory of the operator afterwards', 'MB', ({ ours }) => megabytes(ours.rss), { goal: { max: 150 } });
  add('of it in pages of its own', 'MB', ({ ours }) => megabytes(ours.anonymous));
  add('memory at most', 'MB', ({ ours }) => megabytes(ours.peakRss), { goal: { max: 150 } });
  add('memory of a restarted one', 'MB', ({ ours }) => megabytes(ours.restartedRss), { goal: { max: 150 } });
  return all;
}

function waveRows(title: string, runs: readonly Run[], size: number, of: (side: Side) => Wave | undefined): Samples[] {
  const waves = runs.flatMap(({ ours, peer }) => {
    const [mine, theirs] = [of(ours), of(peer)];
    return mine === undefined || theirs === undefined ? [] : [{ mine, theirs }];
  });
  if (waves.length === 0) return [];
  const both = (name: string, unit: string, value: (wave: Wave) => number, goal?: Goal): Samples => ({
    name: `${title}: ${name}`,
    unit,
    ours: waves.map(({ mine }) => value(mine)),
    peer: waves.map(({ theirs }) => value(theirs)),
    ...(goal && { goal }),
  });
  const goal: Goal = { maxRatio: 1.5 };
  const own = (name: string, value: (wave: Wave) => number, more: Partial<Samples> = {}): Samples => ({
    name: `${title}: ${name}`,
    unit: 'writes',
    ours: waves.map(({ mine }) => value(mine)),
    ...more,
  });
  const withEvents = (wave: Wave) => wave.writes.filter((write) => !isLeaseWrite(write)).length / size;
  return [
    both('time to all children', 's', ({ toChildren }) => toChildren, goal),
    both('time to all Ready', 's', ({ toReady }) => toReady, goal),
    both('writes a deployment, to the objects', 'writes', ({ writes }) => objectWrites(writes).length / size, goal),
    own('with events', withEvents, { peer: waves.map(({ theirs }) => objectWrites(theirs.writes).length / size) }),
    {
      name: `${title}: CPU of the operator`,
      unit: 's',
      ours: waves.flatMap(({ mine }) => mine.cpuSeconds ?? []),
    },
  ];
}
