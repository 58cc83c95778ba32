import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { pod, ports } from '@slm-operator/crds/contract';
import { beforeAll, describe, expect, it } from 'vitest';
import { repoRoot } from '../cache.ts';
import { whyNoCompiler } from '../llama/compile.ts';
import { areFetched } from '../unpacked.ts';
import { CUDA_ENV, cudaPins, PROVIDER_VERSION } from './cuda.ts';
import { whyNoDebian } from './debian.ts';
import type { Entry } from './entries.ts';
import { SOFTWARE_DRIVER } from './mesa.ts';
import { type AnyImageName, type gpuImageNames, type ImageName, makeRecipe, type Recipe } from './recipe.ts';

// Bundling takes a second, and a machine may be busy.
const TIMEOUT_MS = 60_000;
/** When the CPU backends are not in the cache. */
const COMPILING_MS = 1_800_000;

async function load(name: AnyImageName) {
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

/** Its recipe itself refuses to leave out a library that something in it is linked to. */
describe.skipIf(whyNoServer !== undefined || process.arch !== 'x64' || (await whyNoDebian()) !== undefined)(
  'the Vulkan image',
  () => {
    let entries: readonly Entry[];
    let paths: string[];
    const named = (pattern: RegExp) => paths.filter((name) => pattern.test(name));

    beforeAll(async () => {
      ({ entries, paths } = await load('server-vulkan'));
    }, COMPILING_MS);

    it('has llama.cpp for Vulkan in place of the one for CPUs, and our CPU backends beside it', () => {
      expect(named(/@node-llama-cpp\/[^/]+\/package\.json$/)).toEqual([
        'app/node_modules/@node-llama-cpp/linux-x64-vulkan/package.json',
      ]);
      const folder = 'app/node_modules/@node-llama-cpp/linux-x64-vulkan/bins/linux-x64-vulkan';
      expect(paths).toContain(`${folder}/libggml-vulkan.so`);
      expect(named(/libggml-cpu-zen4\.so$/)).toEqual([`${folder}/libggml-cpu-zen4.so`]);
      const backend = entries.findLast(({ path: at }) => at.endsWith('/libggml-cpu-zen4.so'))?.content;
      expect(backend && 'file' in backend ? backend.file : '').toMatch(/llama-cpu-backends/);
    });

    it('offers drivers of AMD and Intel, and one that computes on the CPU only to whoever names it', () => {
      expect(named(/_icd\.json$/).toSorted()).toEqual([
        'usr/share/vulkan/icd.d/intel_hasvk_icd.json',
        'usr/share/vulkan/icd.d/intel_icd.json',
        'usr/share/vulkan/icd.d/radeon_icd.json',
        SOFTWARE_DRIVER,
      ]);
      expect(
        named(/libvulkan/)
          .map((at) => path.basename(at))
          .toSorted(),
      ).toEqual([
        'libvulkan.so.1',
        'libvulkan_intel.so',
        'libvulkan_intel_hasvk.so',
        'libvulkan_lvp.so',
        'libvulkan_radeon.so',
      ]);
    });

    it('stands on one C library alone', () => {
      for (const name of ['libc.so.6', 'libstdc++.so.6', 'libgomp.so.1'])
        expect(paths.filter((at) => path.basename(at) === name)).toEqual([`usr/lib/x86_64-linux-gnu/${name}`]);
    });
  },
  TIMEOUT_MS,
);

// 700 MB to fetch: only where somebody built the image before.
describe.skipIf(whyNoServer !== undefined || !(await areFetched(cudaPins)))(
  'the CUDA image',
  () => {
    let paths: string[];

    beforeAll(async () => {
      ({ paths } = await load('server-cuda'));
    }, COMPILING_MS);

    it("has CUDA's libraries, and none of the driver's", () => {
      const libraries = paths.map((at) => path.basename(at)).filter((name) => /^lib(cu|nv)/.test(name));
      expect(libraries.toSorted()).toEqual([
        'libcublas.so.13',
        'libcublasLt.so.13',
        'libcudart.so.13',
        'libcurand.so.10',
      ]);
    });

    it("has ONNX Runtime's provider beside its library, of the same version", async () => {
      const folder = 'app/node_modules/onnxruntime-node/bin/napi-v6/linux/x64';
      for (const name of [
        'libonnxruntime.so.1',
        'libonnxruntime_providers_shared.so',
        'libonnxruntime_providers_cuda.so',
      ])
        expect(paths).toContain(`${folder}/${name}`);
      const manifest = await readFile(path.join(repoRoot, 'node_modules/onnxruntime-node/package.json'), 'utf8');
      expect((JSON.parse(manifest) as { version: string }).version).toBe(PROVIDER_VERSION);
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

/** Stages of a Dockerfile by name, the last also as `final`; each with the text of those that it is made from before its own. */
function stagesOf(dockerfile: string): ReadonlyMap<string, string> {
  const stages = new Map<string, string>();
  for (const stage of dockerfile.split(/^(?=FROM )/m).slice(1)) {
    const [, from = '', name = 'final'] = /^FROM (\S+)(?: AS (\S+))?/.exec(stage) ?? [];
    stages.set(name, `${stages.get(from) ?? ''}${stage}`);
  }
  return stages;
}

function configOf(stage: string) {
  const last = (word: string) => [...stage.matchAll(new RegExp(`^${word} (.*)$`, 'gm'))].at(-1)?.[1];
  const env = [...stage.matchAll(/^ENV (.*)$/gm)].flatMap((match) => (match[1] ?? '').split(' '));
  return {
    user: last('USER'),
    ports: last('EXPOSE')?.split(' ').map(Number),
    entrypoint: JSON.parse(last('ENTRYPOINT') ?? '[]') as string[],
    workingDir: last('WORKDIR'),
    env: Object.fromEntries(env.map((pair) => pair.split('='))) as Record<string, string>,
  };
}

describe.each<[ImageName, file: string]>([
  ['operator', 'operator/Dockerfile'],
  ...(whyNoServer === undefined ? [['server', 'runtime-image/Dockerfile'] as [ImageName, string]] : []),
])('the Dockerfile of %s', (name, at) => {
  it(
    'says the same as the recipe',
    async () => {
      const { config } = (await load(name)).recipe;
      const text = await readFile(path.join(repoRoot, at), 'utf8');
      const stages = stagesOf(text);
      expect(configOf(stages.get(name) ?? stages.get('final') ?? '')).toEqual({
        user: config.user,
        ports: config.ports,
        entrypoint: config.entrypoint,
        workingDir: config.workingDir,
        env: { PATH: '/usr/local/bin:/usr/bin', ...config.env },
      });
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the Dockerfile's own variable.
      const argument = text.includes(`ARG IMAGE=${name}`) ? '${IMAGE}' : name;
      expect(text).toContain(`test/images/main.ts ${argument} --stage /stage`);
    },
    TIMEOUT_MS,
  );
});

describe('the Dockerfile of the server for GPUs', () => {
  it.each<[(typeof gpuImageNames)[number], Readonly<Record<string, string>>]>([
    ['server-cuda', CUDA_ENV],
    ['server-cuda12', CUDA_ENV],
    ['server-vulkan', {}],
  ])('%s differs from the one for CPUs in its environment alone', async (name, more) => {
    const stages = stagesOf(await readFile(path.join(repoRoot, 'runtime-image/Dockerfile'), 'utf8'));
    const plain = configOf(stages.get('server') ?? '');
    expect(configOf(stages.get(name) ?? '')).toEqual({ ...plain, env: { ...plain.env, ...more } });
  });
});
