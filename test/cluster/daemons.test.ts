import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  endAllProcesses,
  endedReason,
  endProcesses,
  findProcesses,
  isAlive,
  MARK,
  parseMark,
  parseStat,
  startDaemon,
  waitUntil,
} from './daemons.ts';

describe('parseStat', () => {
  it('finds state and start time behind a program name with spaces and parentheses', () => {
    const fields = ['S', ...Array.from({ length: 18 }, (_, index) => String(index)), '4711', '0'];
    expect(parseStat(`12 (a) b (c) ${fields.join(' ')}`)).toEqual({ state: 'S', startTime: '4711' });
  });
});

describe('parseMark', () => {
  const environment = ['PATH=/bin', `${MARK}=/state/a#node n1`, 'HOME=/'].join('\0');

  it('reads the name of its own owner only', () => {
    expect(parseMark(environment, '/state/a')).toBe('node n1');
    expect(parseMark(environment, '/state')).toBeUndefined();
    expect(parseMark(environment, '/state/b')).toBeUndefined();
    expect(parseMark('', '/state/a')).toBeUndefined();
  });
});

describe.skipIf(process.platform !== 'linux')('daemons', () => {
  let owner: string;
  const start = (name: string, ...command: string[]) =>
    startDaemon({ owner, name, command, log: path.join(owner, `${name}.log`) });

  beforeEach(() => {
    owner = mkdtempSync(path.join(tmpdir(), 'slm-daemons-'));
  });
  afterEach(async () => {
    await endAllProcesses(owner);
    rmSync(owner, { recursive: true });
  });

  it('are found by their mark, with their children, and by nobody else', async () => {
    start('family', 'sh', '-c', 'sleep 100 & wait');
    start('single', 'sleep', '100');
    await expect.poll(() => findProcesses(owner).length).toBe(3);
    expect(findProcesses(owner, 'family')).toHaveLength(2);
    expect(findProcesses(`${owner}x`)).toEqual([]);
  });

  it('are gone when endProcesses returns, also those that ignore SIGTERM', async () => {
    start('stubborn', 'sh', '-c', 'trap "" TERM; exec sleep 100');
    await expect.poll(() => findProcesses(owner).length).toBe(1);
    const processes = findProcesses(owner);
    await endProcesses(processes, 'SIGTERM', 200);
    expect(processes.some(isAlive)).toBe(false);
  });

  it('are all gone when endAllProcesses returns, also those that start others all the time', async () => {
    start('fertile', 'sh', '-c', 'while :; do sleep 0.01; done');
    start('other', 'sleep', '100');
    await expect.poll(() => findProcesses(owner).length).toBeGreaterThan(1);
    await endAllProcesses(owner, 'fertile');
    expect(findProcesses(owner).map(({ name }) => name)).toEqual(['other']);
  });

  it('are told apart from another process that has got their pid', async () => {
    start('single', 'sleep', '100');
    await expect.poll(() => findProcesses(owner).length).toBe(1);
    const [process] = findProcesses(owner);
    expect(process && isAlive({ ...process, startTime: '1' })).toBe(false);
  });

  it('say why they ended', async () => {
    start('failing', 'sh', '-c', 'echo no such disk >&2; exit 3');
    const log = path.join(owner, 'failing.log');
    await expect.poll(() => readFileSync(log, 'utf8')).toContain('no such disk');
    const failed = () => endedReason(owner, 'failing', log);
    await expect(waitUntil(() => false, { what: 'it', timeoutMs: 10_000, failed })).rejects.toThrow(
      `failing has ended; the end of ${log} says:\nno such disk`,
    );
  });
});

it('waitUntil names what it waited for in vain', async () => {
  await expect(waitUntil(() => false, { what: 'rain', timeoutMs: 60 })).rejects.toThrow('gave up waiting for rain');
});
