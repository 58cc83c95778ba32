/** Owns llama.cpp's own server, compiled for this machine: what ours is compared with in benchmarks and tests. Never part of an image. */
import path from 'node:path';
import { type Compilation, type CompileOptions, compile } from './compile.ts';

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
  keep: ['bin/llama-server'],
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
