/** `node test/reference/record.ts`: writes down what the reference makes of the templates' cases. Needs Go. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { CASES } from '../../runtime-image/src/modelfile/go-template/cases.ts';
import { repoRoot } from '../cache.ts';
import { renderByReference } from './ollama-template.ts';

/** Where the unit tests look. */
export const RECORDED = path.join(repoRoot, 'runtime-image/src/modelfile/go-template/recorded.json');

if (import.meta.main) {
  const results = await renderByReference(CASES);
  // What went wrong is for people; that something did is the contract.
  const lines = results.map((one) =>
    JSON.stringify(one.output === undefined ? { error: true } : { output: one.output }),
  );
  await writeFile(RECORDED, `[\n${lines.map((line) => `  ${line}`).join(',\n')}\n]\n`);
  process.stdout.write(`${results.length} results in ${path.relative(repoRoot, RECORDED)}\n`);
}
