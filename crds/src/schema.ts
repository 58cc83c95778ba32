/**
 * Builders for the part of JSON Schema that Kubernetes calls structural. Owns the mapping TypeBox → CRD; knows no kind.
 * Every string, list and map has a bound, because the API server adds up what a CEL rule could cost in the worst case.
 */
import { type Static, type TObject, type TOptional, type TProperties, type TSchema, type TUnsafe, Type } from 'typebox';

/** A CEL rule of the API server. `message` says what to write instead. */
export interface CelRule {
  readonly rule: string;
  readonly message: string;
  readonly fieldPath?: string;
  readonly reason?: 'FieldValueInvalid' | 'FieldValueRequired' | 'FieldValueForbidden';
}

interface Common {
  /** Shown by `kubectl explain`. */
  readonly description: string;
  readonly rules?: readonly CelRule[];
}

function extensions(options: Common): Record<string, unknown> {
  return {
    description: options.description,
    ...(options.rules ? { 'x-kubernetes-validations': options.rules } : {}),
  };
}

/** Text of at most `max` characters. */
export function text(
  options: Common & { max: number; min?: number; pattern?: string; format?: string },
): TUnsafe<string> {
  return Type.Unsafe<string>({
    type: 'string',
    maxLength: options.max,
    ...(options.min === undefined ? {} : { minLength: options.min }),
    ...(options.pattern === undefined ? {} : { pattern: options.pattern }),
    ...(options.format === undefined ? {} : { format: options.format }),
    ...extensions(options),
  });
}

/** One of a closed set of words. */
export function word<const T extends readonly string[]>(values: T, options: Common): TUnsafe<T[number]> {
  return Type.Unsafe<T[number]>({ type: 'string', enum: values, ...extensions(options) });
}

/** A whole number within bounds; 64 bits where `maximum` needs them. */
export function integer(options: Common & { minimum: number; maximum?: number }): TUnsafe<number> {
  return Type.Unsafe<number>({
    type: 'integer',
    format: options.maximum !== undefined && options.maximum < 2 ** 31 ? 'int32' : 'int64',
    minimum: options.minimum,
    ...(options.maximum === undefined ? {} : { maximum: options.maximum }),
    ...extensions(options),
  });
}

/** A number within bounds, with a fraction or without. */
export function number(options: Common & { minimum: number; maximum: number }): TUnsafe<number> {
  return Type.Unsafe<number>({
    type: 'number',
    minimum: options.minimum,
    maximum: options.maximum,
    ...extensions(options),
  });
}

export function boolean(options: Common): TUnsafe<boolean> {
  return Type.Unsafe<boolean>({ type: 'boolean', ...extensions(options) });
}

/** RFC 3339 time. */
export function time(options: Common): TUnsafe<string> {
  return Type.Unsafe<string>({ type: 'string', format: 'date-time', ...extensions(options) });
}

/** A time such as 90s, 10m or 1h30m. */
export function duration(description: string): TUnsafe<string> {
  return text({ max: 16, min: 2, pattern: '^([0-9]+h)?([0-9]+m)?([0-9]+s)?$', description });
}

/** A number of things, or a percentage such as `25%`. */
export function intOrPercent(options: Common): TUnsafe<number | string> {
  return Type.Unsafe<number | string>({
    'x-kubernetes-int-or-string': true,
    anyOf: [{ type: 'integer' }, { type: 'string' }],
    pattern: '^(100|[1-9]?[0-9])%$',
    ...extensions(options),
  });
}

/** A list; `keys` make it a map list (merged by server-side apply), `set` a set. */
export function list<T extends TSchema>(
  item: T,
  options: Common & { max: number; min?: number; keys?: readonly string[]; set?: boolean; atomic?: boolean },
): TUnsafe<Static<T>[]> {
  return Type.Unsafe<Static<T>[]>({
    type: 'array',
    items: item,
    maxItems: options.max,
    ...(options.min === undefined ? {} : { minItems: options.min }),
    ...(options.keys ? { 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': options.keys } : {}),
    ...(options.set ? { 'x-kubernetes-list-type': 'set' } : {}),
    ...(options.atomic ? { 'x-kubernetes-list-type': 'atomic' } : {}),
    ...extensions(options),
  });
}

/** A map from names to values of one type. */
export function mapOf<T extends TSchema>(
  value: T,
  options: Common & { max: number },
): TUnsafe<Record<string, Static<T>>> {
  return Type.Unsafe<Record<string, Static<T>>>({
    type: 'object',
    additionalProperties: value,
    maxProperties: options.max,
    ...extensions(options),
  });
}

/** An object; fields are required unless wrapped in {@link optional}. */
export function object<P extends TProperties>(properties: P, options: Common & { atomic?: boolean }): TObject<P> {
  return Type.Object(properties, {
    ...extensions(options),
    ...(options.atomic ? { 'x-kubernetes-map-type': 'atomic' } : {}),
  });
}

/** An object that this API hands on to Kubernetes as it is; the API server checks it where it is used. */
export function passThrough<T>(options: Common & { type?: 'object' | 'array'; max?: number }): TUnsafe<T> {
  if (options.type === 'array') {
    return Type.Unsafe<T>({
      type: 'array',
      maxItems: options.max ?? 64,
      items: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
      'x-kubernetes-list-type': 'atomic',
      ...extensions(options),
    });
  }
  return Type.Unsafe<T>({ type: 'object', 'x-kubernetes-preserve-unknown-fields': true, ...extensions(options) });
}

export function optional<T extends TSchema>(schema: T): TOptional<T> {
  return Type.Optional(schema) as TOptional<T>;
}

/** The plain JSON of a schema, without TypeBox's own marks, as a CRD may carry it. */
export function toStructural(schema: TSchema): Record<string, unknown> {
  return strip(schema) as Record<string, unknown>;
}

function strip(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(strip);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, inner]) => !key.startsWith('~') && inner !== undefined)
      .map(([key, inner]) => [key, strip(inner)]),
  );
}
