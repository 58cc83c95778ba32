/**
 * Owns the bundling of our programs into one file each, and what must lie beside a bundle: native add-ons and the files
 * that packages read at run time. Bundles start faster and take less memory than thousands of files.
 */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { build, type Metafile, type Plugin } from 'esbuild';
import { repoRoot } from '../cache.ts';
import { UserError } from '../cluster/errors.ts';
import { nativePackage } from '../fixtures/native-packages.ts';
import { cpuBackends } from '../llama/cpu-backends.ts';
import { openmpLicence } from './base.ts';
import { type Entry, file, text, tree } from './entries.ts';

const modules = path.join(repoRoot, 'node_modules');

/** Programs bundled together. */
export interface Bundle {
  /** File names and texts: `NAME.mjs` for each program, and the chunks that they share or load late. */
  readonly files: Readonly<Record<string, string>>;
  /** Packages that went in or are looked for at run time: name → folder, relative to the repository's root. */
  readonly packages: ReadonlyMap<string, string>;
}

/** Version of everything in this repository. */
export async function productVersion(): Promise<string> {
  const manifest = JSON.parse(await readFile(path.join(repoRoot, 'package.json'), 'utf8')) as { version: string };
  return manifest.version;
}

/** Bundles programs: name → entry module, relative to the repository's root. */
export async function makeBundle(programs: Readonly<Record<string, string>>, version: string): Promise<Bundle> {
  const result = await build({
    absWorkingDir: repoRoot,
    entryPoints: { ...programs },
    bundle: true,
    // Late imports stay late, in files of their own. Not minified: a stack trace in a log must be readable.
    splitting: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    outdir: 'dist',
    outExtension: { '.js': '.mjs' },
    chunkNames: 'chunk-[hash]',
    write: false,
    metafile: true,
    legalComments: 'none',
    logLevel: 'silent',
    define: { __SLM_VERSION__: JSON.stringify(version) },
    // CommonJS packages in an ES module need a require of their own.
    banner: {
      js: "import { createRequire as makeRequire_ } from 'node:module'; const require = makeRequire_(import.meta.url);",
    },
    external: ['*.node', 'electron', 'onnxruntime-node'],
    plugins: [nativePackages],
  });
  const files = result.outputFiles.map(({ path: at, text: code }) => [path.basename(at), code] as const);
  return { files: Object.fromEntries(files), packages: packagesOf(result.metafile) };
}

/**
 * node-llama-cpp and its binary packages find their files relative to `import.meta.url`. In the bundle each of their modules
 * keeps the address that it had, below node_modules beside the bundle, where {@link nativeEntries} puts those files.
 * Binary packages of other platforms stay out.
 */
const nativePackages: Plugin = {
  name: 'native-packages',
  setup(context) {
    const wanted = `@node-llama-cpp/linux-${process.arch}`;
    context.onResolve({ filter: /^@node-llama-cpp\// }, ({ path: name }) =>
      name === wanted ? undefined : { path: name, external: true },
    );
    // It can also download models and compile llama.cpp; an image does neither, so what only that needs is left empty.
    context.onResolve({ filter: /^(ipull|simple-git|cross-spawn)$/ }, ({ path: name, importer }) =>
      importer.includes('/node-llama-cpp/') ? { path: name, namespace: 'left-out' } : undefined,
    );
    context.onLoad({ filter: /.*/, namespace: 'left-out' }, () => ({ contents: 'module.exports = {};', loader: 'js' }));
    context.onLoad({ filter: /node_modules\/(node-llama-cpp|@node-llama-cpp)\/.*\.js$/ }, async ({ path: at }) => {
      // It tries the binary in a process of its own first, at each start; an image brings the C library that it was tried with.
      if (at.endsWith('/testBindingBinary.js'))
        return { contents: 'export const testBindingBinary = async () => true;', loader: 'js' };
      const source = await readFile(at, 'utf8');
      if (!source.includes('import.meta.url')) return undefined;
      const beside = `./node_modules/${path.relative(modules, at)}`;
      return {
        contents: source.replaceAll('import.meta.url', `new URL(${JSON.stringify(beside)}, import.meta.url).href`),
        loader: 'js',
      };
    });
  },
};

/** What the server computes on, beside the CPU. */
export type Backend = 'cpu' | 'cuda' | 'cuda12' | 'vulkan';

/** Where ONNX Runtime's libraries lie, below `node_modules`. */
export const ONNX_LIBRARIES = `onnxruntime-node/bin/napi-v6/linux/${process.arch}`;

/** Files that the server reads at run time beside its bundle, below `at/node_modules`; only this platform's, only one backend's. */
export async function nativeEntries(at: string, bundle: Bundle, backend: Backend = 'cpu'): Promise<Entry[]> {
  const entries: Entry[] = [];
  const { name: binaries, source } = await llamaBinaries(backend);
  for (const name of ['node-llama-cpp/package.json', 'node-llama-cpp/llama/binariesGithubRelease.json'])
    entries.push(file(`${at}/node_modules/${name}`, path.join(modules, name)));
  // Its own CPU backends make room for those that we compile with OpenMP.
  const keep = (name: string) => name !== 'README.md' && !/\/libggml-cpu-[^/]*$/.test(name);
  entries.push(...(await tree(`${at}/node_modules/${binaries}`, source, keep)));
  entries.push(...(await backendEntries(`${at}/node_modules/${binaries}`)));
  if (backend === 'cuda12') entries.push(await olderCuda(`${at}/node_modules/${binaries}`));
  if (bundle.packages.has('onnxruntime-node')) entries.push(...(await onnxEntries(at)));
  return entries;
}

/** The package with llama.cpp for one backend. Those for GPUs bring everything that the one for CPUs does. */
async function llamaBinaries(backend: Backend): Promise<{ readonly name: string; readonly source: string }> {
  const kind = backend === 'cuda12' ? 'cuda' : backend;
  const name = `@node-llama-cpp/linux-${process.arch}${kind === 'cpu' ? '' : `-${kind}`}`;
  if (kind === 'cpu') return { name, source: path.join(modules, name) };
  if (process.arch !== 'x64')
    throw new UserError(
      `There are no binaries of llama.cpp with ${kind} for ${process.arch}: build this image on x64.`,
    );
  return { name, source: path.join(await nativePackage(`linux-x64-${kind}`), name) };
}

/** The same backend compiled with CUDA 12, in the place of that for CUDA 13: all else in the package is for both. */
async function olderCuda(at: string): Promise<Entry> {
  const name = 'libggml-cuda.so';
  const source = path.join(await nativePackage('linux-x64-cuda-ext'), '@node-llama-cpp/linux-x64-cuda-ext');
  return file(
    `${at}/bins/${path.basename(at)}/${name}`,
    path.join(source, 'bins/linux-x64-cuda/fallback', name),
    0o755,
  );
}

/** The CPU backends, and the licences of them and of the OpenMP library that they are linked to. */
async function backendEntries(at: string): Promise<Entry[]> {
  const folder = await cpuBackends();
  const names = (await readdir(folder)).filter((name) => name.endsWith('.so'));
  const libraries = names.map((name) =>
    file(`${at}/bins/${path.basename(at)}/${name}`, path.join(folder, name), 0o755),
  );
  return [...libraries, file(`${at}/LICENSE-llama-cpp`, path.join(folder, 'LICENSE')), ...(await openmpLicence())];
}

/** onnxruntime-node brings the binaries of every platform in one package (288 MB): one sixth of it is for this one. */
async function onnxEntries(at: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  const platforms = path.relative('onnxruntime-node', ONNX_LIBRARIES);
  entries.push(
    ...(await tree(`${at}/node_modules/onnxruntime-node`, path.join(modules, 'onnxruntime-node'), (name) => {
      if (name.startsWith('bin')) return platforms.startsWith(name) || name.startsWith(platforms);
      return /^(package\.json|dist(\/.*)?)$/.test(name) && !/\.(map|d\.ts)$/.test(name);
    })),
    ...(await tree(
      `${at}/node_modules/onnxruntime-common`,
      path.join(modules, 'onnxruntime-common'),
      (name) => /^(package\.json|dist(\/cjs(\/.*)?)?)$/.test(name) && !/\.(map|d\.ts)$/.test(name),
    )),
  );
  return entries;
}

/** The application folder of an image: the bundle, a package.json that says what it is, and the licences of what went in. */
export async function bundleEntries(at: string, version: string, bundle: Bundle): Promise<Entry[]> {
  return [
    text(`${at}/THIRD-PARTY-LICENSES.txt`, await licences(bundle)),
    text(`${at}/package.json`, `${JSON.stringify({ name: 'slm-operator', version, type: 'module', private: true })}\n`),
    ...Object.entries(bundle.files).map(([name, code]) => text(`${at}/${name}`, code)),
  ];
}

function packagesOf(metafile: Metafile): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const input of Object.keys(metafile.inputs)) {
    const [folder, name] = /^(?:.*\/)?node_modules\/((?:@[^/]+\/)?[^/]+)(?=\/)/.exec(input) ?? [];
    if (folder && name) found.set(name, folder);
  }
  for (const output of Object.values(metafile.outputs))
    for (const { external, path: name } of output.imports)
      if (external && !found.has(name)) found.set(name, `node_modules/${name}`);
  return found;
}

/** The licence texts of all packages in a bundle, which their authors ask to be passed on. */
async function licences({ packages }: Bundle): Promise<string> {
  const parts: string[] = [];
  for (const [name, folder] of [...packages].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    const files = await readdir(path.join(repoRoot, folder)).catch((): string[] => []);
    if (!files.includes('package.json')) continue;
    const manifest = await readFile(path.join(repoRoot, folder, 'package.json'), 'utf8');
    const { version, license } = JSON.parse(manifest) as { version?: string; license?: string };
    const texts = await Promise.all(
      files
        .filter((file) => /^(licen[cs]e|notice|copying)/i.test(file))
        .map((file) => readFile(path.join(repoRoot, folder, file), 'utf8')),
    );
    parts.push([`${name} ${version ?? ''}: ${license ?? 'see below'}`, ...texts.map((one) => one.trim())].join('\n\n'));
  }
  return `${parts.join(`\n\n${'-'.repeat(80)}\n\n`)}\n`;
}
