import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { pod, ports } from '@slm-operator/crds/contract';
import { beforeAll, describe, expect, it } from 'vitest';
import { repoRoot } from '../cache.ts';
import { whyNoCompiler } from '../llama/compile.ts';
import type { Entry } from './entries.ts';
import { type ImageName, makeRecipe, type Recipe } from './recipe.ts';

// Bundling takes a second, and a machine may be busy.
const TIMEOUT_MS = 60_000;
/** When the CPU backends are not in the cache. */
const COMPILING_MS = 1_800_000;

async function load(name: ImageName) {
  const recipe = await makeRecipe(name);
  const entries = recipe.layers.flatMap((layer) => layer.entries);
  return { recipe, entries, paths: entries.map((entry) => entry.path) };
}

// Its CPU backends are compiled.
const whyNoServer = await whyNoCompiler();

describe.skipIf(whyNoServer !== undefined)(
  'the server image',
  () => {
    let recipe: Recipe;
    let entries: readonly Entry[];
    let paths: string[];

    beforeAll(async () => {
      ({ recipe, entries, paths } = await load('server'));
    }, COMPILING_MS);

    it('has one engine for one platform: no GPU, no other system, no source code, no compiler', () => {
      const binaries = paths.filter((name) => /\.(so|node)(\.|$)/.test(name) && name.startsWith('app/'));
      expect(binaries.length).toBeGreaterThan(0);
      const platform = `linux-${process.arch}`;
      expect(binaries.filter((name) => !name.includes(platform) && !name.includes(`linux/${process.arch}`))).toEqual(
        [],
      );
      expect(
        paths.filter((name) => /cuda|vulkan|musl|gitRelease|cmake|\/addon\/|\.(cpp|h|map|d\.ts)$/.test(name)),
      ).toEqual([]);
    });

    it('brings CPU backends that compute with OpenMP, for old and new processors, and no others', async () => {
      const backends = entries.filter(({ path: at }) => at.includes('/libggml-cpu-'));
      expect(backends.length).toBeGreaterThan(2);
      for (const { content } of backends)
        expect((await readFile('file' in content ? content.file : '')).includes('libgomp.so.1')).toBe(true);
      expect(paths.some((name) => /^usr\/lib\/.*libgomp\.so\.1$/.test(name))).toBe(true);
      expect(paths).toContain(`app/node_modules/@node-llama-cpp/linux-${process.arch}/LICENSE-llama-cpp`);
    });

    it('stays small: files of the application below 100 MB', async () => {
      let bytes = 0;
      for (const { path: at, content } of entries)
        if (at.startsWith('app/'))
          bytes += 'file' in content ? (await stat(content.file)).size : 'text' in content ? content.text.length : 0;
      expect(bytes).toBeLessThan(100e6);
    });

    it('runs as the user, and on the ports, that the operator counts on', () => {
      expect(recipe.config.user).toBe(`${pod.user}:${pod.user}`);
      expect(recipe.config.ports).toEqual([ports.ollama, ports.openai]);
    });
  },
  TIMEOUT_MS,
);

describe(
  'the operator image',
  async () => {
    const { entries, paths } = await load('operator');

    it('holds both programs and what the agent mounts with', () => {
      expect(paths).toEqual(
        expect.arrayContaining(['app/operator.mjs', 'app/agent.mjs', 'usr/bin/mount', 'usr/bin/umount']),
      );
    });

    it('passes on the licences of the packages inside', () => {
      const licences = entries.find((entry) => entry.path === 'app/THIRD-PARTY-LICENSES.txt')?.content;
      expect(licences && 'text' in licences ? licences.text : '').toMatch(/^prom-client \d+\.\d+\.\d+: Apache-2.0$/m);
    });

    it('holds no shell', () => {
      expect(paths.filter((name) => /\/(sh|bash|busybox|dash)$/.test(name))).toEqual([]);
    });
  },
  TIMEOUT_MS,
);

describe.each<[ImageName, file: string]>([
  ['operator', 'operator/Dockerfile'],
  ...(whyNoServer === undefined ? [['server', 'runtime-image/Dockerfile'] as [ImageName, string]] : []),
])('the Dockerfile of %s', (name, at) => {
  it(
    'says the same as the recipe',
    async () => {
      const { config } = (await load(name)).recipe;
      const text = await readFile(path.join(repoRoot, at), 'utf8');
      const final = text.slice(text.lastIndexOf('\nFROM '));
      const instruction = (word: string) => new RegExp(`^${word} (.*)$`, 'm').exec(final)?.[1];
      expect({
        user: instruction('USER'),
        ports: instruction('EXPOSE')?.split(' ').map(Number),
        entrypoint: JSON.parse(instruction('ENTRYPOINT') ?? '[]') as string[],
        workingDir: instruction('WORKDIR'),
        env: Object.fromEntries((instruction('ENV') ?? '').split(' ').map((pair) => pair.split('='))) as object,
      }).toEqual({
        user: config.user,
        ports: config.ports,
        entrypoint: config.entrypoint,
        workingDir: config.workingDir,
        env: { PATH: '/usr/local/bin:/usr/bin', ...config.env },
      });
      expect(text).toContain(`test/images/main.ts ${name} --stage /stage`);
    },
    TIMEOUT_MS,
  );
});
