/**
 * Owns the programs of the cluster on this machine: each is built once from pinned sources and kept in the cache folder
 * under a name that its inputs decide. Never installs anything outside that folder, but for Debian packages that a build
 * needs (see `packages.ts`).
 */
import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { cacheDir } from '../cache.ts';
import { isInstalled, runCommand, tryCommand } from './command.ts';
import { lastLines, UserError } from './errors.ts';
import { ensurePackages } from './packages.ts';
import type { Progress, Step } from './progress.ts';
import { BINARIES, type Compilation, RECIPES, type Recipe, type RecipeName } from './tool-recipes.ts';

/** Programs that {@link ensureTools} can provide. `cni` stands for the folder of the network plugins. */
export type ToolName = Exclude<(typeof BINARIES)[RecipeName][number], (typeof BINARIES)['cni'][number]> | 'cni';

/** Absolute paths by program. */
export type ToolPaths<Name extends ToolName = ToolName> = Record<Name, string>;

const sources = path.join(import.meta.dirname, 'tools');
const store = path.join(cacheDir, 'tools');
const WORK_PREFIX = '.building-';

/**
 * Returns where the named programs are, after building those that are not there yet (a quarter of an hour on two cores
 * for all of them from nothing; then nothing).
 * @throws UserError when the machine lacks what a build needs: Go, a C compiler, packages
 */
export async function ensureTools<Name extends ToolName>(
  names: readonly Name[],
  progress: Progress,
): Promise<ToolPaths<Name>> {
  const wanted = RECIPES.filter((recipe) => names.some((name) => makes(recipe, name)));
  const folders = new Map<RecipeName, string>();
  for (const recipe of wanted) folders.set(recipe.name, path.join(store, await folderName(recipe)));
  const missing: Recipe[] = [];
  for (const recipe of wanted) if (!(await exists(folders.get(recipe.name) ?? ''))) missing.push(recipe);

  if (missing.length > 0) {
    await checkCompilers(missing);
    for (const recipe of missing)
      if (recipe.packages) await ensurePackages(recipe.packages, `to build ${recipe.name}`, progress);
    let left = missing.reduce((sum, recipe) => sum + recipe.cost, 0);
    for (const [index, recipe] of missing.entries()) {
      left -= recipe.cost;
      await build(recipe, folders.get(recipe.name) ?? '', progress, `${index + 1} of ${missing.length}`, left);
    }
  }
  return Object.fromEntries(
    names.map((name) => {
      const recipe = wanted.find((candidate) => makes(candidate, name));
      const folder = folders.get(recipe?.name ?? 'hyperkube') ?? '';
      return [name, name === 'cni' ? folder : path.join(folder, name)];
    }),
  ) as ToolPaths<Name>;
}

function makes(recipe: Recipe, name: ToolName): boolean {
  return name === 'cni' ? recipe.name === 'cni' : (BINARIES[recipe.name] as readonly string[]).includes(name);
}

/** `etcd-0123456789ab`: the name that the inputs of a recipe decide. Exported for its test. */
export function contentName(
  recipe: Recipe,
  files: readonly { readonly name: string; readonly content: string }[],
  platform: string,
): string {
  const hash = createHash('sha256');
  hash.update(JSON.stringify([platform, recipe.cgo ?? false, recipe.compilations, recipe.links ?? []]));
  for (const file of [...files].sort((a, b) => (a.name < b.name ? -1 : 1)))
    hash.update(JSON.stringify([file.name, file.content]));
  return `${recipe.name}-${hash.digest('hex').slice(0, 12)}`;
}

async function folderName(recipe: Recipe): Promise<string> {
  const folder = path.join(sources, recipe.folder);
  const files = await Promise.all(
    (await readdir(folder)).map(async (name) => ({ name, content: await readFile(path.join(folder, name), 'utf8') })),
  );
  return contentName(recipe, files, `${process.platform}-${process.arch}`);
}

async function build(recipe: Recipe, target: string, progress: Progress, count: string, laterCost: number) {
  await mkdir(store, { recursive: true });
  const step = progress.step(`building ${recipe.name} (${count})`);
  // Built beside its place and renamed: whoever looks sees all of it or nothing, also after a kill half-way.
  await removeAbandonedWork();
  const work = await mkdtemp(path.join(store, `${WORK_PREFIX}${process.pid}-`));
  try {
    const source = path.join(work, 'source');
    const output = path.join(work, 'output');
    await cp(path.join(sources, recipe.folder), source, { recursive: true });
    await mkdir(output);
    for (const compilation of recipe.compilations)
      await (recipe.language === 'go'
        ? compileGo(recipe, compilation, source, path.join(output, compilation.output), step, laterCost)
        : compileC(compilation, source, path.join(output, compilation.output)));
    for (const link of recipe.links ?? []) await symlink(recipe.compilations[0]?.output ?? '', path.join(output, link));
    await rename(output, target).catch((error: NodeJS.ErrnoException) => {
      // Another run finished the same thing first; its result is as good as ours.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
    step.done();
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Deletes what builds left that were killed. */
async function removeAbandonedWork(): Promise<void> {
  for (const name of await readdir(store)) {
    if (!name.startsWith(WORK_PREFIX)) continue;
    const pid = name.slice(WORK_PREFIX.length).split('-')[0] ?? '';
    if (!(await exists(`/proc/${pid}`))) await rm(path.join(store, name), { recursive: true, force: true });
  }
}

async function compileGo(
  recipe: Recipe,
  { source, tags, ldflags }: Compilation,
  cwd: string,
  output: string,
  step: Step,
  laterCost: number,
): Promise<void> {
  const env = { ...process.env, CGO_ENABLED: recipe.cgo ? '1' : '0', GOFLAGS: '-mod=readonly', GOWORK: 'off' };
  const flags = tags ? ['-tags', tags] : [];
  let downloads = 0;
  const onDownload = (line: string) => {
    if (line.startsWith('go: downloading')) step.update(`downloading modules: ${++downloads}`);
  };
  const listed = await tryCommand(['go', 'list', '-deps', ...flags, source], { cwd, env, onErrorLine: onDownload });
  const total = listed.stdout.split('\n').length;
  const begun = performance.now();
  // By what the build costs, or by the pace so far where that is slower, as on a busy machine.
  const estimate = (done: number, all: number) => {
    const byCost = (recipe.cost * Math.max(0, 1 - done / all)) / availableParallelism();
    const byPace = ((performance.now() - begun) / 1000 / done) * Math.max(0, all - done);
    return Math.max(byCost, done > 50 ? byPace : 0) + laterCost / availableParallelism();
  };
  let compiled = 0;
  const result = await tryCommand(
    goBuild([...flags, '-ldflags', ['-s -w', ldflags].filter(Boolean).join(' '), '-o', output, source]),
    {
      cwd,
      env,
      onErrorLine: (line) => {
        onDownload(line);
        if (!/^[\w./-]+$/.test(line)) return;
        compiled += 1;
        step.update(`${compiled} of ${total} packages`, estimate(compiled, total));
      },
    },
  );
  if (result.code !== 0)
    throw new Error(
      `go build of ${recipe.name} failed; run the command again when the network or disk is back:\n${lastLines(result.stderr)}`,
    );
}

/** Leaves the machine usable; `-v` names each package as it is compiled, but for those that the cache has. */
function goBuild(args: readonly string[]): string[] {
  return ['nice', '-n', '5', 'go', 'build', '-v', '-trimpath', '-buildvcs=false', ...args];
}

async function compileC({ source }: Compilation, cwd: string, output: string): Promise<void> {
  const flags = '-Os -static -nostdlib -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables'.split(' ');
  await runCommand(['cc', ...flags, '-o', output, source], { cwd });
}

async function checkCompilers(recipes: readonly Recipe[]): Promise<void> {
  const needed = recipes.filter((recipe) => recipe.language === 'go');
  if (needed.length === 0) return;
  const what = `to build ${needed.map((recipe) => recipe.name).join(', ')}`;
  if (!(await isInstalled('go')))
    throw new UserError(`Go is needed ${what} and "go" is not on the PATH: install it from https://go.dev/dl`);
  let directive = '';
  for (const recipe of needed) {
    const wanted = /^go (\S+)$/m.exec(await readFile(path.join(sources, recipe.folder, 'go.mod'), 'utf8'))?.[1] ?? '';
    if (isOlder(directive, wanted)) directive = wanted;
  }
  // Since 1.21 go fetches a newer toolchain on its own, unless GOTOOLCHAIN=local forbids it.
  const installed = (await runCommand(['go', 'env', 'GOVERSION'])).trim().replace(/^go/, '');
  const fetches = !isOlder(installed, '1.21') && (await runCommand(['go', 'env', 'GOTOOLCHAIN'])).trim() !== 'local';
  if (isOlder(installed, directive) && !fetches)
    throw new UserError(
      `Go ${directive} or later is needed ${what}, and ${installed} is installed: install a newer one from https://go.dev/dl, or let Go fetch it with GOTOOLCHAIN=auto.`,
    );
}

/** Whether the Go version `a` is older than `b`. Exported for its test. */
export function isOlder(a: string, b: string): boolean {
  const numbers = (version: string) => version.split(/[.a-z]+/).map(Number);
  const [x, y] = [numbers(a), numbers(b)];
  for (let index = 0; index < 3; index += 1) {
    const difference = (x[index] ?? 0) - (y[index] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}
