/**
 * Finds the native files: the addons of node-llama-cpp, one for each kind of device, and the backends that ggml loads beside
 * them. Knows places only; library.ts loads what it chooses of them.
 */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { StartupError } from '../../failures.ts';

/** The release that our types of the addon were taken from; package.json pins the same. */
export const BINDING_VERSION = '3.22.1';

export type Backend = 'cpu' | 'cuda' | 'vulkan' | 'metal';

const TITLES: Readonly<Record<Backend, string>> = { cpu: 'CPU', cuda: 'CUDA', vulkan: 'Vulkan', metal: 'Metal' };

/** The backend's name, as people write it. */
export function titleOf(backend: Backend): string {
  return TITLES[backend];
}

/** One package with binaries. */
export interface NativePackage {
  readonly backend: Backend;
  /** Path of the addon. */
  readonly addon: string;
  /** Folders with CPU backends, the best first; the last is the package's own. */
  readonly cpuBackends: readonly string[];
  /** Libraries that compute on a GPU, in the order in which they are tried. */
  readonly gpuLibraries: readonly string[];
}

/** At least one. */
export type NativePackages = readonly [NativePackage, ...(readonly NativePackage[])];

/** Packages by platform, as Node names it, where they are not called like the platform. */
const PACKAGES: Readonly<Record<string, Readonly<Partial<Record<Backend, string>>>>> = {
  'linux-x64': { cpu: 'linux-x64', cuda: 'linux-x64-cuda', vulkan: 'linux-x64-vulkan' },
  'darwin-arm64': { metal: 'mac-arm64-metal' },
  'darwin-x64': { cpu: 'mac-x64' },
};

/** Where `test/llama` leaves the backends that it compiled, for servers that run from the source tree. */
const COMPILED = path.join(import.meta.dirname, '..', '..', '..', 'native', 'lib');

/** Not the bundler's to follow: it would look for the files where they lie while it bundles. */
const requireHere = createRequire(import.meta.url);

/**
 * The packages that are installed. An image has one, whose folder holds our CPU backends in place of its own; in the source
 * tree those lie in a folder of their own.
 * @throws StartupError (EngineMismatch) when there is none, or one that our types were not taken from
 */
export function findNativePackages(platform: string = `${process.platform}-${process.arch}`): NativePackages {
  const names = Object.entries(PACKAGES[platform] ?? { cpu: platform }) as readonly [Backend, string][];
  const found = names.flatMap(([backend, name]) => {
    const folder = packageFolder(`@node-llama-cpp/${name}`);
    if (folder === undefined) return [];
    const own = path.join(folder, 'bins', name);
    return {
      backend,
      addon: path.join(own, 'llama-addon.node'),
      cpuBackends: [...(existsSync(COMPILED) ? [COMPILED] : []), own],
      gpuLibraries: gpuLibraries(backend, name, own),
    };
  });
  const [first, ...others] = found;
  if (!first)
    throw new StartupError(
      'EngineMismatch',
      `the package @node-llama-cpp/${names[0]?.[1] ?? platform} is not installed: this platform is not served.`,
    );
  return [first, ...others];
}

/** The CUDA package is for the newest driver; one beside it has the same for the generation before. */
function gpuLibraries(backend: Backend, name: string, own: string): string[] {
  if (backend === 'cpu') return [];
  const file = `libggml-${backend}.so`;
  const extension = packageFolder(`@node-llama-cpp/${name}-ext`);
  const folders = [own, ...(extension === undefined ? [] : [path.join(extension, 'bins', name)])];
  return folders
    .flatMap((folder) => [path.join(folder, file), path.join(folder, 'fallback', file)])
    .filter((library) => existsSync(library));
}

/**
 * Looks where `require` looks, but for the folder instead of the entry: one that cannot be had everywhere is replaced by an
 * empty package of another name.
 */
function packageFolder(name: string): string | undefined {
  for (const modules of requireHere.resolve.paths(name) ?? []) {
    const folder = path.join(modules, name);
    let manifest: { readonly name?: string; readonly version?: string };
    try {
      manifest = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8')) as typeof manifest;
    } catch {
      continue;
    }
    if (manifest.name !== name) continue;
    if (manifest.version !== BINDING_VERSION)
      throw new StartupError(
        'EngineMismatch',
        `this server was made for node-llama-cpp ${BINDING_VERSION} and found ${name} ${manifest.version}: install the pinned version.`,
      );
    return folder;
  }
  return undefined;
}
