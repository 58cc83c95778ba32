/**
 * Runs templates through Go's text/template and Ollama's own package: the reference for ours. The program is built once into the
 * cache, under a name that its sources decide.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import type { TemplateCase } from '../../runtime-image/src/modelfile/go-template/cases.ts';
import { builtProgram } from './build.ts';

const SOURCES = path.join(import.meta.dirname, 'go');

export interface ReferenceResult {
  readonly output?: string;
  readonly error?: string;
}

/** What Go makes of each case. @throws Error with what the compiler or the program said */
export async function renderByReference(cases: readonly TemplateCase[]): Promise<readonly ReferenceResult[]> {
  const child = spawn(await builtProgram(SOURCES, 'templates'), { stdio: ['pipe', 'pipe', 'inherit'] });
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stdin.end(JSON.stringify(cases));
  const [code] = (await once(child, 'close')) as [number];
  if (code !== 0) throw new Error(`the reference ended with ${code}`);
  return JSON.parse(Buffer.concat(chunks).toString()) as ReferenceResult[];
}
