import { describe, expect, test } from 'vitest';
import { inherited, readDefaults, readModelfile, writeModelfile } from './modelfile.ts';
import { parseInstructions } from './parser.ts';

test('every instruction, in whatever case, with comments and quotes of both kinds', () => {
  const text = `# A comment.
FROM ./model.gguf

parameter temperature 0.5
PARAMETER stop "<|im_end|>"
PARAMETER   stop   User:
PARAMETER num_ctx 4096
PARAMETER penalize_newline true
TEMPLATE """{{ if .System }}{{ .System }}
# not a comment{{ end }}
"{{ .Prompt }}" """
System """You are "Mario"."""
ADAPTER ./lora.gguf
MESSAGE user Is Toronto in Canada?
MESSAGE assistant """yes,
it is"""
LICENSE "two
lines"
LICENSE MIT
REQUIRES 0.14.0
`;
  expect(readModelfile(text)).toMatchInlineSnapshot(`
    {
      "defaults": {
        "adapters": [
          "./lora.gguf",
        ],
        "license": [
          "two
    lines",
          "MIT",
        ],
        "messages": [
          {
            "content": "Is Toronto in Canada?",
            "role": "user",
          },
          {
            "content": "yes,
    it is",
            "role": "assistant",
          },
        ],
        "parameters": {
          "num_ctx": 4096,
          "penalize_newline": true,
          "stop": [
            "<|im_end|>",
            "User:",
          ],
          "temperature": 0.5,
        },
        "system": "You are "Mario".",
        "template": "{{ if .System }}{{ .System }}
    # not a comment{{ end }}
    "{{ .Prompt }}" ",
      },
      "from": "./model.gguf",
    }
  `);
});

test('line ends of every kind, a byte order mark, and no last line end', () => {
  expect(parseInstructions('\uFEFFFROM a\r\nSYSTEM b\rLICENSE c')).toEqual([
    { name: 'FROM', value: 'a', line: 1 },
    { name: 'SYSTEM', value: 'b', line: 2 },
    { name: 'LICENSE', value: 'c', line: 3 },
  ]);
});

test('what people write for other hardware and other servers', () => {
  const text = 'FROM qwen2.5:3b\nPARAMETER context_length 4096\nPARAMETER num_gpu 1\nPARAMETER num_thread 8\n';
  expect(readModelfile(text).defaults.parameters).toEqual({ num_ctx: 4096, num_gpu: 1, num_thread: 8 });
});

describe('what is wrong is named with its line', () => {
  const cases: [string, string][] = [
    ['FROM a\nBASE b', 'line 2 of the Modelfile: "BASE" is no instruction: FROM, PARAMETER, TEMPLATE,'],
    ['FILE ./a.txt', 'line 1 of the Modelfile: FILE is no instruction: write what the model should know into SYSTEM'],
    ['\nFROM', 'line 2 of the Modelfile: FROM needs a value'],
    ['FROM a\nFROM b', 'line 2 of the Modelfile: there is a second FROM: one model is enough'],
    ['SYSTEM """a\nb', 'line 1 of the Modelfile: the quotes of SYSTEM are never closed'],
    ['PARAMETER', 'line 1 of the Modelfile: PARAMETER needs a name and a value'],
    ['PARAMETER stop', 'line 1 of the Modelfile: PARAMETER needs a value'],
    ['# \nPARAMETER speed 1', 'line 2 of the Modelfile: speed is not a parameter: check its spelling'],
    ['PARAMETER top_k many', 'line 1 of the Modelfile: top_k must be a whole number'],
    ['PARAMETER mirostat 2', 'line 1 of the Modelfile: mirostat cannot be 2: mirostat is not supported; leave it out'],
    ['MESSAGE tool x', 'line 1 of the Modelfile: the role of MESSAGE must be system, user, assistant, not tool'],
    ['RENDERER qwen3', 'line 1 of the Modelfile: RENDERER names a program inside Ollama, which this server has not'],
  ];
  test.each(cases)('%j', (text, message) => {
    expect(() => readModelfile(text)).toThrow(message);
  });
});

test('as JSON: the same fields, checked likewise', () => {
  expect(readDefaults({ parameters: { temperature: 0, stop: ['a'] }, license: 'MIT', system: '' })).toEqual({
    parameters: { temperature: 0, stop: ['a'] },
    messages: [],
    license: ['MIT'],
    adapters: [],
  });
  expect(() => readDefaults({ parameters: { temperatur: 0 } })).toThrow('temperatur is not a parameter');
  expect(() => readDefaults({ messages: [{ role: 'tool', content: '' }] })).toThrow('messages[0].role must be system');
});

test('a model made from another takes over what it does not say itself', () => {
  const base = readModelfile('FROM a\nPARAMETER top_k 5\nPARAMETER seed 1\nSYSTEM base\nMESSAGE user hi').defaults;
  const own = readModelfile('FROM base\nPARAMETER seed 2\nLICENSE MIT').defaults;
  expect(inherited(own, base)).toMatchObject({
    parameters: { top_k: 5, seed: 2 },
    system: 'base',
    messages: [{ role: 'user', content: 'hi' }],
    license: ['MIT'],
  });
});

test('written down, it reads the same', () => {
  const defaults = readDefaults({
    parameters: { temperature: 0.5, stop: ['<|end|>', ' ', 'a "b"'], num_ctx: 10 },
    system: 'two\nlines',
    template: '{{ .Prompt }}',
    messages: [{ role: 'user', content: '"quoted"' }],
    license: ['MIT', 'more\ntext'],
  });
  const text = writeModelfile('./a.gguf', defaults);
  expect(readModelfile(text)).toEqual({ from: './a.gguf', defaults });
});
