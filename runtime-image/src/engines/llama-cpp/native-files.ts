/**
 * Finds the native files: the addon of node-llama-cpp, and the CPU backends that ggml loads beside it. Knows places only; the addon
 * is loaded by library.ts.
 */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { StartupError } from '../../failures.ts';

/** The release that our types of the addon were taken from; package.json pins the same. */
export const BINDING_VERSION = '3.22.1';

export interface NativeFiles {
  /** Path of the addon. */
  readonly addon: string;
  /** Folders with CPU backends, the best first; the last is node-llama-cpp's own. */
  readonly backends: readonly string[];
}

/** The packages with binaries, where they are not named as Node names the platform. */
const PACKAGES: Readonly<Record<string, string>> = { 'darwin-arm64': 'mac-arm64-metal', 'darwin-x64': 'mac-x64' };

/** Where `test/llama` leaves the backends that it compiled, for servers that run from the source tree. */
const COMPILED = path.join(import.meta.dirname, '..', '..', '..', 'native', 'lib');

/**
 * In an image the package's folder holds our backends already; in the source tree they lie in a folder of their own.
 * @throws StartupError (EngineMismatch) when the package is missing or not the one that our types were taken from
 */
export function findNativeFiles(platform: string = `${process.platform}-${process.arch}`): NativeFiles {
  // Not the bundler's to follow: it would look for the files where they lie while it bundles.
  const requireHere = createRequire(import.meta.url);
  const name = `@node-llama-cpp/${PACKAGES[platform] ?? platform}`;
  let folder: string;
  try {
    folder = path.join(path.dirname(requireHere.resolve(name)), '..');
  } catch (error) {
    throw new StartupError('EngineMismatch', `the package ${name} is not installed: this platform is not served.`, {
      cause: error,
    });
  }
  const { version } = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8')) as { version: string };
  if (version !== BINDING_VERSION)
    throw new StartupError(
      'EngineMismatch',
      `this server was made for node-llama-cpp ${BINDING_VERSION} and found ${name} ${version}: install the pinned version.`,
    );
  const own = path.join(folder, 'bins', path.basename(name));
  return {
    addon: path.join(own, 'llama-addon.node'),
    backends: [...(existsSync(COMPILED) ? [COMPILED] : []), own],
  };
}
