/** The examples of docs/server.md, as they stand there, against a server on other ports. */
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { repoRoot } from '../cache.ts';
import { tryCommand } from '../cluster/command.ts';
import { pythonClients } from './python.ts';
import { MODEL, type RunningServer, startServer } from './server.ts';

const page = await readFile(path.join(repoRoot, 'docs', 'server.md'), 'utf8');
const examples = [...page.matchAll(/^```(sh|python|javascript)\n(.*?)^```$/gms)].map(
  ([, language = '', code = ''], index) => ({ language, code, title: `${index + 1}, ${language}` }),
);

let server: RunningServer;
let folder: string;
let clients: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'slm-docs-'));
  await symlink(path.join(repoRoot, 'node_modules'), path.join(folder, 'node_modules'));
  clients = await pythonClients();
  server = await startServer({ names: [MODEL] });
}, 600_000);
afterAll(async () => {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

const commands: Record<string, (file: string) => string[]> = {
  sh: (file) => ['sh', file],
  python: (file) => ['python3', file],
  javascript: (file) => [process.execPath, file],
};

test('there are examples in every language', () => {
  expect(new Set(examples.map(({ language }) => language))).toEqual(new Set(Object.keys(commands)));
});

test.each(examples)('example $title', async ({ language, code }) => {
  const file = path.join(folder, language === 'javascript' ? 'example.mjs' : 'example');
  const here = code
    .replaceAll('http://localhost:11434', server.url)
    .replaceAll('http://localhost:8080', server.secondUrl)
    .replaceAll(/^curl /gm, 'curl -sS --fail-with-body ');
  await writeFile(file, here);
  const {
    code: exit,
    stdout,
    stderr,
  } = await tryCommand(commands[language]?.(file) ?? [], {
    env: { PATH: process.env['PATH'], PYTHONPATH: clients, API_KEY: 'none' },
  });
  expect([exit, stderr]).toEqual([0, '']);
  expect(stdout).toMatch(/\S/);
  if (language === 'sh') expect(JSON.parse(stdout)).not.toHaveProperty('error');
});
