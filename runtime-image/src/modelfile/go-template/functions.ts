/**
 * The functions that templates may call: Go's own and Ollama's. Pure, but for the date, which is given.
 */
import { printf } from './format.ts';
import { TemplateError } from './lexer.ts';
import { bare, isMap, isTrue, Struct, shown, toJson, typeOf, type Value } from './values.ts';

/** Milliseconds since 1970. */
export type Clock = () => number;

export type GoFunction = (args: readonly Value[], now: Clock) => Value;

/** Evaluated one by one, as far as need be. */
export const LAZY = ['and', 'or'];

const DAY = 86_400_000;

const needs = (name: string, args: readonly Value[], least: number, most = least): void => {
  if (args.length < least || args.length > most)
    throw new TemplateError(
      `${name} takes ${least === most ? least : `${least} to ${most}`} arguments and got ${args.length}`,
    );
};

type Kind = 'bool' | 'int' | 'float' | 'string' | 'other';
function kindOf(value: Value): Kind {
  switch (typeof value) {
    case 'boolean':
      return 'bool';
    case 'bigint':
      return 'int';
    case 'number':
      return 'float';
    case 'string':
      return 'string';
    default:
      return 'other';
  }
}

const isNil = (value: Value) => value === null || value === undefined;

function equal(a: Value, b: Value): boolean {
  const kind = kindOf(a);
  if (kind !== kindOf(b)) {
    if (isNil(a) || isNil(b)) return false;
    throw new TemplateError(`incompatible types for comparison: ${typeOf(a)} and ${typeOf(b)}`);
  }
  if (kind !== 'other') return a === b;
  if (isNil(a) || isNil(b)) return isNil(a) && isNil(b);
  throw new TemplateError(`${typeOf(a)} cannot be compared`);
}

function less(name: string, a: Value, b: Value): boolean {
  const kind = kindOf(a);
  if (kind === 'other' || kind === 'bool' || isNil(b)) throw new TemplateError(`${name} compares numbers and strings`);
  if (kind !== kindOf(b)) throw new TemplateError(`incompatible types for comparison: ${typeOf(a)} and ${typeOf(b)}`);
  if (typeof a === 'string') return Buffer.compare(Buffer.from(a), Buffer.from(b as string)) < 0;
  return (a as number) < (b as number);
}

function eq(args: readonly Value[]): boolean {
  const [first, ...rest] = args;
  if (rest.length === 0) throw new TemplateError('eq takes at least 2 arguments');
  return rest.some((one) => equal(first, one));
}

function whole(value: Value): number {
  if (typeof value === 'bigint') return Number(value);
  throw new TemplateError(`cannot index with a ${typeOf(value)}`);
}

function index(args: readonly Value[]): Value {
  const [item, ...keys] = args;
  let current = bare(item);
  if (isNil(current)) throw new TemplateError('index of nothing');
  for (const key of keys) {
    if (Array.isArray(current) || typeof current === 'string') {
      const list = typeof current === 'string' ? [...Buffer.from(current)].map(BigInt) : (current as Value[]);
      const at = whole(key);
      if (at < 0 || at >= list.length) throw new TemplateError(`index out of range: ${at}`);
      current = bare(list[at]);
    } else if (isMap(current)) {
      if (typeof key !== 'string') throw new TemplateError(`the key of a map must be a string, not a ${typeOf(key)}`);
      current = Object.hasOwn(current, key) ? bare(current[key]) : undefined;
    } else throw new TemplateError(`cannot index a ${typeOf(current)}`);
  }
  return current;
}

function slice(args: readonly Value[]): Value {
  const [item, ...bounds] = args;
  const value = bare(item);
  const list = typeof value === 'string' ? Buffer.from(value) : value;
  if (!Array.isArray(list) && !Buffer.isBuffer(list)) throw new TemplateError(`cannot slice a ${typeOf(value)}`);
  if (bounds.length > 2) throw new TemplateError('slice takes at most 3 arguments');
  const [from = 0, to = list.length] = bounds.map(whole);
  if (from < 0 || to > list.length || from > to) throw new TemplateError(`slice out of range: ${from}:${to}`);
  return Buffer.isBuffer(list) ? list.subarray(from, to).toString() : (list as Value[]).slice(from, to);
}

function len(args: readonly Value[]): bigint {
  needs('len', args, 1);
  const value = bare(args[0]);
  if (typeof value === 'string') return BigInt(Buffer.byteLength(value));
  if (Array.isArray(value)) return BigInt(value.length);
  if (isMap(value)) return BigInt(Object.keys(value).length);
  throw new TemplateError(`len of a ${typeOf(value)}`);
}

/** Sprint: a space between two of which neither is a string. */
function print(args: readonly Value[]): string {
  return args
    .map((value, at) => {
      const before = args[at - 1];
      const apart = at > 0 && typeof value !== 'string' && typeof before !== 'string';
      return (apart ? ' ' : '') + shown(value);
    })
    .join('');
}

/** What html and urlquery escape: what an action would write. */
const text = (args: readonly Value[]) => print(args.map((value) => value ?? '<no value>'));

const HTML: Readonly<Record<string, string>> = {
  '<': '&lt;',
  '>': '&gt;',
  '&': '&amp;',
  '"': '&#34;',
  "'": '&#39;',
  '\0': '\ufffd',
};

/** A property of a tool's parameters as TypeScript would write its type. */
function typeScriptType(value: Value): string {
  if (!(value instanceof Struct)) return 'any';
  const any = bare(value.fields['AnyOf']);
  if (Array.isArray(any) && any.length > 0) return any.map(typeScriptType).join(' | ');
  const type = bare(value.fields['Type']);
  const types = Array.isArray(type) ? type.map(String) : [];
  const names: Readonly<Record<string, string>> = {
    string: 'string',
    number: 'number',
    integer: 'number',
    boolean: 'boolean',
    array: 'any[]',
    object: 'Record<string, any>',
    null: 'null',
  };
  return types.map((one) => names[one] ?? 'any').join(' | ') || 'any';
}

const day = (ms: number) => new Date(ms).toISOString().slice(0, 10);

const OWN: Readonly<Record<string, GoFunction>> = {
  and: (args) => args.find((value) => !isTrue(value)) ?? args.at(-1),
  or: (args) => args.find(isTrue) ?? args.at(-1),
  not: (args) => {
    needs('not', args, 1);
    return !isTrue(args[0]);
  },
  eq,
  ne: (args) => {
    needs('ne', args, 2);
    return !equal(args[0], args[1]);
  },
  lt: (args) => {
    needs('lt', args, 2);
    return less('lt', args[0], args[1]);
  },
  le: (args) => {
    needs('le', args, 2);
    return less('le', args[0], args[1]) || equal(args[0], args[1]);
  },
  gt: (args) => {
    needs('gt', args, 2);
    return !less('gt', args[0], args[1]) && !equal(args[0], args[1]);
  },
  ge: (args) => {
    needs('ge', args, 2);
    return !less('ge', args[0], args[1]);
  },
  len,
  index,
  slice,
  print,
  println: (args) => `${args.map(shown).join(' ')}\n`,
  printf: (args) => {
    const [format, ...values] = args;
    if (typeof format !== 'string') throw new TemplateError('printf takes a format first');
    return printf(format, values);
  },
  html: (args) => text(args).replace(/[<>&"'\0]/g, (char) => HTML[char] ?? char),
  urlquery: (args) =>
    encodeURIComponent(text(args))
      .replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)
      .replaceAll('%20', '+'),
  json: (args) => {
    needs('json', args, 1);
    return toJson(args[0]);
  },
  currentDate: (_args, now) => day(now()),
  yesterdayDate: (_args, now) => day(now() - DAY),
  toTypeScriptType: (args) => typeScriptType(args[0]),
};

/** By name; undefined for one that there is not. */
export function functionNamed(name: string): GoFunction | undefined {
  return Object.hasOwn(OWN, name) ? OWN[name] : undefined;
}
