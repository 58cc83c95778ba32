/**
 * What is served: names, files, settings. Plain values; what is loaded of it is the registry's business.
 */
import { type ModelDefaults, NO_DEFAULTS } from '../modelfile/defaults.ts';

export interface ModelSpec {
  /** Names that clients may use; the first is the canonical one. */
  readonly names: readonly [string, ...string[]];
  /** A file, or a folder with one model. */
  readonly path: string;
  /** `sha256:<hex>`; undefined when nobody knows it. */
  readonly digest: string | undefined;
  /** Loaded at start, and never unloaded. */
  readonly resident: boolean;
  readonly defaults: ModelDefaults;
  /** Tokens of context for each request; undefined: the server's setting. */
  readonly contextLength?: number;
  /** The Modelfile that it was made from. */
  readonly modelfile?: string;
  /** When its definition last changed; undefined: when its file did. */
  readonly modifiedAt?: Date;
}

/** A spec with the usual values for what is not given. */
export function makeSpec(given: Pick<ModelSpec, 'names' | 'path'> & Partial<ModelSpec>): ModelSpec {
  return { digest: undefined, resident: false, defaults: NO_DEFAULTS, ...given };
}

const LATEST = /:latest$/;

/** Whether a client's name is that of a model: `:latest` may be left out, as in Ollama's API. */
export function hasName(spec: ModelSpec, name: string): boolean {
  const bare = name.replace(LATEST, '');
  return spec.names.some((one) => one.replace(LATEST, '') === bare);
}
