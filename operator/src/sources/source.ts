/**
 * What a source must be able to do: turn a spec into a list of files with digests, and read a piece of a file.
 * Owns the interface and the pieces that all kinds of sources share; talks to no server itself.
 */
import type { ModelFile, ModelSource } from '@slm-operator/crds';
import { SourceError } from './http-errors.ts';
import type { OnnxFacts } from './onnx.ts';

/** What the resolver needs of `SLMModel.spec`; plain data. */
export interface SourceSpec {
  readonly uri: string;
  readonly files?: readonly string[] | undefined;
  readonly endpoint?: string | undefined;
  readonly insecure?: boolean | undefined;
  readonly hasSecretRef: boolean;
  readonly hasCaBundleRef: boolean;
  /** `sha256:HEX` that the source must have. */
  readonly digest?: string | undefined;
}

/** Read from the Secret and the CA object; lives in memory only and is never logged. */
export interface SourceCredentials {
  /** Headers that prove who asks; empty without a Secret. */
  readonly headers: Readonly<Record<string, string>>;
  readonly caBundle?: string | undefined;
}

/** Streams a file from its beginning. Whoever has read enough leaves the loop, which closes the connection. */
export type FileOpener = (file: ModelFile, signal?: AbortSignal) => AsyncIterable<Uint8Array>;

/** What a source was resolved to. */
export interface ResolvedSource {
  readonly files: readonly ModelFile[];
  /** Commit of a repository. */
  readonly sourceRevision?: string | undefined;
  readonly sources: readonly ModelSource[];
  /** The file that is served: the first of a split model, the graph of an ONNX model. */
  readonly mainFile: ModelFile;
  /** Of an ONNX model, what its files say; of a GGUF the header is still to be read. */
  readonly onnx?: OnnxFacts;
  /** Reads a file as long as the client that resolved it is open. */
  readonly open: FileOpener;
}

/** The source answered with something that cannot be used; only a change there or of the spec helps. */
export function invalidSource(message: string): SourceError {
  return new SourceError({ reason: 'SourceInvalid', message, terminal: true });
}

const SPLIT = /-(\d{5})-of-(\d{5})\.gguf$/;

/** The parts of a split GGUF when `path` is one of them, in order; otherwise only `path`. */
export function splitParts(path: string): readonly string[] {
  const match = SPLIT.exec(path);
  if (match === null) return [path];
  const count = Number(match[2]);
  // 256 is what a revision can list.
  if (count < 1 || count > 256) return [path];
  const stem = path.slice(0, match.index);
  return Array.from(
    { length: count },
    (_, index) => `${stem}-${String(index + 1).padStart(5, '0')}-of-${match[2]}.gguf`,
  );
}

/** Whether a file is a later part of a split model, which is never served by itself. */
export function isLaterPart(path: string): boolean {
  const match = SPLIT.exec(path);
  return match !== null && Number(match[1]) > 1;
}

/**
 * Name under which a file of a plain address lies in the model folder: the last part of its path. Names that would be no
 * plain file name give `model.gguf`.
 */
export function fileNameOf(url: string): string {
  const last = new URL(url).pathname.split('/').at(-1) ?? '';
  let name: string;
  try {
    name = decodeURIComponent(last);
  } catch {
    name = last;
  }
  return /^[^\p{Cc}/\\]{1,200}$/u.test(name) && !/^\.+$/.test(name) ? name : 'model.gguf';
}
