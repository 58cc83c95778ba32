/**
 * Whether an answer is what a smoke test expects. Expressions are matched in time linear in the answer (RE2), also those inside JSON
 * Schemas, so no test can hold up the operator. Pure; keeps no answer.
 */
import type { SmokeTest } from '@slm-operator/crds';
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import { RE2JS } from 're2js';
import { shorten } from '../text.ts';

/** Characters of an answer that a message may quote. */
const EXCERPT = 200;

/** What a test got. */
export interface Answer {
  /** Undefined where no text was asked for. */
  readonly text: string | undefined;
  /** Cosine with the golden answer; undefined where none was asked for. */
  readonly similarity: number | undefined;
}

export interface Verdict {
  readonly passed: boolean;
  /** 0 to 1: the similarity where one is asked for, else whether it passed. 0 when anything else than the similarity fails. */
  readonly score: number;
  /** What was expected, and a short excerpt of what came; undefined when all is well. */
  readonly message?: string | undefined;
}

/** Whether a text must be generated for this test. */
export function wantsText({ contains, regex, jsonSchema, similarity }: SmokeTest): boolean {
  return (
    contains !== undefined || regex !== undefined || jsonSchema !== undefined || similarity?.embedder !== undefined
  );
}

/** Why a test can never pass, as a sentence that says what to change; undefined when it is in order. */
export function problemOf(test: SmokeTest): string | undefined {
  const where = `strategy.analysis.smokeTests, ${test.name}`;
  if (test.regex !== undefined) {
    const found = compiled(test.regex);
    if (typeof found === 'string') return `${where}: regex is no RE2 expression: ${found}`;
  }
  if (test.jsonSchema !== undefined) {
    const found = schemaOf(test.jsonSchema);
    if (typeof found === 'string') return `${where}: jsonSchema ${found}`;
  }
  return undefined;
}

/** The JSON Schema of a test as an object; undefined where there is none, or it is none. */
export function schemaObject({ jsonSchema }: SmokeTest): Readonly<Record<string, unknown>> | undefined {
  const parsed = jsonSchema === undefined ? undefined : parse(jsonSchema);
  return isObject(parsed?.value) ? parsed.value : undefined;
}

/** Judges an answer. */
export function checkAnswer(test: SmokeTest, { text, similarity }: Answer): Verdict {
  const unmet = text === undefined ? undefined : (problemOf(test) ?? unmetBy(test, text));
  if (unmet !== undefined) return { passed: false, score: 0, message: unmet };
  if (test.similarity === undefined) return { passed: true, score: 1 };
  const { atLeast } = test.similarity;
  const score = Math.min(1, Math.max(0, similarity ?? 0));
  if (score >= atLeast) return { passed: true, score };
  const came = text === undefined ? '' : `: ${excerpt(text)}`;
  return {
    passed: false,
    score,
    message: `similarity ${score.toFixed(2)} to the golden answer, and at least ${atLeast} is expected${came}`,
  };
}

function unmetBy(test: SmokeTest, text: string): string | undefined {
  const { contains, regex, jsonSchema } = test;
  if (contains !== undefined && !text.toLowerCase().includes(contains.toLowerCase())) {
    return `the answer does not contain "${shorten(contains, 80)}": ${excerpt(text)}`;
  }
  if (regex !== undefined) {
    const expression = compiled(regex);
    if (typeof expression !== 'string' && !expression.matcher(text).find()) {
      return `the answer does not match ${shorten(regex, 80)}: ${excerpt(text)}`;
    }
  }
  if (jsonSchema === undefined) return undefined;
  const parsed = parse(text.trim());
  if (parsed === undefined) return `the answer is no JSON: ${excerpt(text)}`;
  const schema = schemaOf(jsonSchema);
  if (typeof schema === 'string' || schema(parsed.value)) return undefined;
  return `the answer does not meet the JSON Schema (${errorText(schema.errors?.[0])}): ${excerpt(text)}`;
}

function errorText(error: ErrorObject | undefined): string {
  return shorten(`${error?.instancePath === '' ? 'the whole' : error?.instancePath} ${error?.message}`, 100);
}

/** A short piece of an answer in one line, without characters that move a terminal. */
export function excerpt(text: string): string {
  const line = text.replace(/[\p{Cc}\p{Cf}\s]+/gu, ' ').trim();
  return line === '' ? 'it is empty' : `it says "${shorten(line, EXCERPT)}"`;
}

function compiled(expression: string): RE2JS | string {
  try {
    return RE2JS.compile(expression);
  } catch (error) {
    return reasonOf(error).replace(/^error parsing regexp: /, '');
  }
}

/** As ajv wants an engine for `pattern`; `code` is for schemas that are written out as programs, which none is here. */
const linear = Object.assign(
  (pattern: string) => {
    const expression = RE2JS.compile(pattern);
    return { test: (text: string) => expression.matcher(text).find() };
  },
  { code: 'RegExp' },
);

function schemaOf(text: string): ValidateFunction | string {
  const parsed = parse(text);
  if (parsed === undefined) return 'is no JSON';
  if (!isObject(parsed.value)) return 'is no JSON object';
  try {
    // A new one each time: it keeps every schema that it has seen. Formats are hints, and their expressions are not linear.
    const ajv = new Ajv({ strict: false, validateFormats: false, code: { regExp: linear } });
    return ajv.compile(parsed.value);
  } catch (error) {
    return `is no JSON Schema: ${shorten(reasonOf(error), 200)}`;
  }
}

function parse(text: string): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) as unknown };
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
