/** What was recorded is what Go and Ollama's package say today. */
import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { CASES } from '../../runtime-image/src/modelfile/go-template/cases.ts';
import { checkFunctions, evaluate } from '../../runtime-image/src/modelfile/go-template/evaluator.ts';
import { TemplateError } from '../../runtime-image/src/modelfile/go-template/lexer.ts';
import { parse } from '../../runtime-image/src/modelfile/go-template/parser.ts';
import { isInstalled } from '../cluster/command.ts';
import { renderByReference } from './ollama-template.ts';
import { RANDOM_DATA, randomTemplates } from './random-templates.ts';
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

test.skipIf(!(await isInstalled('go'))).each([1, 2, 3, 4, 5])(
  'templates made at random, series %i (needs Go on the PATH)',
  async (seed) => {
    const cases = randomTemplates(seed, 3000).map((template) => ({ template, data: RANDOM_DATA }));
    const expected = await renderByReference(cases);
    const rendered = cases.map(({ template }) => {
      try {
        const tree = parse(template);
        checkFunctions(tree);
        return { template, output: evaluate(tree, RANDOM_DATA) };
      } catch (error) {
        if (error instanceof TemplateError) return { template, output: undefined };
        throw error;
      }
    });
    const different = rendered.filter(({ output }, index) => output !== expected[index]?.output);
    expect(different).toEqual([]);
    // Most are wrong on purpose; enough are not.
    expect(rendered.filter(({ output }) => output !== undefined).length).toBeGreaterThan(500);
  },
  600_000,
);
