/**
 * Schemas as sets of values: what both of two allow, and whether two have nothing in common. Pure; says no rather than
 * anything that might be wrong.
 */
import { isDeepStrictEqual } from 'node:util';
import { GrammarError } from '../engine.ts';

export type Schema = Readonly<Record<string, unknown>>;

/** Keywords that say something to people only. */
const ANNOTATIONS = new Set(
  [
    'title description default examples example $schema $id $comment $defs definitions deprecated readOnly writeOnly',
    'discriminator',
  ].flatMap((names) => names.split(' ')),
);
/** Keywords that narrow the values. Whatever is neither is no JSON Schema, and means nothing to it. */
const VALIDATING = new Set(
  [
    '$ref $anchor $dynamicRef $dynamicAnchor type enum const allOf anyOf oneOf not if then else',
    'properties required additionalProperties patternProperties propertyNames minProperties maxProperties',
    'dependentRequired dependentSchemas dependencies unevaluatedProperties',
    'items prefixItems additionalItems minItems maxItems uniqueItems contains minContains maxContains unevaluatedItems',
    'minLength maxLength pattern format contentEncoding contentMediaType contentSchema',
    'minimum maximum exclusiveMinimum exclusiveMaximum multipleOf',
  ].flatMap((names) => names.split(' ')),
);

/** The keywords of a schema that narrow the values. */
export function keywordsOf(schema: Schema): string[] {
  return Object.keys(schema).filter((name) => VALIDATING.has(name) && !ANNOTATIONS.has(name));
}

/** The types that a schema names; undefined for any. */
export function typesOf(schema: Schema): readonly string[] | undefined {
  const { type } = schema;
  if (typeof type === 'string') return [type];
  return Array.isArray(type) ? type.map(String) : undefined;
}

export function typeOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value === 'number' && Number.isInteger(value) ? 'integer' : typeof value;
}

/** Whether a value of type `actual` counts as one of `wanted`: an integer is a number too. */
export function hasType(actual: string, wanted: readonly string[] | undefined): boolean {
  return wanted === undefined || wanted.includes(actual) || (actual === 'integer' && wanted.includes('number'));
}

/**
 * The schema of what both allow.
 * @param keyword to blame when that cannot be said in one schema
 * @throws GrammarError
 */
export function intersect(a: Schema, b: Schema, keyword: string, path: string): Schema {
  const merged: Record<string, unknown> = { ...a };
  for (const name of keywordsOf(b)) {
    const [mine, theirs] = [a[name], b[name]];
    if (mine === undefined || isDeepStrictEqual(mine, theirs)) merged[name] = theirs;
    else merged[name] = both(name, a, b, keyword, path);
  }
  const closed = a['additionalProperties'] !== undefined || b['additionalProperties'] !== undefined;
  const names = [a, b].map((schema) => Object.keys((schema['properties'] ?? {}) as Schema).sort());
  if (
    closed &&
    a['properties'] !== undefined &&
    b['properties'] !== undefined &&
    !isDeepStrictEqual(...(names as [string[], string[]]))
  )
    throw new GrammarError(
      `${path}: ${keyword} together with additionalProperties is not supported when the properties differ`,
      keyword,
      path,
    );
  return merged;
}

function both(name: string, a: Schema, b: Schema, keyword: string, path: string): unknown {
  const [mine, theirs] = [a[name], b[name]];
  if (name === 'type') {
    const others = typesOf(b);
    const common = new Set([
      ...(typesOf(a) ?? []).filter((type) => hasType(type, others)),
      ...(others ?? []).filter((type) => hasType(type, typesOf(a))),
    ]);
    return [...common];
  }
  if (name === 'required' && Array.isArray(mine) && Array.isArray(theirs)) return [...new Set([...mine, ...theirs])];
  if (name === 'enum' && Array.isArray(mine) && Array.isArray(theirs))
    return mine.filter((value) => theirs.some((other) => isDeepStrictEqual(value, other)));
  if (typeof mine === 'number' && typeof theirs === 'number') {
    if (/^(min|exclusiveMin)/.test(name)) return Math.max(mine, theirs);
    if (/^(max|exclusiveMax)/.test(name)) return Math.min(mine, theirs);
  }
  if (name === 'properties' && isSchema(mine) && isSchema(theirs)) {
    const properties: Record<string, unknown> = { ...mine };
    for (const [key, theirOwn] of Object.entries(theirs)) {
      const own = mine[key];
      properties[key] = own === undefined ? theirOwn : { allOf: [own, theirOwn] };
    }
    return properties;
  }
  throw new GrammarError(`${path}: ${keyword} that combines two different "${name}" is not supported`, keyword, path);
}

/**
 * Whether no value that is generated for `a` satisfies `b`. Only what `a` names is ever generated.
 * @param resolve follows references
 */
export function excludes(a: unknown, b: unknown, resolve: (schema: unknown) => unknown, depth = 0): boolean {
  const [one, other] = [resolve(a), resolve(b)];
  if (one === false || other === false) return true;
  if (!isSchema(one) || !isSchema(other) || depth > 8) return false;
  const values = valuesOf(one);
  const others = valuesOf(other);
  if (values && others) return !values.some((value) => others.some((theirs) => isDeepStrictEqual(value, theirs)));
  if (values) return values.every((value) => !hasType(typeOf(value), typesOf(other)));
  const types = typesOf(one);
  if (others) return types !== undefined && others.every((value) => !hasType(typeOf(value), types));
  if (types === undefined || typesOf(other) === undefined) return false;
  const shared = types.filter(
    (type) => hasType(type, typesOf(other)) || (type === 'number' && hasType('integer', typesOf(other))),
  );
  if (shared.length === 0) return true;
  if (shared.length > 1 || shared[0] !== 'object') return false;
  const mine = (one['properties'] ?? {}) as Schema;
  const theirs = (other['properties'] ?? {}) as Schema;
  const required = namesOf(one['required']);
  const open = one['additionalProperties'] !== undefined && one['additionalProperties'] !== false;
  const bare = one['properties'] === undefined && one['additionalProperties'] !== false;
  return (
    namesOf(other['required']).some((name) => {
      if (mine[name] === undefined) return !open && !bare && !required.includes(name);
      return (
        required.includes(name) && theirs[name] !== undefined && excludes(mine[name], theirs[name], resolve, depth + 1)
      );
    }) ||
    (other['additionalProperties'] === false && required.some((name) => theirs[name] === undefined))
  );
}

export function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function namesOf(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((name) => typeof name === 'string') : [];
}

function valuesOf(schema: Schema): readonly unknown[] | undefined {
  if (schema['const'] !== undefined) return [schema['const']];
  return Array.isArray(schema['enum']) ? (schema['enum'] as unknown[]) : undefined;
}
