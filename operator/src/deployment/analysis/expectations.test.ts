import type { SmokeTest } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import { checkAnswer, problemOf } from './expectations.ts';

const test = (expected: Partial<SmokeTest>): SmokeTest => ({
  name: 'capital',
  prompt: 'Capital of France?',
  ...expected,
});
const schema = JSON.stringify({
  type: 'object',
  properties: { city: { type: 'string', pattern: '^P' } },
  required: ['city'],
});

describe('an answer', () => {
  const rows: [string, Partial<SmokeTest>, string, string | undefined][] = [
    ['contains a text, whatever its letters', { contains: 'paris' }, 'It is PARIS.', undefined],
    [
      'does not contain it',
      { contains: 'Paris' },
      'Lyon,\n\u001b[31m of course.',
      'the answer does not contain "Paris": it says "Lyon, [31m of course."',
    ],
    [
      'that is empty contains nothing',
      { contains: 'Paris' },
      ' \n',
      'the answer does not contain "Paris": it is empty',
    ],
    ['matches somewhere', { regex: String.raw`\bPar[a-z]s\b` }, 'It is Paris.', undefined],
    [
      'does not match',
      { regex: '^Paris$' },
      'It is Paris.',
      'the answer does not match ^Paris$: it says "It is Paris."',
    ],
    ['meets a JSON Schema', { jsonSchema: schema }, ' {"city": "Paris"}\n', undefined],
    ['is no JSON', { jsonSchema: schema }, 'Paris', 'the answer is no JSON: it says "Paris"'],
    [
      'does not meet the JSON Schema',
      { jsonSchema: schema },
      '{"city": "Lyon"}',
      'the answer does not meet the JSON Schema (/city must match pattern "^P"): it says "{"city": "Lyon"}"',
    ],
    [
      'must meet all that is expected',
      { contains: 'Paris', regex: 'Lyon' },
      'Paris',
      'the answer does not match Lyon: it says "Paris"',
    ],
  ];
  it.each(rows)('%s', (_, expected, text, message) => {
    const verdict = checkAnswer(test(expected), { text, similarity: undefined });
    expect(verdict).toEqual(message === undefined ? { passed: true, score: 1 } : { passed: false, score: 0, message });
  });

  it('is quoted by 200 characters at most', () => {
    const { message = '' } = checkAnswer(test({ contains: 'x' }), {
      text: 'secret '.repeat(1000),
      similarity: undefined,
    });
    expect(message.length).toBeLessThan(260);
  });
});

describe('similarity', () => {
  const similar = test({ similarity: { to: 'Paris', atLeast: 0.8, embedder: 'embed' } });
  it('is the score', () => {
    expect(checkAnswer(similar, { text: 'Paris', similarity: 0.91 })).toEqual({ passed: true, score: 0.91 });
  });
  it('below what is expected fails with both numbers', () => {
    expect(checkAnswer(similar, { text: 'Rome', similarity: 0.42 })).toEqual({
      passed: false,
      score: 0.42,
      message: 'similarity 0.42 to the golden answer, and at least 0.8 is expected: it says "Rome"',
    });
  });
  it('of an embedding model quotes nothing', () => {
    const { message } = checkAnswer(similar, { text: undefined, similarity: -0.1 });
    expect(message).toBe('similarity 0.00 to the golden answer, and at least 0.8 is expected');
  });
});

describe('a test that can never pass', () => {
  const rows: [string, Partial<SmokeTest>, RegExp][] = [
    [
      'for its expression',
      { regex: '(unclosed' },
      /^strategy.analysis.smokeTests, capital: regex is no RE2 expression: missing closing/,
    ],
    ['for what RE2 does not have', { regex: '(?=Paris)' }, /invalid or unsupported Perl syntax/],
    ['for a size that would take all memory', { regex: '(a{1000}){1000}' }, /invalid repeat count/],
    ['for its JSON', { jsonSchema: '{"type":' }, /capital: jsonSchema is no JSON$/],
    ['for JSON that is no schema', { jsonSchema: '[1]' }, /is no JSON object/],
    ['for a schema that means nothing', { jsonSchema: '{"type": "text"}' }, /is no JSON Schema: schema is invalid/],
    ['for a pattern in a schema', { jsonSchema: '{"pattern": "(?=a)"}' }, /is no JSON Schema/],
    ['for a schema elsewhere', { jsonSchema: '{"$ref": "https://example.com/x.json"}' }, /can't resolve reference/],
  ];
  it.each(rows)('is told %s', (_, expected, sentence) => {
    expect(problemOf(test(expected))).toMatch(sentence);
  });
  it('is not told of one that can', () => {
    expect(problemOf(test({ regex: '(?i)paris', jsonSchema: schema }))).toBeUndefined();
  });
});

it('an expression that makes others try for ever is done at once', () => {
  const text = `${'a'.repeat(20_000)}!`;
  const pattern = '^(a+)+$';
  for (const expected of [{ regex: pattern }, { jsonSchema: JSON.stringify({ type: 'string', pattern }) }]) {
    const said = 'jsonSchema' in expected ? JSON.stringify(text) : text;
    expect(checkAnswer(test(expected), { text: said, similarity: undefined }).passed).toBe(false);
  }
});
