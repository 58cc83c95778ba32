/** `node test/reference/record.ts`: writes down what the reference makes of the templates' cases. Needs Go. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { CASES } from '../../runtime-image/src/modelfile/go-template/cases.ts';
import { repoRoot } from '../cache.ts';
import { runCommand } from '../cluster/command.ts';
import { renderByReference } from './ollama-template.ts';

/** Where the unit tests look. */
export const RECORDED = path.join(repoRoot, 'runtime-image/src/modelfile/go-template/recorded.json');

if (import.meta.main) {
  const results = await renderByReference(CASES);
  // What went wrong is for people; that something did is the contract.
  const kept = results.map(({ output }) => (output === undefined ? { error: true } : { output }));
  await writeFile(RECORDED, JSON.stringify(kept));
  await runCommand([path.join(repoRoot, 'node_modules/.bin/biome'), 'format', '--write', RECORDED], { cwd: repoRoot });
  process.stdout.write(`${results.length} results in ${path.relative(repoRoot, RECORDED)}\n`);
}
