import { expect, test } from 'vitest';
import { tokenBytes } from './token-bytes.ts';

test.each([
  ['GPT-2 spells bytes', 'Ġcaf\u00c3\u00a9', 2, 0, ' café'],
  ['and control characters', 'Ċ', 2, 0, '\n'],
  ['SentencePiece marks spaces', '▁a▁b', 1, 0, ' a b'],
  ['special tokens are what they say', '<|▁Ġ|>', 2, 8, '<|▁Ġ|>'],
  ['other vocabularies are text', 'a▁b', 5, 0, 'a▁b'],
])('%s', (_, text, kind, attributes, said) => {
  expect(Buffer.from(tokenBytes(text, kind, attributes)).toString()).toBe(said);
});

test('byte tokens of SentencePiece are bytes', () => {
  expect([...tokenBytes('<0xF0>', 1, 32), ...tokenBytes('<0x0A>', 1, 32)]).toEqual([0xf0, 0x0a]);
});
