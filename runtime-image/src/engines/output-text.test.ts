import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { OutputText } from './output-text.ts';

/** Bytes are tokens. */
const detokenize = (tokens: readonly number[]) => Buffer.from(tokens).toString();

function feed(text: string | number[], stops: string[] = []): { pieces: string[]; stopped: boolean } {
  const output = new OutputText(detokenize, [], stops);
  const pieces: string[] = [];
  for (const byte of typeof text === 'string' ? Buffer.from(text) : text) {
    const piece = output.push(byte);
    if (piece.text !== '') pieces.push(piece.text);
    if (piece.stopped) return { pieces, stopped: true };
  }
  const rest = output.end();
  return { pieces: rest === '' ? pieces : [...pieces, rest], stopped: false };
}

describe('characters', () => {
  test('are never cut', () => {
    expect(feed('aé🦙.').pieces).toEqual(['a', 'é', '🦙', '.']);
  });

  test('that never end are dropped at the end, and bytes that are none become the replacement character', () => {
    expect(feed([0x61, 0xc3]).pieces).toEqual(['a']);
    expect(feed([0xff, 0xff, 0xff, 0xff, 0x61]).pieces).toEqual(['\ufffd\ufffd\ufffd\ufffd', 'a']);
  });

  test('a replacement character that the model means is kept', () => {
    expect(feed('\ufffd!').pieces.join('')).toBe('\ufffd!');
  });
});

describe('stop texts', () => {
  test('end the text before them', () => {
    expect(feed('one\ntwo', ['\n'])).toEqual({ pieces: ['o', 'n', 'e'], stopped: true });
  });

  test('the one that came first is known afterwards', () => {
    const output = new OutputText(detokenize, [], ['b', 'ab']);
    for (const byte of Buffer.from('xab')) output.push(byte);
    expect(output.met).toBe('ab');
  });

  test('are held back only as long as they may still come', () => {
    expect(feed('a<|b<|end', ['<|end|>'])).toEqual({ pieces: ['a', '<|b', '<|end'], stopped: false });
  });

  test('the first in the text wins, not the first in the list', () => {
    expect(feed('abcdef', ['ef', 'cd'])).toEqual({ pieces: ['a', 'b'], stopped: true });
  });

  test('whatever the text and wherever tokens end, the answer is what stands before the first stop text', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', 'é', '🦙'), maxLength: 30 });
    const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'é'), minLength: 1, maxLength: 4 }), {
      maxLength: 3,
    });
    fc.assert(
      fc.property(text, stops, (whole, list) => {
        const found = list.map((stop) => whole.indexOf(stop)).filter((index) => index >= 0);
        // Of two stop texts that overlap, the one that is complete first ends the answer.
        const { pieces, stopped } = feed(whole, list);
        const answer = pieces.join('');
        expect(stopped).toBe(found.length > 0);
        expect(whole.startsWith(answer)).toBe(true);
        for (const stop of list) expect(answer.includes(stop)).toBe(false);
        if (found.length > 0) expect(list.some((stop) => whole.startsWith(stop, answer.length))).toBe(true);
        else expect(answer).toBe(whole);
      }),
    );
  });
});

test('what stands before decides about the space of the first word', () => {
  const spaced = (tokens: readonly number[], previous: readonly number[]) =>
    `${previous.length > 0 ? ' ' : ''}${tokens.map((token) => `w${token}`).join(' ')}`;
  expect(new OutputText(spaced, [1, 2], []).push(3).text).toBe(' w3');
});
