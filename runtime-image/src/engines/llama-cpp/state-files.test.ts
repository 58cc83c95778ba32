import { existsSync, mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { StateFiles } from './state-files.ts';

test('files lie in a folder of their own, and what a dead process left behind goes', async () => {
  const parent = await mkdtemp(path.join(tmpdir(), 'slm-states-'));
  // No process has this number: it is beyond what Linux gives out.
  for (const name of ['slm-prompts-99999999-a', 'slm-prompts-1-b', 'other']) mkdirSync(path.join(parent, name));
  const earlier = path.join(parent, `slm-prompts-${process.pid}-earlier`);
  mkdirSync(earlier);
  utimesSync(earlier, 1, 1);
  const files = new StateFiles(parent);
  expect(readdirSync(parent).filter((name) => !name.startsWith(`slm-prompts-${process.pid}`))).toEqual([
    'other',
    'slm-prompts-1-b',
  ]);
  expect(existsSync(earlier)).toBe(false);
  const [first, second] = [files.next(), files.next()];
  expect(first).not.toBe(second);
  expect((await stat(path.dirname(first))).mode & 0o777).toBe(0o700);
  writeFileSync(first, '');
  files.drop(first);
  files.drop(second);
  expect(existsSync(first)).toBe(false);
  files.dispose();
  expect(existsSync(path.dirname(first))).toBe(false);
  await rm(parent, { recursive: true });
});
