/** Careful reading of the JSON files that come with a model: written by others, so anything may be missing or odd. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { StartupError } from '../../failures.ts';

export type Json = Readonly<Record<string, unknown>>;

/** @returns undefined where there is no such file. @throws StartupError (NotAModel) for one that is no JSON object */
export async function readJson(folder: string, name: string): Promise<Json | undefined> {
  const text = await readText(folder, name);
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  } catch {
    // Said below.
  }
  throw new StartupError('NotAModel', `${name} is no JSON object: fetch the model again, and set integrity.digest.`);
}

/** @returns undefined where there is no such file. @throws StartupError (ModelUnreadable) */
export async function readText(folder: string, name: string): Promise<string | undefined> {
  try {
    return await readFile(path.join(folder, name), 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new StartupError('ModelUnreadable', `${name} cannot be read (${code ?? String(error)}).`, { cause: error });
  }
}

/** What lies under keys within keys. */
export function objectAt(json: Json | undefined, ...keys: readonly string[]): Json | undefined {
  let at: unknown = json;
  for (const key of keys) at = isObject(at) ? at[key] : undefined;
  return isObject(at) ? at : undefined;
}

/** The first of these keys that holds a number. */
export function numberAt(json: Json | undefined, ...keys: readonly string[]): number | undefined {
  for (const key of keys) {
    const value = json?.[key];
    if (typeof value === 'number' && Number.isFinite(value)) return value;
  }
  return undefined;
}

export function textAt(json: Json | undefined, key: string): string | undefined {
  const value = json?.[key];
  return typeof value === 'string' ? value : undefined;
}

/** A number or a list of numbers, as ids are written. */
export function numbersAt(json: Json | undefined, key: string): number[] {
  const value = json?.[key];
  return (Array.isArray(value) ? value : [value]).filter((one): one is number => Number.isInteger(one));
}

/** A token as configurations write it: its text, or an object that has it. */
export function tokenTextAt(json: Json | undefined, key: string): string | undefined {
  return textAt(json, key) ?? textAt(objectAt(json, key), 'content');
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
