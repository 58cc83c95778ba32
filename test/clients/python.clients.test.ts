/** The official Python clients, and LangChain on top of them. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CheckResult } from './checks.ts';
import { pythonCheckNames, pythonClients, runPythonChecks } from './python.ts';
import { MODEL, type RunningServer, startServer } from './server.ts';
import { modelWithTools } from './tools-model.ts';

const key = 'key-of-the-test';
let server: RunningServer;
beforeAll(async () => {
  // Without a time limit: the first run installs them.
  await pythonClients();
  server = await startServer({ model: await modelWithTools(), key });
}, 600_000);
afterAll(async () => {
  expect(await server.stop()).toBe(0);
});

const files = {
  ollama: 'ollama_checks.py',
  openai: 'openai_checks.py',
  anthropic: 'anthropic_checks.py',
  langchain: 'langchain_checks.py',
};
const suites = await Promise.all(
  Object.entries(files).map(async ([name, file]) => [name, file, await pythonCheckNames(file)] as const),
);

describe.each(suites)('%s', (_, file, names) => {
  let results: readonly CheckResult[] = [];
  beforeAll(async () => {
    results = await runPythonChecks(file, { SLM_URL: server.url, SLM_KEY: key, SLM_MODEL: MODEL });
  });

  test.each(names)('%s', (name) => {
    const result = results.find((one) => one.name === name);
    expect(result?.error ?? result).toEqual({ name, ok: true });
  });
});
