/**
 * Go's printf, for the verbs that make sense in a prompt. Pure.
 */
import { bare, isMap, Shown, shown, sortedKeys, typeOf, type Value } from './values.ts';

const VERB = /%(?:%|([-+# 0]*)(\d*)(?:\.(\d*))?([a-zA-Z]))/g;

export function printf(format: string, values: readonly Value[]): string {
  let used = 0;
  const text = format.replace(VERB, (whole, flags = '', width = '', precision: string | undefined, verb = '') => {
    if (whole === '%%') return '%';
    if (used >= values.length) return `%!${verb}(MISSING)`;
    const value = values[used++];
    const digits = precision === undefined ? undefined : Number(precision || 0);
    return formatted(value, { verb, flags, width: Number(width || 0), digits });
  });
  const extra = values
    .slice(used)
    .map((value) => (value === null || value === undefined ? '<nil>' : `${typeOf(value)}=${shown(value)}`));
  return extra.length === 0 ? text : `${text}%!(EXTRA ${extra.join(', ')})`;
}

interface Directive {
  readonly verb: string;
  readonly flags: string;
  readonly width: number;
  readonly digits: number | undefined;
}

/** Lists and maps are written with the directive applied to each of their values. */
function formatted(given: Value, directive: Directive, inside = false): string {
  const value = bare(given);
  const { verb, flags, width, digits } = directive;
  if (given instanceof Shown || verb === 'T')
    return padded(one(verb, given, digits, flags) ?? shown(given), flags, width, true);
  if (Array.isArray(value)) return `[${value.map((item) => formatted(item, directive, true)).join(' ')}]`;
  if (isMap(value)) {
    const pairs = sortedKeys(value).map(
      (key) => `${formatted(key, directive, true)}:${formatted(value[key], directive, true)}`,
    );
    return `map[${pairs.join(' ')}]`;
  }
  if (value === null || value === undefined)
    return verb === 'v' || inside ? padded('<nil>', flags, width, true) : `%!${verb}(<nil>)`;
  const written = one(verb, value, digits, flags) ?? `%!${verb}(${typeOf(value)}=${shown(value)})`;
  return padded(written, flags, width, typeof value !== 'string');
}

/** @returns undefined where the verb is not for such a value */
function one(verb: string, value: Value, digits: number | undefined, flags: string): string | undefined {
  const sign = (text: string) => (flags.includes('+') && !text.startsWith('-') ? `+${text}` : text);
  switch (verb) {
    case 'v':
      return typeof value === 'number' || typeof value === 'bigint' ? sign(shown(value)) : shown(value);
    case 's': {
      if (typeof value !== 'string') return typeof value === 'object' && value !== null ? shown(value) : undefined;
      return digits === undefined ? value : Array.from(value).slice(0, digits).join('');
    }
    case 'q':
      return typeof value === 'string' ? JSON.stringify(value) : undefined;
    case 'd':
      return typeof value === 'bigint' ? sign(String(value)) : undefined;
    case 't':
      return typeof value === 'boolean' ? String(value) : undefined;
    case 'f':
    case 'F':
      return typeof value === 'number' ? sign(value.toFixed(digits ?? 6)) : undefined;
    case 'g':
      return typeof value === 'number'
        ? sign(digits === undefined ? shown(value) : String(Number(value.toPrecision(digits || 1))))
        : undefined;
    case 'e':
      return typeof value === 'number'
        ? sign(value.toExponential(digits ?? 6).replace(/e([+-])(\d)$/, 'e$10$2'))
        : undefined;
    case 'x':
    case 'X': {
      const hex =
        typeof value === 'bigint'
          ? value.toString(16)
          : typeof value === 'string'
            ? Buffer.from(value).toString('hex')
            : undefined;
      return verb === 'X' ? hex?.toUpperCase() : hex;
    }
    case 'c':
      return typeof value === 'bigint' ? String.fromCodePoint(Number(value)) : undefined;
    case 'o':
    case 'b':
      return typeof value === 'bigint' ? value.toString(verb === 'o' ? 8 : 2) : undefined;
    case 'T':
      return typeOf(value);
    default:
      return undefined;
  }
}

function padded(text: string, flags: string, width: number, number: boolean): string {
  const missing = width - Array.from(text).length;
  if (missing <= 0) return text;
  if (flags.includes('-')) return text + ' '.repeat(missing);
  if (!flags.includes('0') || !number) return ' '.repeat(missing) + text;
  const [, sign = '', digits = ''] = /^([+-]?)(.*)$/s.exec(text) ?? [];
  return sign + '0'.repeat(missing) + digits;
}
