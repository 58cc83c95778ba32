/** Ollama's own Go package. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isInstalled } from '../cluster/command.ts';
import { type CheckResult, checkNames, runChecks } from './checks.ts';
import { GO_CHECKS, goClient } from './go.ts';
import { MODEL, type RunningServer, startServer } from './server.ts';
import { modelWithTools } from './tools-model.ts';

const names = await checkNames(GO_CHECKS, /^\t\{"(.+)", func\(/gm);

describe.skipIf(!(await isInstalled('go')))('ollama/api (needs Go on the PATH)', () => {
  const key = 'key-of-the-test';
  let server: RunningServer;
  let results: readonly CheckResult[] = [];
  beforeAll(async () => {
    const program = await goClient();
    server = await startServer({ model: await modelWithTools(), key });
    results = await runChecks([program], { env: { SLM_URL: server.url, SLM_KEY: key, SLM_MODEL: MODEL } });
  }, 600_000);
  afterAll(async () => {
    expect(await server.stop()).toBe(0);
  });

  test.each(names)('%s', (name) => {
    const result = results.find((one) => one.name === name);
    expect(result?.error ?? result).toEqual({ name, ok: true });
  });
});
