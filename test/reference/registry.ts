/**
 * A registry of the distribution project over a folder of its own, for tests of pull and push. The program is built once into the cache, under
 * a name that its sources decide.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { builtProgram } from './build.ts';

export interface RunningRegistry {
  /** Host and port. */
  readonly address: string;
  stop(): Promise<void>;
}

export async function startRegistry(): Promise<RunningRegistry> {
  const program = await builtProgram(path.join(import.meta.dirname, 'registry'), 'registry');
  const child = spawn(program, { stdio: ['pipe', 'pipe', 'ignore'] });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return {
    address: line.toString().trim(),
    stop: async () => {
      const ended = once(child, 'close');
      child.stdin.end();
      await ended;
    },
  };
}
