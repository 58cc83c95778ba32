/**
 * Owns the CPU backends of the server image: ggml's, compiled with OpenMP, one file for each generation of processors. ggml loads the
 * one that fits best. The prebuilt ones of node-llama-cpp start threads anew for every token, and hang when a core is shared.
 */
import { readlink, rename, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import { repoRoot } from '../cache.ts';
import { UserError } from '../cluster/errors.ts';
import { type Compilation, type CompileOptions, compile } from './compile.ts';

/** The steps in instruction sets that pay; each processor takes the highest that it has. The first runs everywhere. */
const VARIANTS: Partial<Record<NodeJS.Architecture, readonly string[]>> = {
  x64: ['x64', 'haswell', 'alderlake', 'skylakex', 'icelake', 'zen4', 'sapphirerapids'],
  arm64: ['armv8.0_1', 'armv8.2_2', 'armv8.2_3', 'armv8.6_1', 'armv8.6_2'],
};

/** Where a server that runs from the source tree looks for them: see native-files.ts there. */
const LINK = path.join(repoRoot, 'runtime-image', 'native', 'lib');

/**
 * Folder with the backends (`libggml-cpu-*.so`) and llama.cpp's licence; compiles them the first time, which takes two minutes on two
 * cores. From then on servers that run from the source tree use them too.
 * @throws UserError when the machine lacks what it needs
 */
export async function cpuBackends(options: CompileOptions = {}): Promise<string> {
  const folder = await compile(compilation(), options);
  await point(LINK, folder);
  return folder;
}

function compilation(): Compilation {
  const variants = VARIANTS[process.arch];
  if (!variants) throw new UserError(`there are no CPU backends for ${process.arch}: use x64 or arm64.`);
  const names = variants.map((variant) => `ggml-cpu-${variant}`);
  return {
    name: 'llama-cpu-backends',
    settings: {
      BUILD_SHARED_LIBS: 'ON',
      GGML_BACKEND_DL: 'ON',
      GGML_CPU_ALL_VARIANTS: 'ON',
      GGML_NATIVE: 'OFF',
      // They are loaded beside the binding's libggml-base.so, whose name has no version.
      CMAKE_PLATFORM_NO_VERSIONED_SONAME: 'ON',
      // Equal sources give equal files, wherever they are compiled, and no folder of this machine is in them.
      CMAKE_C_FLAGS: '-ffile-prefix-map={source}=llama.cpp',
      CMAKE_CXX_FLAGS: '-ffile-prefix-map={source}=llama.cpp',
      CMAKE_MODULE_LINKER_FLAGS: '-Wl,-s',
      CMAKE_SKIP_RPATH: 'ON',
      LLAMA_BUILD_COMMON: 'OFF',
      LLAMA_BUILD_TOOLS: 'OFF',
      LLAMA_BUILD_SERVER: 'OFF',
    },
    patches: ['amx-tile-configuration.patch', 'one-openmp-team.patch'],
    targets: names,
    keep: [...names.map((name) => `bin/lib${name}.so`), 'source/LICENSE'],
    native: false,
    cost: 200,
  };
}

/** Replaced at once, never missing in between. */
async function point(link: string, target: string): Promise<void> {
  if ((await readlink(link).catch(() => undefined)) === target) return;
  const work = `${link}.${process.pid}`;
  try {
    await symlink(target, work);
    await rename(work, link);
  } finally {
    await rm(work, { force: true });
  }
}
