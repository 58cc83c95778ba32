/**
 * The test model with a chat template that knows tools: SmolLM2's own has no place for them. The template shows the model
 * conversations with calls, one or two as the question asks, which even 135 M weights imitate. Owns the copy in the cache; the tensors are untouched.
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, open, readFile, rename, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { cacheDir } from '../cache.ts';
import { smollm2 } from '../fixtures/models.ts';

const turn = (role: string, text: string) => `<|im_start|>${role}\n${text}<|im_end|>\n`;
const weatherOf = (city: string) => `<tool_call>{"name": "get_weather", "arguments": {"city": "${city}"}}</tool_call>`;

const PAIRS = [
  ['Oslo', 'Lima'],
  ['Rome', 'Wien'],
  ['Bonn', 'Kyiv'],
] as const;

const TEMPLATE = [
  '{% if tools %}',
  turn('system', 'You call functions:{% for tool in tools %} {{ tool.function.name }}{% endfor %}'),
  "{% if ' and ' in messages[-1].content %}",
  ...PAIRS.flatMap(([one, other]) => [
    turn('user', `What is the weather in ${one} and in ${other}?`),
    turn('assistant', weatherOf(one) + weatherOf(other)),
  ]),
  '{% else %}',
  turn('user', 'What is the weather in Rome?'),
  turn('assistant', weatherOf('Rome')),
  '{% endif %}',
  "{% elif messages[0].role != 'system' %}",
  turn('system', 'You are a helpful AI assistant named SmolLM, trained by Hugging Face'),
  '{% endif %}',
  '{% for message in messages %}',
  '<|im_start|>{{ message.role }}\n{{ message.content }}',
  '{% if message.tool_calls %}',
  '{% for call in message.tool_calls %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}',
  '{% endif %}<|im_end|>\n',
  '{% endfor %}',
  '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}',
].join('');

const KEY = 'tokenizer.chat_template';
/** Tensors begin at multiples of it. */
const ALIGNMENT = 32;
/** The header with its vocabulary ends before this many bytes. */
const HEADER_LIMIT = 8 * 1024 * 1024;

/** Path of SmolLM2-135M-Instruct with a template for tools. Written once. */
export async function modelWithTools(): Promise<string> {
  const { path: original, size } = await smollm2();
  const name = `smollm2-tools-${createHash('sha256').update(TEMPLATE).digest('hex').slice(0, 12)}.gguf`;
  const file = path.join(cacheDir, 'clients', name);
  if ((await stat(file).catch(() => undefined)) !== undefined) return file;
  const head = Buffer.alloc(Math.min(size, HEADER_LIMIT));
  const handle = await open(original);
  await handle.read(head, 0, head.byteLength, 0);
  await handle.close();
  // The key, the number of the type "text" in four bytes, the length in eight, the text.
  const at = head.indexOf(KEY) + KEY.length + 4;
  if (at < KEY.length + 4) throw new Error(`${original} has no ${KEY}`);
  const before = Number(head.readBigUInt64LE(at));
  // What follows keeps its place in the grid when the header grows by whole steps; a comment fills up.
  const bare = Buffer.byteLength(TEMPLATE);
  const padding = (ALIGNMENT * 2 - ((bare - before) % ALIGNMENT)) % ALIGNMENT;
  const text = Buffer.from(TEMPLATE + padded(padding));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.byteLength));
  const bytes = await readFile(original);
  await mkdir(path.dirname(file), { recursive: true });
  const work = `${file}.${randomUUID()}`;
  await writeFile(work, Buffer.concat([bytes.subarray(0, at), length, text, bytes.subarray(at + 8 + before)]));
  await rename(work, file);
  return file;
}

function padded(length: number): string {
  const whole = length < 4 ? length + ALIGNMENT : length;
  return length === 0 ? '' : `{#${' '.repeat(whole - 4)}#}`;
}
