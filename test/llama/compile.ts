/**
 * Owns compiling llama.cpp from the source that node-llama-cpp's package ships, so that everything here has the release that
 * the binding was made for. What is compiled lies in the cache under a name that its inputs decide. Asks no registry but
 * Debian's, for compilers that the machine lacks.
 */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cacheDir, repoRoot } from '../cache.ts';
import { isInstalled, runCommand, tryCommand } from '../cluster/command.ts';
import { lastLines, UserError } from '../cluster/errors.ts';
import { ensurePackages } from '../cluster/packages.ts';
import { makeProgress } from '../cluster/progress.ts';

/** What is compiled, and how. */
export interface Compilation {
  /** First part of the folder's name. */
  readonly name: string;
  /** Settings of llama.cpp's CMake files; {source} in them stands for the folder of the source. */
  readonly settings: Readonly<Record<string, string>>;
  /** Files of runtime-image/native that are applied to the source first. */
  readonly patches: readonly string[];
  readonly targets: readonly string[];
  /** Files to keep, below the build folder or, with a leading `source/`, the source's. */
  readonly keep: readonly string[];
  /** Whether what comes out runs on processors like this one only. */
  readonly native: boolean;
  /** CPU seconds, measured once; only for telling what is left. */
  readonly cost: number;
}

export interface CompileOptions {
  /** Told how far it is; `leftSeconds` is an estimate. Default: progress on standard error. */
  readonly progress?: (detail: string, leftSeconds?: number) => void;
}

const COMMON = {
  CMAKE_BUILD_TYPE: 'Release',
  GGML_CCACHE: 'OFF',
  GGML_OPENMP: 'ON',
  LLAMA_OPENSSL: 'OFF',
  LLAMA_BUILD_UI: 'OFF',
  LLAMA_USE_PREBUILT_UI: 'OFF',
  LLAMA_BUILD_APP: 'OFF',
  LLAMA_BUILD_TESTS: 'OFF',
  LLAMA_BUILD_EXAMPLES: 'OFF',
};

/** Programs that a build runs, and the Debian packages that they are in. */
const PROGRAMS = { cmake: 'cmake', ninja: 'ninja-build', 'g++': 'g++', git: 'git' } as const;

const bundle = path.join(repoRoot, 'node_modules', 'node-llama-cpp', 'llama', 'gitRelease.bundle');
const store = path.join(cacheDir, 'tools');
const patchFolder = path.join(repoRoot, 'runtime-image', 'native');
const POLL_MS = 500;

/** One sentence when this machine cannot compile and nothing is to be done about it from here; else undefined. */
export async function whyNoCompiler(): Promise<string | undefined> {
  if (process.platform !== 'linux') return `llama.cpp is compiled for Linux here and this is ${process.platform}.`;
  const missing = await missingPrograms();
  if (missing.length === 0 || (process.getuid?.() === 0 && (await isInstalled('apt-get')))) return undefined;
  return `compiling llama.cpp needs ${missing.join(', ')}: run "sudo apt-get install ${packagesOf(missing).join(' ')}".`;
}

/**
 * Compiles, unless that was done before.
 * @returns the folder with the files of {@link Compilation.keep}
 * @throws UserError when the machine lacks what it needs
 */
export async function compile(compilation: Compilation, options: CompileOptions = {}): Promise<string> {
  const target = path.join(store, await folderName(compilation));
  if (await exists(target)) return target;
  const step = options.progress ? undefined : makeProgress().step(`compiling ${compilation.name}`);
  const report = options.progress ?? ((detail, left) => step?.update(detail, left));
  await mkdir(store, { recursive: true });
  const release = await lock(`${target}.lock`, target, report);
  try {
    if (!(await exists(target))) await build(compilation, target, report);
  } finally {
    await release();
  }
  step?.done();
  return target;
}

/** Name and digest of everything that decides what comes out. Exported for its test. */
export function contentName(
  { name, settings, targets, keep, native }: Compilation,
  inputs: { readonly source: string; readonly patches: readonly string[]; readonly processor: string },
): string {
  const parts = [COMMON, settings, targets, keep, inputs.source, inputs.patches, process.platform, process.arch];
  const hash = createHash('sha256').update(JSON.stringify([...parts, native ? inputs.processor : '']));
  return `${name}-${hash.digest('hex').slice(0, 12)}`;
}

async function folderName(compilation: Compilation): Promise<string> {
  const [manifest, ...patches] = await Promise.all([
    readFile(path.join(path.dirname(bundle), '..', 'package.json'), 'utf8'),
    ...compilation.patches.map((name) => readFile(path.join(patchFolder, name), 'utf8')),
  ]);
  // A cache may be carried from one machine to another, and a processor that lacks an instruction ends the program.
  const cpu = compilation.native ? await readFile('/proc/cpuinfo', 'utf8') : '';
  const processor = /^(?:flags|Features)\s*:.*$/m.exec(cpu)?.[0] ?? '';
  return contentName(compilation, {
    source: (JSON.parse(manifest) as { version: string }).version,
    patches,
    processor,
  });
}

type Report = NonNullable<CompileOptions['progress']>;

async function build(compilation: Compilation, target: string, report: Report): Promise<void> {
  await installCompilers(compilation.name);
  // The prefix is that of test/cluster/tools.ts, which takes away what killed builds left.
  const work = await mkdtemp(path.join(store, `.building-${process.pid}-`));
  try {
    const [source, output, kept] = ['source', 'output', 'kept'].map((name) => path.join(work, name)) as [
      string,
      string,
      string,
    ];
    report('unpacking llama.cpp');
    await runCommand(['git', '-c', 'advice.detachedHead=false', 'clone', '--quiet', bundle, source]);
    for (const name of compilation.patches)
      await runCommand(['git', 'apply', path.join(patchFolder, name)], { cwd: source });
    report('configuring');
    const settings = Object.entries({ ...COMMON, ...compilation.settings }).map(
      ([key, value]) => `-D${key}=${value.replaceAll('{source}', source)}`,
    );
    await runCommand(['cmake', '-S', source, '-B', output, '-G', 'Ninja', ...settings]);
    await ninja(compilation, output, report);
    await mkdir(kept);
    for (const file of compilation.keep) {
      const from = file.startsWith('source/') ? path.join(work, file) : path.join(output, file);
      await rename(from, path.join(kept, path.basename(file)));
    }
    await rename(kept, target);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function ninja({ name, targets, cost }: Compilation, output: string, report: Report): Promise<void> {
  const begun = performance.now();
  const result = await tryCommand(['nice', '-n', '5', 'ninja', '-C', output, ...targets], {
    onOutputLine: (line) => {
      const [, done, all] = /^\[(\d+)\/(\d+)\]/.exec(line) ?? [];
      if (!done || !all) return;
      const fraction = Number(done) / Number(all);
      const byCost = (cost * (1 - fraction)) / availableParallelism();
      const byPace = ((performance.now() - begun) / 1000 / fraction) * (1 - fraction);
      report(`${done} of ${all} files`, Math.max(byCost, fraction > 0.2 ? byPace : 0));
    },
  });
  if (result.code !== 0) throw new Error(`ninja could not compile ${name}:\n${lastLines(result.stdout, 12)}`);
}

async function installCompilers(name: string): Promise<void> {
  const packages = packagesOf(await missingPrograms());
  // No path stands for a program on the PATH; what is missing is known already.
  const needs = Object.fromEntries(packages.map((one) => [one, [] as string[]]));
  await ensurePackages(needs, `to compile ${name}`, makeProgress());
  const still = await missingPrograms();
  if (still.length > 0) throw new UserError(`${still.join(', ')} must be on the PATH to compile ${name}.`);
}

async function missingPrograms(): Promise<(keyof typeof PROGRAMS)[]> {
  const names = Object.keys(PROGRAMS) as (keyof typeof PROGRAMS)[];
  const there = await Promise.all(names.map((name) => isInstalled(name)));
  return names.filter((_, index) => there[index] !== true);
}

function packagesOf(programs: readonly (keyof typeof PROGRAMS)[]): string[] {
  return programs.map((program) => PROGRAMS[program]);
}

/** Lets one process at a time build; the others wait for what it makes. */
async function lock(file: string, target: string, report: Report): Promise<() => Promise<void>> {
  for (;;) {
    const handle = await open(file, 'wx').catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    if (handle) {
      await handle.writeFile(String(process.pid));
      await handle.close();
      return () => rm(file, { force: true });
    }
    const owner = Number(await readFile(file, 'utf8').catch(() => ''));
    // Empty while the owner writes its number.
    if (owner > 0 && !(await exists(`/proc/${owner}`))) await rm(file, { force: true });
    else if (await exists(target)) return async () => undefined;
    else {
      report(`another process (${owner || 'just started'}) compiles it`);
      await sleep(POLL_MS);
    }
  }
}

function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}
