/** Owns llama.cpp's own server, compiled for this machine: what ours is compared with in benchmarks and tests. Never part of an image. */
import { mkdir, symlink } from 'node:fs/promises';
import path from 'node:path';
import { runCommand } from '../cluster/command.ts';
import { type Compilation, type CompileOptions, compile } from './compile.ts';

/** The server without llama.cpp and ggml below it, for linking it to other ones. */
const PARTS = [
  'tools/server/CMakeFiles/llama-server.dir/main.cpp.o',
  'tools/server/libllama-server-impl.a',
  'tools/server/libserver-context.a',
  'common/libllama-common.a',
  'common/libllama-common-base.a',
  'tools/mtmd/libmtmd.a',
  'tools/ui/libllama-ui.a',
  'vendor/hash/libvendor-hash.a',
  'vendor/cpp-httplib/libcpp-httplib.a',
];

const LLAMA_SERVER: Compilation = {
  name: 'llama-server',
  settings: {
    BUILD_SHARED_LIBS: 'OFF',
    // As whoever compiles it for a machine does; the peer shall be at its best.
    GGML_NATIVE: 'ON',
    LLAMA_BUILD_TOOLS: 'ON',
    LLAMA_BUILD_SERVER: 'ON',
  },
  // Without it GCC compiles a program that ends at the first AMX instruction.
  patches: ['amx-tile-configuration.patch'],
  targets: ['llama-server'],
  keep: ['bin/llama-server', ...PARTS],
  native: true,
  cost: 560,
};

/**
 * Path of llama-server; compiles it the first time, which takes five minutes on two cores.
 * @throws UserError when the machine lacks what it needs
 */
export async function llamaServer(options: CompileOptions = {}): Promise<string> {
  return path.join(await compile(LLAMA_SERVER, options), 'llama-server');
}

/**
 * Links llama-server to shared libraries that are there already: ours and it then compute with the same machine code, and so to the
 * last bit alike. Takes less than a second.
 * @param libraries paths of libllama, libggml and libggml-base, and of the CPU backend to load
 * @param folder an empty folder; the program and links to the libraries come to lie in it
 * @returns path of the program
 * @throws UserError when the machine lacks what it needs
 */
export async function linkLlamaServer(
  libraries: readonly string[],
  folder: string,
  options: CompileOptions = {},
): Promise<string> {
  const compiled = await compile(LLAMA_SERVER, options);
  await mkdir(folder, { recursive: true });
  for (const library of libraries) await symlink(library, path.join(folder, path.basename(library)));
  const program = path.join(folder, 'llama-server');
  const [main = '', ...archives] = PARTS.map((part) => path.join(compiled, path.basename(part)));
  // Backends are loaded while it runs, from the folder of the program.
  const linked = libraries.filter((library) => !path.basename(library).startsWith('libggml-cpu'));
  const objects = [main, '-Wl,--start-group', ...archives, '-Wl,--end-group', ...linked];
  await runCommand(['g++', '-o', program, ...objects, '-lpthread', '-ldl', '-lm', '-Wl,-rpath,$ORIGIN']);
  return program;
}
