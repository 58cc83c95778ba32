import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AnswerReader, callSchema, type ReaderOptions } from './tool-calls.ts';

const OPTIONS: ReaderOptions = { tools: ['weather', 'time'], forced: false, single: false, thinking: undefined };

/** Reads a text in pieces of a size and puts together what came out. */
function read(text: string, change: Partial<ReaderOptions> = {}, size = 1) {
  const reader = new AnswerReader({ ...OPTIONS, ...change });
  const readings = [];
  for (let at = 0; at < text.length; at += size) readings.push(reader.push(text.slice(at, at + size)));
  readings.push(reader.end());
  return {
    thinking: readings.map((one) => one.thinking).join(''),
    text: readings.map((one) => one.text).join(''),
    calls: readings.flatMap((one) => one.calls),
  };
}

const oslo = { name: 'weather', arguments: { city: 'Oslo' } };
const now = { name: 'time', arguments: {} };

describe('calls are found', () => {
  const cases: [string, string, string, unknown[]][] = [
    ['no call', 'It is warm, 2 < 3.', 'It is warm, 2 < 3.', []],
    ['Hermes', '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>', '', [oslo]],
    [
      'Hermes after a text, two calls',
      'Let me see.\n<tool_call>{"name":"weather","arguments":{"city":"Oslo"}}</tool_call>\n<tool_call>{"name":"time","arguments":{}}</tool_call>',
      'Let me see.\n',
      [oslo, now],
    ],
    ['Hermes that ends without its closing tag', '<tool_call>{"name":"time","arguments":{}}', '', [now]],
    ['Llama 3', '{"name": "weather", "parameters": {"city": "Oslo"}}', '', [oslo]],
    ['Llama 3 with its tag', '<|python_tag|>{"name": "time", "parameters": {}}', '', [now]],
    ['Mistral', '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Oslo"}}]', '', [oslo]],
    ['arguments in a text', '{"name":"weather","arguments":"{\\"city\\":\\"Oslo\\"}"}', '', [oslo]],
    ['no arguments', '{"name":"time"}', '', [now]],
    ['in a fence', '```json\n{"name":"time","arguments":{}}\n```', '', [now]],
    ['JSON that is no call', '{"city": "Oslo"}', '{"city": "Oslo"}', []],
    ['a tool that is not on offer', '{"name":"rm","arguments":{}}', '{"name":"rm","arguments":{}}', []],
    ['broken JSON in the tag', '<tool_call>{"name"</tool_call> x', '<tool_call>{"name"</tool_call> x', []],
    ['a tag that stays half', 'a <tool_c', 'a <tool_c', []],
  ];
  test.each(cases)('%s', (_, answer, text, calls) => {
    for (const size of [1, 3, 1000]) expect(read(answer, {}, size)).toEqual({ thinking: '', text, calls });
  });

  test('one at most, where only one is wanted', () => {
    expect(read('[{"name":"time"},{"name":"weather"}]', { single: true }).calls).toEqual([now]);
  });

  test('text goes out as soon as it cannot be a call', () => {
    const reader = new AnswerReader(OPTIONS);
    expect(['Hi', ' <', 'b>'].map((piece) => reader.push(piece).text)).toEqual(['Hi', ' ', '<b>']);
  });
});

describe('thoughts', () => {
  test('are told from the answer, and may come before a call', () => {
    expect(read('<think>\nHm.\n</think>\n\nYes.', { thinking: 'allowed' })).toEqual({
      thinking: 'Hm.\n',
      text: 'Yes.',
      calls: [],
    });
    expect(read('Hm.</think>{"name":"time"}', { thinking: 'begun' })).toEqual({
      thinking: 'Hm.',
      text: '',
      calls: [now],
    });
    expect(read('Plain.', { thinking: 'allowed' })).toEqual({ thinking: '', text: 'Plain.', calls: [] });
  });

  test('are text where nobody asked', () => {
    expect(read('<think>a</think>', { tools: [] }).text).toBe('<think>a</think>');
  });
});

test('no text is lost or changed without tools, however it comes', () => {
  fc.assert(
    fc.property(fc.string(), fc.integer({ min: 1, max: 9 }), (text, size) => {
      expect(read(text, { tools: [] }, size).text).toBe(text);
    }),
  );
});

test('pieces of any size give the same reading', () => {
  const parts = fc.constantFrom(
    '<tool_call>',
    '</tool_call>',
    '{"name":"time"}',
    '<think>',
    '</think>',
    ' ',
    '\n',
    'a',
    '{',
    '[',
  );
  fc.assert(
    fc.property(fc.array(parts, { maxLength: 8 }), fc.integer({ min: 1, max: 9 }), (pieces, size) => {
      const text = pieces.join('');
      for (const thinking of [undefined, 'allowed', 'begun'] as const)
        expect(read(text, { thinking }, size)).toEqual(read(text, { thinking }, 1000));
    }),
  );
});

test('the schema of a call', () => {
  const parameters = { type: 'object' };
  const time = {
    type: 'object',
    properties: { name: { const: 'time' }, arguments: parameters },
    required: ['name', 'arguments'],
    additionalProperties: false,
  };
  expect(callSchema([{ name: 'time', parameters }])).toEqual(time);
  expect(
    callSchema([
      { name: 'time', parameters },
      { name: 'time', parameters },
    ]),
  ).toEqual({ anyOf: [time, time] });
});
