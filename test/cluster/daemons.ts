/**
 * Owns the processes that outlive the command that started them. Each carries a mark in its environment, which the
 * kernel keeps readable in /proc: so they are found without pid files, a recycled pid is never taken for one of ours, and
 * a command killed between "start" and "write down" leaves nothing unknown. Never touches a process without our mark.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { lastLines, UserError } from './errors.ts';

/** Environment variable with the mark: `<state folder>#<name>`. */
export const MARK = 'SLM_CLUSTER_PROCESS';

/** A running process that carries our mark. */
export interface MarkedProcess {
  readonly pid: number;
  /** The name it was started under. */
  readonly name: string;
  /** Clock ticks from boot to its start: with the pid, its identity. */
  readonly startTime: string;
}

/** The fields of /proc/PID/stat that are used here. */
export function parseStat(stat: string): { state: string; startTime: string } {
  // The second field is the program's name in parentheses and may itself hold spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0] ?? '', startTime: fields[19] ?? '' };
}

/** The name in the mark of an environment block, if it is one of `owner`. */
export function parseMark(environment: string, owner: string): string | undefined {
  const prefix = `${MARK}=${owner}#`;
  const entry = environment.split('\0').find((variable) => variable.startsWith(prefix));
  return entry?.slice(prefix.length);
}

/** All running processes of `owner` (a state folder), or only those of one name. Zombies count as gone. */
export function findProcesses(owner: string, name?: string): MarkedProcess[] {
  const found: MarkedProcess[] = [];
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    try {
      const marked = parseMark(readFileSync(`/proc/${pid}/environ`, 'latin1'), owner);
      if (marked === undefined || (name !== undefined && marked !== name)) continue;
      const { state, startTime } = parseStat(readFileSync(`/proc/${pid}/stat`, 'latin1'));
      if (state !== 'Z' && state !== 'X') found.push({ pid, name: marked, startTime });
    } catch {
      // It ended while it was looked at, or belongs to another user: not ours either way.
    }
  }
  return found;
}

/** Whether the very process is still there. */
export function isAlive(process: MarkedProcess): boolean {
  try {
    const { state, startTime } = parseStat(readFileSync(`/proc/${process.pid}/stat`, 'latin1'));
    return startTime === process.startTime && state !== 'Z' && state !== 'X';
  } catch {
    return false;
  }
}

/** Starts a process that outlives this one, in a session of its own, its output appended to `log`. */
export function startDaemon(options: {
  readonly owner: string;
  readonly name: string;
  readonly command: readonly string[];
  readonly log: string;
  readonly env?: NodeJS.ProcessEnv;
}): number {
  const [program, ...args] = options.command;
  const output = openSync(options.log, 'a');
  try {
    const child = spawn(program ?? '', args, {
      detached: true,
      stdio: ['ignore', output, output],
      env: { ...(options.env ?? process.env), [MARK]: `${options.owner}#${options.name}` },
    });
    child.on('error', () => undefined);
    child.unref();
    if (child.pid === undefined) throw new Error(`${program} could not be started`);
    return child.pid;
  } finally {
    closeSync(output);
  }
}

/** Sends a signal to every process of that name. Returns how many there were. */
export function signalProcesses(owner: string, name: string, signal: NodeJS.Signals): number {
  const processes = findProcesses(owner, name);
  for (const process of processes) send(process, signal);
  return processes.length;
}

/**
 * Ends processes and waits until they are gone; one that does not go in time is killed.
 * @param graceMs how long a signal other than SIGKILL may take
 */
export async function endProcesses(
  processes: readonly MarkedProcess[],
  signal: NodeJS.Signals,
  graceMs = 5000,
): Promise<void> {
  for (const process of processes) send(process, signal);
  if (await allGone(processes, graceMs)) return;
  for (const process of processes) send(process, 'SIGKILL');
  if (!(await allGone(processes, 10_000)))
    throw new Error(`processes ${processes.filter(isAlive).map(describe).join(', ')} do not go away after SIGKILL`);
}

/**
 * Kills every process of an owner, or those of one name, and those that they were just about to start. Looks again until
 * nothing is left twice in a row: a process that forks while /proc is read is missed the first time.
 */
export async function endAllProcesses(owner: string, name?: string): Promise<void> {
  for (let clean = 0; clean < 2; ) {
    const processes = findProcesses(owner, name);
    await endProcesses(processes, 'SIGKILL');
    clean = processes.length === 0 ? clean + 1 : 0;
    if (clean === 1) await sleep(20);
  }
}

/**
 * Waits until `ready` says true, looking every 50 ms.
 * @throws UserError with the end of the log when the daemon ends first, or with `what` when the time is over
 */
export async function waitUntil(
  ready: () => Promise<boolean> | boolean,
  options: {
    /** What is awaited, to end the sentence "gave up waiting for …". */
    readonly what: string;
    readonly timeoutMs: number;
    /** Gives the reason why waiting is in vain, once there is one. */
    readonly failed?: () => string | undefined;
  },
): Promise<void> {
  const end = performance.now() + options.timeoutMs;
  let failedBefore = false;
  while (!(await ready())) {
    // Twice in a row: in the middle of an exec a process has no environment for a moment, and so no mark.
    const reason = options.failed?.();
    if (reason && failedBefore) throw new UserError(reason);
    failedBefore = reason !== undefined;
    if (performance.now() > end)
      throw new UserError(`gave up waiting for ${options.what} after ${options.timeoutMs / 1000} s`);
    await sleep(50);
  }
}

/** For `waitUntil`: says that a daemon has ended, with the end of its log. */
export function endedReason(owner: string, name: string, log: string): string | undefined {
  if (findProcesses(owner, name).length > 0) return undefined;
  let text = '';
  try {
    text = lastLines(readFileSync(log, 'utf8'), 5);
  } catch {
    // No log: the sentence alone has to do.
  }
  return `${name} has ended; the end of ${log} says:\n${text}`;
}

function send(target: MarkedProcess, signal: NodeJS.Signals): void {
  if (!isAlive(target)) return;
  try {
    process.kill(target.pid, signal);
  } catch {
    // Gone in this very moment.
  }
}

async function allGone(processes: readonly MarkedProcess[], withinMs: number): Promise<boolean> {
  const end = performance.now() + withinMs;
  while (processes.some(isAlive)) {
    if (performance.now() > end) return false;
    await sleep(20);
  }
  return true;
}

function describe({ name, pid }: MarkedProcess): string {
  return `${name} (${pid})`;
}
