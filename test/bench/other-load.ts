/** How busy everything else on this machine was while a benchmark ran, so that its report can say what its figures are worth. */
import { readdir, readFile } from 'node:fs/promises';

/**
 * Begins to watch.
 * @returns asks for the share of the machine's processor time, 0 to 1, that other programs took since; what this process and all its
 * descendants took is left out
 */
export async function watchOthers(): Promise<() => Promise<number>> {
  const before = await read();
  return async () => shareOfOthers(before, await read());
}

/** Processor time so far, in ticks. */
export interface Ticks {
  readonly all: number;
  readonly busy: number;
  /** Of this process and its descendants. */
  readonly own: number;
}

export function shareOfOthers(before: Ticks, after: Ticks): number {
  const others = after.busy - before.busy - (after.own - before.own);
  return Math.max(0, others / Math.max(1, after.all - before.all));
}

async function read(): Promise<Ticks> {
  return { ...(await machineTicks()), own: await ownTicks(process.pid) };
}

/** Time of all processors; stolen time counts as busy, because somebody else had it. */
async function machineTicks(): Promise<{ busy: number; all: number }> {
  const [line = ''] = (await readFile('/proc/stat', 'utf8')).split('\n');
  const [user = 0, nice = 0, system = 0, idle = 0, waiting = 0, interrupts = 0, soft = 0, stolen = 0] = line
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number);
  const busy = user + nice + system + interrupts + soft + stolen;
  return { busy, all: busy + idle + waiting };
}

/** Time of a process, of its ended children that were waited for, and of its living ones. */
async function ownTicks(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The second field is the program's name in brackets, and may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  const children = await Promise.all((await childrenOf(pid)).map(ownTicks));
  return ticks + children.reduce((sum, one) => sum + one, 0);
}

/** Process ids; none of a process that has ended. */
export async function childrenOf(pid: number): Promise<number[]> {
  const tasks = await readdir(`/proc/${pid}/task`).catch((): string[] => []);
  const lists = await Promise.all(
    tasks.map((task) => readFile(`/proc/${pid}/task/${task}/children`, 'utf8').catch(() => '')),
  );
  return lists.flatMap((list) => list.split(' ').filter(Boolean).map(Number));
}
