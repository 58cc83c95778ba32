/** Against what Go and Ollama wrote, recorded; `go-template.clients.test.ts` asks them anew. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { ChatMessage } from '../../chat-template.ts';
import { GoChatTemplate } from '../go-chat-template.ts';
import { CASES, type ChatCase, type TemplateCase } from './cases.ts';
import { checkFunctions, evaluate } from './evaluator.ts';
import { TemplateError } from './lexer.ts';
import { parse } from './parser.ts';

const recorded = JSON.parse(readFileSync(path.join(import.meta.dirname, 'recorded.json'), 'utf8')) as readonly (
  | { readonly output: string }
  | { readonly error: true }
)[];

interface SentMessage {
  readonly role: ChatMessage['role'];
  readonly content: string;
  readonly thinking?: string;
  readonly tool_name?: string;
  readonly tool_call_id?: string;
  readonly tool_calls?: readonly {
    readonly id?: string;
    readonly function: { readonly name: string; readonly arguments: unknown };
  }[];
}

function chatOf(template: string, chat: ChatCase): string {
  const go = new GoChatTemplate(template, {});
  if (chat.suffix !== undefined)
    return (go.insert?.(chat.prompt ?? '', chat.suffix) ?? []).map((one) => one.text).join('');
  const messages = ((chat.messages ?? []) as readonly SentMessage[]).map(
    (one): ChatMessage => ({
      role: one.role,
      content: one.content,
      ...(one.thinking === undefined ? {} : { reasoning_content: one.thinking }),
      ...(one.tool_name === undefined ? {} : { name: one.tool_name }),
      ...(one.tool_call_id === undefined ? {} : { tool_call_id: one.tool_call_id }),
      ...(one.tool_calls === undefined
        ? {}
        : { tool_calls: one.tool_calls.map((call) => ({ ...call, type: 'function' as const })) }),
    }),
  );
  const variables = chat.isThinkSet === true ? { enable_thinking: chat.think === true } : {};
  return go
    .render(messages, { tools: chat.tools ?? [], variables })
    .map((one) => one.text)
    .join('');
}

function render({ template, data, chat }: TemplateCase): { output: string } | { error: true } {
  try {
    if (chat) return { output: chatOf(template, chat) };
    const tree = parse(template);
    checkFunctions(tree);
    return { output: evaluate(tree, data) };
  } catch (error) {
    if (error instanceof RangeError) throw error;
    return { error: true };
  }
}

describe('as Go and Ollama write it', () => {
  test.each(CASES.map((one, index) => [one.template, one, recorded[index]] as const))('%j', (_, one, expected) => {
    // Where a model's template has no place for what comes after, the model's own marks are used.
    if (one.chat?.suffix !== undefined && !one.template.includes('.Suffix')) return;
    expect(render(one)).toEqual(expected);
  });

  test('every case was recorded', () => expect(recorded).toHaveLength(CASES.length));
});

test('errors say the line', () => {
  const errors = ['{{ if .A }}\n\n{{ nofunc }}', 'a\n{{ .A', 'a\n\n{{ $x }}'].map((source) => {
    try {
      checkFunctions(parse(source));
    } catch (error) {
      return error instanceof TemplateError ? error.message : error;
    }
    return undefined;
  });
  expect(errors).toEqual([
    'line 3: {{if}} has no {{end}}',
    'line 2: an action is never closed with }}',
    'line 3: the variable $x is not defined',
  ]);
});

test('a template that never ends is stopped', () => {
  const list = Array.from({ length: 1000 }, () => 1);
  expect(() => evaluate(parse('{{range .}}{{range $}}{{range $}}x{{end}}{{end}}{{end}}'), list)).toThrow(
    'takes too long',
  );
  expect(() => evaluate(parse('{{range 1000000000000}}{{end}}'), list)).toThrow('takes too long');
  expect(() => parse('{{if 1}}'.repeat(5000))).toThrow('nested too deeply');
  expect(() => parse(`{{${'('.repeat(5000)}}}`)).toThrow('nested too deeply');
});

test('dates', () => {
  const now = () => Date.UTC(2026, 2, 1, 12);
  expect(evaluate(parse('{{ currentDate }} {{ yesterdayDate }}'), {}, now)).toBe('2026-03-01 2026-02-28');
});
