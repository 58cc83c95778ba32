import { expect, test } from 'vitest';
import { isTooDeep } from './limits.ts';

test.each<[string, string, boolean]>([
  ['a request', '{"messages":[{"role":"user","content":"hi"}]}', false],
  ['200 levels', '['.repeat(200) + ']'.repeat(200), false],
  ['201 levels', '['.repeat(201), true],
  ['201 levels of objects', '{"a":'.repeat(201), true],
  ['brackets in a text', JSON.stringify('['.repeat(500)), false],
  ['brackets in a text with quotes and backslashes', JSON.stringify('\\"[{'.repeat(500)), false],
  ['brackets after a text that ends with a backslash', `["\\\\",${'['.repeat(200)}`, true],
  ['many things side by side', `[${'[],{},'.repeat(1000)}0]`, false],
  ['a text without an end', '"\\', false],
  ['nothing', '', false],
])('%s', (_, json, deep) => {
  expect(isTooDeep(json)).toBe(deep);
});
