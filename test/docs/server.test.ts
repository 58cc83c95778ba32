/** docs/server.md says what the server does: no endpoint, property, option or setting is missing, and what it calls refused is. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { ALIAS_NAMES } from '@slm-operator/runtime-image/config-aliases';
import { makeTestServer } from '@slm-operator/runtime-image/routes/testing';
import type { Options } from '@slm-operator/runtime-image/schemas/ollama';
import { afterAll, describe, expect, test } from 'vitest';
import { repoRoot } from '../cache.ts';

const page = await readFile(path.join(repoRoot, 'docs', 'server.md'), 'utf8');
const { app } = makeTestServer();
afterAll(() => app.close());

function namesIn(text: string): string[] {
  return [...text.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name);
}

/** Rows of the tables below a heading: the names in the first column, and the second column. */
function rowsBelow(heading: string): { names: string[]; text: string }[] {
  const [, section = ''] = page.split(`\n## ${heading}\n`);
  const [body = ''] = section.split('\n## ');
  return [...body.matchAll(/^\| (.*?) \| (.*?) ?\|$/gm)].map(([, first = '', text = '']) => ({
    names: namesIn(first),
    text,
  }));
}
const namesBelow = (heading: string) =>
  new Set(rowsBelow(heading).flatMap(({ names, text }) => [...names, ...namesIn(text)]));

interface Operation {
  readonly requestBody?: { readonly content: Record<string, { schema: { properties: Record<string, unknown> } }> };
}
const description = (await app.inject('/openapi.json')).json<{ paths: Record<string, Record<string, Operation>> }>();

test('every endpoint is there', () => {
  const missing = Object.keys(description.paths).filter((url) => !page.includes(`${url}\``));
  expect(missing).toEqual([]);
});

describe('every property of a request is there', () => {
  const headings = { '/api/': "Ollama's API", '/v1/messages': "Anthropic's API", '/v1/': "OpenAI's API" };
  test.each(Object.entries(headings))('%s', (prefix, heading) => {
    const family = Object.entries(description.paths).filter(
      ([url]) => Object.keys(headings).find((one) => url.startsWith(one)) === prefix,
    );
    const properties = family.flatMap(([, methods]) =>
      Object.values(methods).flatMap(({ requestBody }) =>
        Object.keys(requestBody?.content['application/json']?.schema.properties ?? {}),
      ),
    );
    const known = namesBelow(heading);
    expect([...new Set(properties)].filter((name) => !known.has(name))).toEqual([]);
  });
});

describe('every option of Ollama is there, and does what the table says', () => {
  /** Values that ask for something. */
  const values: Record<keyof typeof Options.properties, unknown> = {
    temperature: 0.5,
    top_k: 3,
    top_p: 0.5,
    min_p: 0.1,
    seed: 7,
    num_predict: 3,
    num_ctx: 64,
    stop: ['x'],
    repeat_penalty: 1.5,
    repeat_last_n: 3,
    presence_penalty: 1,
    frequency_penalty: 1,
    typical_p: 0.5,
    tfs_z: 0.5,
    mirostat: 2,
    mirostat_eta: 0.2,
    mirostat_tau: 4,
    penalize_newline: false,
    num_keep: 3,
    num_batch: 7,
    num_gpu: 3,
    main_gpu: 1,
    num_thread: 99,
    numa: true,
    low_vram: true,
    f16_kv: false,
    logits_all: true,
    vocab_only: true,
    use_mmap: false,
    use_mlock: true,
  };
  const rows = rowsBelow("Ollama's API");
  test.each(Object.entries(values))('%s: %j', async (name, value) => {
    const text = rows.find(({ names }) => names.includes(name))?.text;
    const answer = await app.inject({
      method: 'POST',
      url: '/api/generate',
      payload: { model: 'chat', prompt: 'a', stream: false, options: { num_predict: 2, [name]: value } },
    });
    expect([text, answer.statusCode]).toEqual(
      answer.statusCode === 200
        ? [expect.stringMatching(/^honoured|^mean nothing/), 200]
        : [expect.stringMatching(/^400/), 400],
    );
  });
});

test('what the table of OpenAI’s properties calls refused is refused', async () => {
  const refused = rowsBelow("OpenAI's API").find(({ text }) => text.startsWith('400 unless they ask for nothing'));
  for (const name of refused?.names ?? []) {
    const answer = await app.inject({
      method: 'POST',
      url: '/v1/chat/completions',
      payload: { model: 'chat', messages: [{ role: 'user', content: 'a' }], [name]: 'something' },
    });
    expect([name, answer.statusCode, answer.json<{ error: { param: string } }>().error.param]).toEqual([
      name,
      400,
      name,
    ]);
  }
  expect(refused?.names.length).toBeGreaterThan(5);
});

test('every name of a setting elsewhere is there', () => {
  const known = namesBelow('Settings');
  expect(ALIAS_NAMES.filter((name) => !known.has(name))).toEqual([]);
});
