/** What was recorded is what Go and Ollama's package say today. */
import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { CASES } from '../../runtime-image/src/modelfile/go-template/cases.ts';
import { isInstalled } from '../cluster/command.ts';
import { renderByReference } from './ollama-template.ts';
import { RECORDED } from './record.ts';

test.skipIf(!(await isInstalled('go')))(
  'the recorded templates are those of the reference (needs Go on the PATH)',
  async () => {
    const recorded = JSON.parse(await readFile(RECORDED, 'utf8')) as unknown;
    const results = await renderByReference(CASES);
    expect(results.map(({ output }) => (output === undefined ? { error: true } : { output }))).toEqual(recorded);
  },
  600_000,
);
