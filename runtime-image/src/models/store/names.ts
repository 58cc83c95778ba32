/**
 * Names of models as Ollama's registry has them: `[host/][namespace/]model[:tag]`. Owns what may be in one, so that none can
 * lead out of the folder of manifests. Pure.
 */

export interface StoreName {
  /** With its port, where it has one. */
  readonly host: string;
  readonly namespace: string;
  readonly model: string;
  readonly tag: string;
}

const DEFAULT = { host: 'registry.ollama.ai', namespace: 'library', tag: 'latest' };

const HOST = /^[A-Za-z0-9][\w.-]{0,252}(?::\d{1,5})?$/;
const PART = /^[A-Za-z0-9_][\w.-]{0,79}$/;

/** @returns undefined for what is no name */
export function parseName(text: string): StoreName | undefined {
  const bare = text.trim().replace(/^https?:\/\//, '');
  const pieces = bare.split('/');
  const last = pieces.pop() ?? '';
  const [model = '', tag = DEFAULT.tag, ...more] = last.split(':');
  const [first, second, ...rest] = pieces.length === 1 ? [undefined, ...pieces] : pieces;
  const name = { host: first ?? DEFAULT.host, namespace: second ?? DEFAULT.namespace, model, tag };
  if (more.length > 0 || rest.length > 0) return undefined;
  return HOST.test(name.host) && [name.namespace, model, tag].every((part) => PART.test(part)) ? name : undefined;
}

/** As short as it can be, with its tag. */
export function showName({ host, namespace, model, tag }: StoreName): string {
  const short = `${model}:${tag}`;
  if (host !== DEFAULT.host) return `${host}/${namespace}/${short}`;
  return namespace === DEFAULT.namespace ? short : `${namespace}/${short}`;
}

/** Where its manifest lies. */
export function manifestPath({ host, namespace, model, tag }: StoreName): string[] {
  return [host, namespace, model, tag];
}

const DIGEST = /^sha256[:-]([\da-f]{64})$/i;

/** `sha256:<hex>` in small letters. @returns undefined for anything else */
export function parseDigest(text: string): string | undefined {
  const hex = DIGEST.exec(text)?.[1];
  return hex === undefined ? undefined : `sha256:${hex.toLowerCase()}`;
}
