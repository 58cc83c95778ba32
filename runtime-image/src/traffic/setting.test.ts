import { describe, expect, test } from 'vitest';
import { readSetting } from './setting.ts';

const good = { weight: 10, address: '10.96.0.7:11434', revision: '0123456789' };

describe('nothing is passed on', () => {
  test.each(['', ' \n', '{}', '{}\n'])('with %j', (text) => {
    expect(readSetting(text)).toBeUndefined();
  });
});

test.each<[string, object, object]>([
  ['IPv4', good, { weight: 10, host: '10.96.0.7', port: 11_434, revision: '0123456789' }],
  [
    'IPv6',
    { ...good, address: '[fd00::7]:11434' },
    { weight: 10, host: 'fd00::7', port: 11_434, revision: '0123456789' },
  ],
  [
    'nothing of it, so far',
    { ...good, weight: 0 },
    { weight: 0, host: '10.96.0.7', port: 11_434, revision: '0123456789' },
  ],
  ['a fraction', { ...good, weight: 0.5 }, { weight: 0.5, host: '10.96.0.7', port: 11_434, revision: '0123456789' }],
  [
    'fields of a later operator',
    { ...good, more: true },
    { weight: 10, host: '10.96.0.7', port: 11_434, revision: '0123456789' },
  ],
])('%s', (_, value, target) => {
  expect(readSetting(JSON.stringify(value))).toEqual(target);
});

test.each<[string, string, string]>([
  ['no JSON', '{', 'it is no JSON object'],
  ['another type', '7', 'it is no JSON object'],
  ['far too much', `{"x":"${'x'.repeat(5000)}"}`, 'it is no JSON object'],
  ['no weight', JSON.stringify({ ...good, weight: undefined }), 'its weight is no number from 0 to 100'],
  ['a weight above all', JSON.stringify({ ...good, weight: 101 }), 'its weight is no number from 0 to 100'],
  ['a weight in words', JSON.stringify({ ...good, weight: '10' }), 'its weight is no number from 0 to 100'],
  [
    'a name, which somebody else may answer',
    JSON.stringify({ ...good, address: 'chat:11434' }),
    'its address is no IP:PORT',
  ],
  ['a URL', JSON.stringify({ ...good, address: 'http://10.0.0.1:1' }), 'its address is no IP:PORT'],
  ['no port', JSON.stringify({ ...good, address: '10.0.0.1' }), 'its address is no IP:PORT'],
  ['a port that is none', JSON.stringify({ ...good, address: '10.0.0.1:70000' }), 'its address is no IP:PORT'],
  ['a revision with a line break', JSON.stringify({ ...good, revision: 'a\nb' }), 'its revision is none'],
])('%s is refused', (_, text, sentence) => {
  expect(readSetting(text)).toBe(sentence);
});
