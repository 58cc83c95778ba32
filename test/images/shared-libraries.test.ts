import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isInstalled, runCommand } from '../cluster/command.ts';
import { type Entry, file } from './entries.ts';
import { closure, neededBy, parseDynamic, unresolved } from './shared-libraries.ts';

it('readelf tells of several files what each is linked to', () => {
  const output = `
File: /a/libone.so

Dynamic section at offset 0x2df8 contains 24 entries:
  Tag        Type                         Name/Value
 0x0000000000000001 (NEEDED)             Shared library: [libm.so.6]
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]
 0x000000000000000e (SONAME)             Library soname: [libone.so]
 0x000000000000001d (RUNPATH)            Library runpath: [$ORIGIN]

File: /a/static

There is no dynamic section in this file.
`;
  expect([...parseDynamic(output)]).toEqual([
    ['/a/libone.so', ['libm.so.6', 'libc.so.6']],
    ['/a/static', []],
  ]);
});

describe.skipIf(!(await isInstalled('cc')) || !(await isInstalled('readelf')))('libraries that need each other', () => {
  let folder: string;
  const at = (name: string) => path.join(folder, name);

  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'slm-libraries-'));
    await writeFile(at('empty.c'), 'int slm_nothing(void) { return 0; }\n');
    const library = (name: string, ...linked: string[]) =>
      runCommand(['cc', '-shared', '-nostdlib', '-Wl,--no-as-needed', '-o', name, 'empty.c', ...linked], {
        cwd: folder,
      });
    await library('libdriver.so.1');
    await library('libdeep.so.2');
    await library('libmiddle.so.3', '-L.', '-l:libdeep.so.2');
    await library('top.node', '-L.', '-l:libmiddle.so.3', '-l:libdriver.so.1');
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const image = (...names: string[]): Entry[] => names.map((name) => file(`usr/lib/${name}`, at(name), 0o755));
  const top = () => file('app/top.node', at('top.node'), 0o755);

  it('are found with everything behind them', async () => {
    const found = await closure([at('top.node')], [folder], 'usr/lib');
    expect(found.map((entry) => entry.path).toSorted()).toEqual([
      'usr/lib/libdeep.so.2',
      'usr/lib/libdriver.so.1',
      'usr/lib/libmiddle.so.3',
    ]);
  });

  it('may be missing, and then that is said, unless the node brings them', async () => {
    const missing = (entries: Entry[]) => unresolved(entries, ['usr/lib'], ['libdriver.so.1']);
    expect(await missing([top(), ...image('libmiddle.so.3', 'libdeep.so.2')])).toEqual([]);
    expect(await missing([top(), ...image('libmiddle.so.3')])).toEqual(['usr/lib/libmiddle.so.3 needs libdeep.so.2']);
    expect(await missing([top(), ...image('libdeep.so.2')])).toEqual(['app/top.node needs libmiddle.so.3']);
  });

  it('are found beside each other too, but not in a folder where nobody looks', async () => {
    const elsewhere = (name: string) => file(`opt/${name}`, at(name), 0o755);
    expect(await unresolved([elsewhere('libmiddle.so.3'), elsewhere('libdeep.so.2')], ['usr/lib'], [])).toEqual([]);
    expect(await unresolved([...image('libmiddle.so.3'), elsewhere('libdeep.so.2')], ['usr/lib'], [])).toEqual([
      'usr/lib/libmiddle.so.3 needs libdeep.so.2',
    ]);
  });

  it('a text is linked to nothing', async () => {
    expect([...(await neededBy([at('empty.c')])).values()]).toEqual([[]]);
  });
});
