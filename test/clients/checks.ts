/**
 * Checks that are written in another language: their names, which the tests need before anything runs, and their reports,
 * one JSON line each. Owns the format; knows no language.
 */
import { readFile } from 'node:fs/promises';
import { type CommandOptions, tryCommand } from '../cluster/command.ts';
import { lastLines } from '../cluster/errors.ts';

/** What became of one check. */
export interface CheckResult {
  readonly name: string;
  readonly ok: boolean;
  readonly error?: string;
}

/** @param pattern finds a name as its first group. @returns names of the checks in a source file, in their order */
export async function checkNames(file: string, pattern: RegExp): Promise<string[]> {
  return [...(await readFile(file, 'utf8')).matchAll(pattern)].map(([, name = '']) => name);
}

/** Runs a program and reads its reports. @throws Error when it ends before its last check */
export async function runChecks(command: readonly string[], options: CommandOptions): Promise<CheckResult[]> {
  const { stdout, stderr, code } = await tryCommand(command, options);
  if (code !== 0) throw new Error(`${command.join(' ')} ended with ${code}: ${lastLines(stderr)}`);
  return stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as CheckResult);
}
