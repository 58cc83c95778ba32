/**
 * Owns the life of one node: its files, its first process with its namespaces, its cable, and commands run inside.
 * Knows nothing of the Kubernetes API; whether a node is Ready is for others to ask.
 */
import { readFileSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type CommandResult, tryCommand } from '../command.ts';
import {
  endAllProcesses,
  endedReason,
  findProcesses,
  isAlive,
  type MarkedProcess,
  startDaemon,
  waitUntil,
} from '../daemons.ts';
import { UserError } from '../errors.ts';
import { makeControlGroup, removeControlGroup } from './cgroups.ts';
import type { Changes } from './changes.ts';
import type { Instance, NodePlace } from './instance.ts';
import { plugNode, removeCable, unplugNode } from './network.ts';

/** A service that a node supervises. */
export type NodeService = 'kubelet' | 'containerd' | 'kube-proxy';

/** All of them. */
export const NODE_SERVICES: readonly NodeService[] = ['kubelet', 'containerd', 'kube-proxy'];

/** Each takes a tenth of a second on an idle machine; beyond this it is broken and not slow. */
const START_TIMEOUT_MS = 60_000;

/** One node. */
export interface NodeMachine {
  readonly place: NodePlace;
  /** The machine's pid of the node's first process; undefined while the node is off. */
  pid(): number | undefined;
  /** Writes configuration files (name → text). */
  configure(files: Readonly<Record<string, string>>): Promise<void>;
  /** Switches it on. Resolves when containerd answers. Does nothing while it is on. */
  powerOn(tools: string, changes: Changes): Promise<void>;
  /** Takes the power away: everything inside ends at once and says goodbye to nobody. */
  powerOff(): Promise<void>;
  /** Stops a service and keeps it stopped. Containers go on. */
  hold(service: NodeService): Promise<void>;
  /** Lets a held service run again. */
  release(service: NodeService): Promise<void>;
  /** Runs a command inside all namespaces of the node. */
  exec(command: readonly string[], input?: string): Promise<CommandResult>;
  /** Path of containerd's socket as the machine sees it. */
  containerdSocket(): string;
  /** Path of the node's root folder as the machine sees it, while the node is on. */
  rootFolder(): string;
}

/** The node at that place, on or off. */
export function openNode(instance: Instance, place: NodePlace): NodeMachine {
  const { folder: owner } = instance;
  const mark = `node ${place.name}`;
  const log = path.join(owner, 'log', `${place.name}.log`);
  /** Holds the pid of the first process whose cable is laid. */
  const plugged = path.join(place.folder, 'plugged');
  let known: MarkedProcess | undefined;

  const pid = () => {
    if (!known || !isAlive(known)) known = findProcesses(owner, mark).find((process) => isFirstProcess(process.pid));
    return known?.pid;
  };
  const running = () => {
    const first = pid();
    if (first === undefined)
      throw new UserError(`Node ${place.name} is off: start it with "npm run cluster -- node start ${place.name}".`);
    return first;
  };
  const inside = (file: string) => path.join('/proc', String(running()), 'root', file);
  const exec = (command: readonly string[], input?: string) =>
    tryCommand(
      ['nsenter', '--target', String(running()), '--mount', '--pid', '--net', '--uts', '--ipc', '--', ...command],
      input === undefined ? {} : { input },
    );

  const powerOff = async () => {
    await unplugNode(place);
    await endAllProcesses(owner, mark);
    known = undefined;
    await removeCable(place);
  };

  return {
    place,
    pid,
    exec,
    containerdSocket: () => inside('/run/containerd/containerd.sock'),
    rootFolder: () => inside('/'),
    async configure(files) {
      for (const [name, text] of Object.entries(files)) {
        await mkdir(path.dirname(path.join(place.folder, name)), { recursive: true });
        await writeFile(path.join(place.folder, name), text, { mode: 0o600 });
      }
    },
    async powerOn(tools, changes) {
      // Without its cable it is what a killed command left, and has given up waiting for it.
      const isWhole = pid() !== undefined && (await readFile(plugged, 'utf8').catch(() => '')) === String(pid());
      if (!isWhole) {
        await powerOff();
        // What a power failure left: old control groups cost the kubelet three seconds each at its start.
        await removeControlGroup(`${instance.cgroup}/${place.name}`);
        changes.record({ kind: 'cgroup', name: instance.cgroup });
        await makeControlGroup(instance.cgroup, place.name);
        const namespaces = ['--net', '--mount', '--pid', '--uts', '--ipc', '--mount-proc', '--propagation', 'private'];
        const script = path.join(import.meta.dirname, 'node-init.sh');
        const init = ['bash', script, place.name, place.folder, place.address, instance.serviceRange, tools];
        startDaemon({
          owner,
          name: mark,
          command: ['unshare', ...namespaces, '--fork', '--kill-child=KILL', ...init],
          log,
        });
        await waitUntil(() => pid() !== undefined, {
          what: `the first process of node ${place.name}`,
          timeoutMs: START_TIMEOUT_MS,
          failed: () => endedReason(owner, mark, log),
        });
        await plugNode(instance, place, running(), changes);
        await writeFile(plugged, String(running()));
      }
      await waitUntil(async () => (await exec(['test', '-S', '/run/containerd/containerd.sock'])).code === 0, {
        what: `containerd of node ${place.name} (see ${path.join(place.folder, 'log/containerd.log')})`,
        timeoutMs: START_TIMEOUT_MS,
        failed: () => endedReason(owner, mark, log),
      });
    },
    powerOff,
    async hold(service) {
      await writeFile(inside(`/run/slm/${service}.hold`), '');
      const servicePid = (await readFile(inside(`/run/slm/${service}.pid`), 'utf8')).trim();
      await exec(['kill', servicePid]);
      await waitUntil(async () => (await exec(['kill', '-0', servicePid])).code !== 0, {
        what: `${service} of node ${place.name} to stop`,
        timeoutMs: 20_000,
      });
    },
    release: (service) => rm(inside(`/run/slm/${service}.hold`), { force: true }),
  };
}

/** Whether /proc/PID/status is of the first process of a pid namespace inside of ours. Exported for its test. */
export function isFirstOfNamespace(status: string): boolean {
  const pids = /^NSpid:\s+(.*)$/m.exec(status)?.[1]?.split(/\s+/) ?? [];
  return pids.length > 1 && pids.at(-1) === '1';
}

function isFirstProcess(pid: number): boolean {
  try {
    return isFirstOfNamespace(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
