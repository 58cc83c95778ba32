/**
 * Go's values as JavaScript has them, and how Go prints, compares and encodes them. Whole numbers are bigint, fractions number,
 * maps plain objects, slices arrays; what Go knows as a struct is a Struct. Pure.
 */
import { TemplateError } from './lexer.ts';

export type Value = unknown;

/** A value with named fields; asking for one that it has not is an error, unlike with a map. */
export class Struct {
  readonly type: string;
  readonly fields: Readonly<Record<string, Value>>;
  /** What JSON has of it, in its own order; undefined: every field under its name. */
  readonly json: Readonly<Record<string, Value>> | undefined;

  constructor(type: string, fields: Readonly<Record<string, Value>>, json?: Readonly<Record<string, Value>>) {
    this.type = type;
    this.fields = fields;
    this.json = json;
  }
}

/** A slice or map that says itself what it prints as. */
export class Shown {
  readonly value: readonly Value[] | Readonly<Record<string, Value>>;
  /** Undefined: its JSON. */
  readonly text: string | undefined;

  constructor(value: readonly Value[] | Readonly<Record<string, Value>>, text?: string) {
    this.value = value;
    this.text = text;
  }
}

/** A slice that was never made: empty, and null in JSON. */
export const NIL_SLICE = new Shown([], '[]');

/** The slice or map inside, where there is one. */
export function bare(value: Value): Value {
  return value instanceof Shown ? value.value : value;
}

export function isMap(value: Value): value is Readonly<Record<string, Value>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Struct);
}

/** What `if` makes of a value. */
export function isTrue(given: Value): boolean {
  const value = bare(given);
  if (value === null || value === undefined) return false;
  if (typeof value === 'string') return value !== '';
  if (typeof value === 'bigint') return value !== 0n;
  // Not a number is true there.
  if (typeof value === 'number') return value !== 0;
  if (typeof value === 'boolean') return value;
  if (Array.isArray(value)) return value.length > 0;
  return value instanceof Struct || Object.keys(value).length > 0;
}

/** What an action writes. */
export function printed(value: Value): string {
  return value === null || value === undefined ? '<no value>' : shown(value);
}

/** `%v`. */
export function shown(value: Value): string {
  if (value === null || value === undefined) return '<nil>';
  if (typeof value === 'string') return value;
  if (typeof value === 'number') return float(value);
  if (typeof value === 'bigint' || typeof value === 'boolean') return String(value);
  if (value instanceof Shown) return value.text ?? toJson(value);
  if (value instanceof Struct) return `{${Object.values(value.fields).map(shown).join(' ')}}`;
  if (Array.isArray(value)) return `[${value.map(shown).join(' ')}]`;
  const map = value as Readonly<Record<string, Value>>;
  return `map[${sortedKeys(map)
    .map((key) => `${key}:${shown(map[key])}`)
    .join(' ')}]`;
}

/** As Go prints a float64: with an exponent of two digits from a million on. */
function float(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? '+Inf' : '-Inf';
  const absolute = Math.abs(value);
  if (Object.is(value, -0)) return '-0';
  if (absolute !== 0 && (absolute < 1e-4 || absolute >= 1e6))
    return value.toExponential().replace(/e([+-])(\d)$/, 'e$10$2');
  return String(value);
}

/** By bytes, as Go sorts strings. */
export function sortedKeys(map: Readonly<Record<string, Value>>): string[] {
  return Object.keys(map).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}

/** json.Marshal: keys of maps are sorted, and what could end a script in HTML is escaped. */
export function toJson(value: Value): string {
  return JSON.stringify(plain(value)).replace(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function plain(value: Value): unknown {
  if (value === undefined) return null;
  if (typeof value === 'bigint') return Number(value);
  if (typeof value === 'number' && !Number.isFinite(value)) throw new TemplateError('JSON knows no such number');
  if (value instanceof Struct)
    return Object.fromEntries(Object.entries(value.json ?? value.fields).map(([key, inner]) => [key, plain(inner)]));
  if (value === NIL_SLICE) return null;
  if (value instanceof Shown) return plain(value.value);
  if (Array.isArray(value)) return value.map(plain);
  if (!isMap(value)) return value;
  return Object.fromEntries(sortedKeys(value).map((key) => [key, plain(value[key])]));
}

/** What a value is called in an error. */
export function typeOf(given: Value): string {
  const value = bare(given);
  if (value === null || value === undefined) return 'nil';
  if (typeof value === 'bigint') return 'int';
  if (typeof value === 'number') return 'float64';
  if (typeof value === 'boolean') return 'bool';
  if (typeof value === 'string') return 'string';
  if (value instanceof Struct) return value.type;
  return Array.isArray(value) ? '[]interface {}' : 'map[string]interface {}';
}
