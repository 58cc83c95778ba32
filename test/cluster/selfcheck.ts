/**
 * Owns the proof that `down` leaves nothing behind: a second cluster is brought up and killed (SIGKILL) at several moments, taken
 * down, and the machine is compared with what it was. Other clusters on the machine are left out of the comparison.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { type Instance, openInstance, placeNode } from './bare/instance.ts';
import { tryCommand } from './command.ts';
import { findProcesses, waitUntil } from './daemons.ts';
import type { Progress } from './progress.ts';

/** What a machine looks like, by aspect; each line is one thing. */
export type Snapshot = Readonly<Record<string, readonly string[]>>;

/** Lines that are in one snapshot and not in the other, as `aspect: + line` or `aspect: - line`. */
export function compareSnapshots(before: Snapshot, after: Snapshot): string[] {
  return Object.keys({ ...before, ...after }).flatMap((aspect) => {
    const [old, now] = [before[aspect] ?? [], after[aspect] ?? []];
    return [
      ...now.filter((line) => !old.includes(line)).map((line) => `${aspect}: + ${line}`),
      ...old.filter((line) => !now.includes(line)).map((line) => `${aspect}: - ${line}`),
    ];
  });
}

interface Moment {
  readonly name: string;
  readonly reached: () => boolean;
}

const UP = ['up', '--provider', 'bare', '--nodes', '2'];

/** The moments at which `up` is killed: what exists by then says that the moment has come. */
function moments(instance: Instance): Moment[] {
  const link = (name: string) => existsSync(`/sys/class/net/${name}`);
  const marked = (name: string) => findProcesses(instance.folder, name).length > 0;
  return [
    { name: 'the bridge exists', reached: () => link(instance.bridge) },
    { name: 'a node has its first process', reached: () => marked('node n1') },
    { name: 'a node has its cable', reached: () => link(placeNode(instance, 1).link) },
    { name: 'the controller manager runs', reached: () => marked('kube-controller-manager') },
  ];
}

/**
 * Runs the check with a cluster of the name `selfcheck`, about a minute.
 * @returns what was left behind, as sentences; nothing when all is well
 */
export async function selfcheck(progress: Progress): Promise<string[]> {
  const env = { ...process.env, SLM_CLUSTER: 'selfcheck' };
  const main = path.join(import.meta.dirname, 'main.ts');
  const command = (...args: string[]) => tryCommand([process.execPath, main, ...args], { env });
  await command('down', '--purge');
  const instance = openInstance('selfcheck');
  const before = await takeSnapshot(instance);
  const found: string[] = [];
  const compare = async (when: string) => {
    const differences = compareSnapshots(before, await takeSnapshot(instance));
    found.push(...differences.map((difference) => `after "up" ${when} and "down": ${difference}`));
    progress.note(`up ${when}, down: ${differences.length === 0 ? 'nothing left behind' : differences.join('; ')}`);
  };

  const killUp = async ({ name, reached }: Moment) => {
    const up = spawn(process.execPath, [main, ...UP], { env, stdio: 'ignore' });
    const ended = new Promise((resolve) => up.on('exit', resolve));
    await waitUntil(reached, { what: name, timeoutMs: 120_000 });
    up.kill('SIGKILL');
    await ended;
  };
  const all = moments(instance);
  for (const moment of all) {
    await killUp(moment);
    await command('down');
    await compare(`killed when ${moment.name}`);
  }
  for (const moment of all.slice(0, 2)) await killUp(moment);
  const completed = await command(...UP);
  if (completed.code !== 0) found.push(`"up" does not complete what was killed: ${completed.stderr}`);
  await command('down', '--purge');
  await compare('killed twice and completed');
  if (existsSync(instance.folder)) found.push(`${instance.folder} is still there after "down --purge"`);
  return found;
}

async function takeSnapshot(instance: Instance): Promise<Snapshot> {
  const output = async (...words: string[]) =>
    (await tryCommand(words)).stdout
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line && !isOfOtherCluster(line, instance));
  return {
    processes: clusterProcesses(instance),
    mounts: (await readFile('/proc/self/mounts', 'utf8')).split('\n').filter(Boolean),
    links: (await output('ip', '-oneline', 'link')).map((line) => line.split(': ')[1] ?? line),
    addresses: (await output('ip', '-oneline', 'address')).map((line) => line.replace(/\\.*/, '')),
    routes: await output('ip', 'route', 'show', 'table', 'all'),
    rules: await output('nft', '--stateless', 'list', 'ruleset'),
    'network namespaces': await output('ip', 'netns', 'list'),
    'control groups': (await controlGroups('/sys/fs/cgroup', 2)).filter((group) => !isOfOtherCluster(group, instance)),
    'kernel settings': await output('sysctl', ...SETTINGS),
  };
}

const SETTINGS = [
  'vm.overcommit_memory',
  'vm.panic_on_oom',
  'kernel.panic',
  'kernel.panic_on_oops',
  'kernel.keys.root_maxkeys',
  'kernel.keys.root_maxbytes',
  'net.ipv4.ip_forward',
];

function isOfOtherCluster(line: string, instance: Instance): boolean {
  const names = /\bslm\d+(n\d+)?\b|\bslm-operator-[a-z0-9-]+|\b10\.19[789]\.\d+\./.exec(line);
  if (!names) return false;
  const slot = Number(instance.bridge.slice(3));
  const ours = [instance.bridge, instance.cgroup, `10.197.${slot}.`];
  const ranges = Array.from({ length: 16 }, (_, index) => `.${slot * 16 + index}.`);
  return ![...ours, ...ranges.flatMap((range) => [`10.198${range}`, `10.199${range}`])].some((name) =>
    line.includes(name),
  );
}

/** Processes that carry the mark of the instance, name its folder, or live in its control groups (the containers). */
function clusterProcesses(instance: Instance): string[] {
  const text = (file: string) => {
    try {
      return readFileSync(file, 'latin1');
    } catch {
      return '';
    }
  };
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid)
    .filter(
      (pid) =>
        text(`/proc/${pid}/environ`).includes(`=${instance.folder}#`) ||
        text(`/proc/${pid}/cmdline`).includes(`${instance.folder}/`) ||
        text(`/proc/${pid}/cgroup`).includes(`/${instance.cgroup}/`),
    )
    .map((pid) => `${pid} ${text(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim().slice(0, 80)}`);
}

async function controlGroups(folder: string, depth: number): Promise<string[]> {
  if (depth === 0) return [];
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  const groups = entries.filter((entry) => entry.isDirectory()).map((entry) => path.join(folder, entry.name));
  return [...groups, ...(await Promise.all(groups.map((group) => controlGroups(group, depth - 1)))).flat()];
}
