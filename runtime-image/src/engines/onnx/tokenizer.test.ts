/** Vocabularies of three families, small enough to be written down. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { OutputText } from '../output-text.ts';
import { readTokenizer, TextTokenizer } from './tokenizer.ts';

const special = (id: number, content: string) => ({ id, content, special: true, normalized: false });
const vocabulary = (words: readonly string[]) => Object.fromEntries(words.map((word, index) => [word, index]));

/** SentencePiece's kind: words carry the space before them, and unknown characters are bytes. */
function sentencePiece(): TextTokenizer {
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
  const words = ['<unk>', '<s>', '</s>', '<|user|>', ...bytes, '▁', 'h', 'i', 'hi', '▁hi', '<', '>', '/', 's'];
  return new TextTokenizer({
    tokenizer: {
      added_tokens: [special(0, '<unk>'), special(1, '<s>'), special(2, '</s>'), special(3, '<|user|>')],
      normalizer: {
        type: 'Sequence',
        normalizers: [
          { type: 'Prepend', prepend: '▁' },
          { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
        ],
      },
      pre_tokenizer: null,
      post_processor: {
        type: 'TemplateProcessing',
        single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
        pair: [{ Sequence: { id: 'A', type_id: 0 } }],
        special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
      },
      decoder: {
        type: 'Sequence',
        decoders: [
          { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
          { type: 'ByteFallback' },
          { type: 'Fuse' },
          { type: 'Strip', content: ' ', start: 1, stop: 0 },
        ],
      },
      model: {
        type: 'BPE',
        unk_token: '<unk>',
        byte_fallback: true,
        fuse_unk: true,
        vocab: vocabulary(words),
        merges: [
          ['h', 'i'],
          ['▁', 'hi'],
        ],
      },
    },
    config: { bos_token: { content: '<s>' }, eos_token: '</s>' },
    specialTokens: undefined,
  });
}

describe('a vocabulary with spaces in its words and bytes for the rest', () => {
  const tokenizer = sentencePiece();
  const text = (tokens: readonly number[], previous: readonly number[] = []) => tokenizer.detokenize(tokens, previous);

  test('the frame and the names of its tokens', () => {
    expect([tokenizer.frame, tokenizer.bosToken, tokenizer.eosToken]).toEqual([{ begin: [1], end: [] }, '<s>', '</s>']);
  });

  test('the space before the first word is no text, and that before the others is', () => {
    const [hi = 0] = tokenizer.tokenize('hi', false);
    expect([text([hi]), text([hi, hi]), text([hi], [hi]), text([hi], [1])]).toEqual(['hi', 'hi hi', ' hi', 'hi']);
  });

  test('special tokens are tokens for templates alone, and have no text', () => {
    expect(tokenizer.tokenize('<|user|>hi', true)[0]).toBe(3);
    expect(tokenizer.tokenize('</s><|user|>', false).some((token) => token < 4)).toBe(false);
    expect(text([3, ...tokenizer.tokenize('hi', false)])).toBe('hi');
    expect(Buffer.from(tokenizer.bytesOf(3)).toString()).toBe('<|user|>');
    expect(tokenizer.textBytes(3).length).toBe(0);
  });

  test('a character of several byte tokens comes whole', () => {
    const llama = tokenizer.tokenize('🦙', false);
    const output = new OutputText(tokenizer.detokenize, tokenizer.tokenize('hi', false), []);
    const parts = [...llama, ...tokenizer.tokenize('hi', false)].map((token) => output.push(token).text);
    expect(parts.join('')).toContain('🦙');
    for (const part of parts) expect(part).not.toContain('\ufffd');
  });
});

describe('a vocabulary that is a list of words', () => {
  let folder: string;
  let tokenizer: TextTokenizer;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'slm-vocabulary-'));
    await writeFile(
      path.join(folder, 'vocab.txt'),
      '[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhug\n##ging\nface\n[\n]\nsep\n',
    );
    tokenizer = new TextTokenizer(await readTokenizer(folder));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test('texts are cut as BERT cuts them, with what begins and ends them', () => {
    expect([tokenizer.tokenize('Hugging FACE', false), tokenizer.frame]).toEqual([[5, 6, 7], { begin: [2], end: [3] }]);
    expect([tokenizer.tokenize('[SEP]', false), tokenizer.tokenize('[SEP]', true)]).toEqual([[8, 10, 9], [3]]);
  });
});

test('a folder without a tokenizer says which file it lacks', async () => {
  await expect(readTokenizer('/nowhere')).rejects.toThrow('no tokenizer.json (nor vocab.txt): add it to source.files');
});

test('names of special tokens that a vocabulary knows as words are cut in two', () => {
  const tokenizer = new TextTokenizer({
    tokenizer: {
      added_tokens: [special(1, '</s>')],
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: { type: 'Metaspace', replacement: '▁' },
      model: {
        type: 'Unigram',
        unk_id: 0,
        vocab: [
          ['<unk>', 0],
          ['</s>', 0],
          ['<', -9],
          ['/', -9],
          ['s', -9],
          ['>', -9],
          ['</', -3],
          ['s>', -3],
        ],
      },
    },
    config: {},
    specialTokens: undefined,
  });
  expect(tokenizer.tokenize('</s>', true)).toEqual([1]);
  expect(tokenizer.tokenize('</s>', false)).not.toContain(1);
});
