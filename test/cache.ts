/** Owns where the project keeps what it builds and downloads; one folder, safe to delete. */
import { homedir } from 'node:os';
import path from 'node:path';

/** `$SLM_CACHE_DIR`, else `$XDG_CACHE_HOME/slm-operator`, else `~/.cache/slm-operator`. */
export const cacheDir =
  process.env['SLM_CACHE_DIR'] ||
  path.join(process.env['XDG_CACHE_HOME'] || path.join(homedir(), '.cache'), 'slm-operator');

/** The repository's root. */
export const repoRoot = path.dirname(import.meta.dirname);
