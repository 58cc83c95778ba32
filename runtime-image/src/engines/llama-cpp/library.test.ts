import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { lines, openLibrary } from './library.ts';
import { findNativePackages } from './native-files.ts';

test('pieces of lines become lines, and a line ends where the level changes', () => {
  const told: [number, string][] = [];
  const log = lines((level, line) => told.push([level, line]));
  log(4, 'loading ');
  log(4, 'tensors\nand');
  log(3, 'careful\n');
  log(4, '\n');
  log(2, 'one\ntwo\n');
  expect(told).toEqual([
    [4, 'loading tensors'],
    [4, 'and'],
    [3, 'careful'],
    [2, 'one\ntwo'],
  ]);
});

test('the addon is there, and a backend for this processor', async () => {
  const [files] = findNativePackages();
  expect(files?.backend).toBe('cpu');
  expect([files?.addon ?? '', ...(files?.cpuBackends ?? [])].filter((file) => !existsSync(file))).toEqual([]);
  const { bindings } = await openLibrary();
  expect(bindings.systemInfo()).toMatch(/^CPU : /);
  expect(await openLibrary()).toBe(await openLibrary());
});

test('a platform without binaries is refused with a sentence', () => {
  expect(() => findNativePackages('plan9-mips')).toThrow('this platform is not served');
});
