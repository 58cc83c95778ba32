/**
 * Owns the addon in this process: loaded once, with the best CPU backend that there is, and its log. Never unloaded; models come and
 * go on it.
 */
import { createRequire } from 'node:module';
import { StartupError } from '../../failures.ts';
import type { LoadObserver } from '../engine.ts';
import type { Bindings } from './addon.ts';
import { missingParts } from './addon-shape.ts';
import { BINDING_VERSION, findNativeFiles } from './native-files.ts';

export interface Library {
  readonly bindings: Bindings;
  /** Whether the CPU backend computes with OpenMP. */
  readonly openmp: boolean;
}

type Log = LoadObserver['log'];

/** The addon's numbers of levels: 0 is none, 1 fatal. */
const LEVELS = ['error', 'error', 'error', 'warn', 'info', 'debug', 'debug'] as const;
const WARNINGS = 3;

/** What llama.cpp warns of although it is meant so. */
const AS_MEANT = [
  /the full capacity of the model will not be utilized/,
  /embeddings required but some input tokens were not marked as outputs/,
  /model default pooling_type is \[0\], but \[-1\] was specified/,
  /disabling extra buffer types/,
  /removing '<\|end\|>' token from EOG list/,
];

/**
 * How often a thread looks whether the others are done before it sleeps, about a tenth of a second. libgomp's own tenth of that is
 * too short where another program shares a core: each of a token's thousand meetings then ends in a sleep and a wake-up (with two
 * threads on two cores, one of them busy: 18 tokens a second, and 55 with this).
 */
const SPINS = '3000000';

let loading: Promise<Library> | undefined;
const observers = new Set<Log>();

/** @throws StartupError (EngineMismatch) */
export function openLibrary(): Promise<Library> {
  loading ??= load();
  return loading;
}

/**
 * Hears what llama.cpp says from now on. It does not say of which model it speaks: the observer that came last is told.
 * @returns what ends it
 */
export function observeLog(log: Log): () => void {
  // A function of its own: the same observer may come twice.
  const own: Log = (level, message) => log(level, message);
  observers.add(own);
  return () => void observers.delete(own);
}

async function load(): Promise<Library> {
  const { addon, backends } = findNativeFiles();
  if (process.env['OMP_WAIT_POLICY'] === undefined) process.env['GOMP_SPINCOUNT'] ??= SPINS;
  const bindings = createRequire(import.meta.url)(addon) as Bindings;
  const missing = missingParts(bindings);
  if (missing.length > 0)
    throw new StartupError(
      'EngineMismatch',
      `this server was made for another addon than ${addon}, which lacks ${missing.join(', ')}: install node-llama-cpp ${BINDING_VERSION}.`,
    );
  bindings.setLogger(lines(tell));
  bindings.setLoggerLogLevel(WARNINGS);
  bindings.loadBackends();
  for (const folder of backends) {
    bindings.loadBackends(folder);
    // A backend whose libraries are missing is passed over in silence.
    if (bindings.systemInfo().includes('CPU')) break;
  }
  await bindings.init();
  const openmp = /OPENMP = 1/.test(bindings.systemInfo());
  return { bindings, openmp };
}

function tell(level: number, message: string): void {
  const known = LEVELS[level] ?? 'debug';
  const quiet = known === 'warn' && AS_MEANT.some((pattern) => pattern.test(message));
  [...observers].at(-1)?.(quiet ? 'debug' : known, message);
}

/** llama.cpp prints parts of lines. Exported for its test. */
export function lines(tell: (level: number, line: string) => void): (level: number, text: string) => void {
  let part = '';
  let partLevel = 0;
  const flush = () => {
    if (part.trim() !== '') tell(partLevel, part.trimEnd());
    part = '';
  };
  return (level, text) => {
    if (level !== partLevel) flush();
    partLevel = level;
    part += text;
    const end = part.lastIndexOf('\n');
    if (end < 0) return;
    const rest = part.slice(end + 1);
    part = part.slice(0, end);
    flush();
    part = rest;
  };
}
