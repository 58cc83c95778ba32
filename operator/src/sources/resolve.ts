/**
 * From a spec to a revision: asks the source, checks the digest that the spec wants, reads the header of the model.
 * Owns the order of these steps; never writes anything anywhere.
 */
import { type ModelFile, type ModelMetadata, type ModelSource, revisionDigest } from '@slm-operator/crds';
import { type GgufHeader, MAX_HEADER_BYTES, parseGgufHeader } from './gguf-header.ts';
import { makeSourceClient, type SourceClient } from './http.ts';
import { SourceError } from './http-errors.ts';
import { resolveHttps } from './https.ts';
import { resolveHub } from './huggingface.ts';
import type { OnnxFacts } from './onnx.ts';
import { invalidSource, type ResolvedSource, type SourceCredentials, type SourceSpec } from './source.ts';

export interface ResolveOptions {
  /** Base address of the Hub API where the spec names none; no trailing slash. */
  readonly hfEndpoint: string;
  /** Whether that endpoint may be http://. */
  readonly hfEndpointInsecure?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds for the whole. Default 120 000. */
  readonly timeoutMs?: number | undefined;
  /** For tests. Default: a client of its own, closed at the end. */
  readonly client?: SourceClient | undefined;
}

/** What a source was resolved to: everything that `SLMModel.status` needs but times. */
export interface Resolution {
  readonly digest: string;
  readonly sourceRevision?: string;
  /** Bytes of all files. */
  readonly size: number;
  readonly files: readonly ModelFile[];
  readonly sources: readonly ModelSource[];
  readonly metadata: ModelMetadata;
  readonly estimate: { readonly weights: number; readonly kvCachePer1kTokens?: number };
}

/** Resolves a source. Rejects with a {@link SourceError}, or with the signal's reason when aborted. */
export async function resolveSource(
  spec: SourceSpec,
  credentials: SourceCredentials,
  options: ResolveOptions,
): Promise<Resolution> {
  const hub = spec.uri.startsWith('hf://');
  const usesDefault = hub && spec.endpoint === undefined;
  const endpoint = (spec.endpoint ?? options.hfEndpoint).replace(/\/+$/, '');
  const insecure = spec.insecure === true || (usesDefault && options.hfEndpointInsecure === true);
  const client = options.client ?? makeSourceClient({ caBundle: credentials.caBundle, insecure });
  const timeoutMs = options.timeoutMs ?? 120_000;
  const timeout = AbortSignal.timeout(timeoutMs);
  const signal = options.signal === undefined ? timeout : AbortSignal.any([options.signal, timeout]);
  try {
    const source = hub
      ? await resolveHub(client, endpoint, spec, credentials, signal)
      : await resolveHttps(client, spec, credentials, signal);
    const digest = revisionDigest(source.files);
    checkDigest(spec, source, digest);
    const described =
      source.onnx === undefined
        ? describeGguf(source, await readHeaders(source, spec.uri, signal))
        : describeOnnx(source.onnx);
    return {
      ...(source.sourceRevision === undefined ? {} : { sourceRevision: source.sourceRevision }),
      size: source.files.reduce((sum, file) => sum + file.size, 0),
      files: source.files,
      sources: source.sources,
      ...described,
      digest,
    };
  } catch (error) {
    if (timeout.aborted && options.signal?.aborted !== true && !(error instanceof SourceError)) {
      throw new SourceError({
        reason: 'ConnectionFailed',
        terminal: false,
        message: `${spec.uri} gave no whole answer within ${timeoutMs / 1000} s. It is tried again by itself`,
      });
    }
    throw error;
  } finally {
    if (options.client === undefined) await client.close();
  }
}

function checkDigest(spec: SourceSpec, source: ResolvedSource, digest: string): void {
  if (spec.digest === undefined || spec.digest === digest) return;
  const [file, ...more] = source.files;
  if (more.length === 0 && file?.digest === spec.digest) return;
  const found =
    more.length === 0
      ? `the file ${file?.path} has ${file?.digest}`
      : `its ${source.files.length} files together have ${digest}`;
  throw new SourceError({
    reason: 'DigestMismatch',
    terminal: true,
    message: `integrity.digest is ${spec.digest}, but ${found}. Correct integrity.digest if you trust this source, or source.uri if it names the wrong file or revision`,
  });
}

/** The header of the main file first, then those of the other parts of a split model. */
async function readHeaders(source: ResolvedSource, uri: string, signal: AbortSignal): Promise<GgufHeader[]> {
  const main = await readHeader(source, source.mainFile, uri, signal);
  if (main.splitCount <= 1) return [main];
  const headers = [main];
  const parts = source.files.filter(({ path }) => path !== source.mainFile.path && /-\d{5}-of-\d{5}\.gguf$/.test(path));
  if (parts.length + 1 < main.splitCount) {
    throw invalidSource(
      `${source.mainFile.path} is the first of ${main.splitCount} parts, and the source gives ${parts.length + 1}: use an hf:// repository that has them all`,
    );
  }
  for (const part of parts) headers.push(await readHeader(source, part, uri, signal));
  return headers;
}

async function readHeader(
  source: ResolvedSource,
  file: ModelFile,
  uri: string,
  signal: AbortSignal,
): Promise<GgufHeader> {
  const name = source.files.length > 1 || uri.startsWith('hf://') ? `${file.path} of ${uri}` : uri;
  const parsed = await readUntilParsed(source.open(file, signal));
  if (parsed.kind === 'header') {
    if (parsed.header.minimumSize <= file.size) return parsed.header;
    throw truncated(`${name} has ${file.size} bytes, and its header speaks of ${parsed.header.minimumSize}`);
  }
  if (parsed.kind === 'incomplete') {
    throw truncated(`${name} ends after ${file.size} bytes, in the middle of its header`);
  }
  throw new SourceError({
    reason: 'NotAModel',
    terminal: true,
    message: `${name} is no model that can be served: ${parsed.message}`,
  });
}

function truncated(what: string): SourceError {
  return new SourceError({
    reason: 'Truncated',
    terminal: true,
    message: `${what}: the file is cut off. Upload it again, whole`,
  });
}

/** Reads as far as the header goes. The buffer doubles, so that a header is parsed a handful of times at most. */
async function readUntilParsed(chunks: AsyncIterable<Uint8Array>) {
  let buffer = Buffer.alloc(256 * 1024);
  let length = 0;
  let next = 4;
  for await (const chunk of chunks) {
    if (length + chunk.byteLength > buffer.byteLength) {
      const larger = Buffer.alloc(Math.max(buffer.byteLength * 2, length + chunk.byteLength));
      buffer.copy(larger, 0, 0, length);
      buffer = larger;
    }
    buffer.set(chunk, length);
    length += chunk.byteLength;
    if (length < next) continue;
    const parsed = parseGgufHeader(buffer.subarray(0, length));
    if (parsed.kind !== 'incomplete' || length >= MAX_HEADER_BYTES) return parsed;
    next = Math.max(parsed.bytes, length < 256 * 1024 ? Math.min(length * 2, 256 * 1024) : length * 2);
  }
  return parseGgufHeader(buffer.subarray(0, length));
}

type Description = Pick<Resolution, 'metadata' | 'estimate'>;

function describeGguf(source: ResolvedSource, headers: readonly GgufHeader[]): Description {
  const main = headers[0] as GgufHeader;
  const parameters = headers.reduce((sum, header) => sum + header.parameters, 0);
  const { kvCachePer1kTokens } = main;
  return {
    metadata: {
      format: 'GGUF',
      ...metadataOf({ ...main, parameters }),
      ...(main.license === undefined ? {} : { license: main.license.slice(0, 256) }),
      hasChatTemplate: main.hasChatTemplate,
    },
    estimate: {
      weights: source.files.reduce((sum, file) => sum + file.size, 0),
      ...(kvCachePer1kTokens === undefined ? {} : { kvCachePer1kTokens }),
    },
  };
}

function describeOnnx(facts: OnnxFacts): Description {
  const { weights, kvCachePer1kTokens, hasChatTemplate } = facts;
  return {
    metadata: { format: 'ONNX', ...metadataOf(facts), hasChatTemplate },
    estimate: { weights, ...(kvCachePer1kTokens === undefined ? {} : { kvCachePer1kTokens }) },
  };
}

/** What both formats tell. */
function metadataOf(
  facts: Pick<OnnxFacts, 'architecture' | 'parameters' | 'quantization' | 'contextLength' | 'layers'>,
): Partial<ModelMetadata> {
  const { architecture, parameters, quantization, contextLength, layers } = facts;
  return {
    ...(architecture === undefined ? {} : { architecture: architecture.slice(0, 64) }),
    ...(parameters === undefined || parameters === 0 ? {} : { parameters, parametersText: parametersText(parameters) }),
    ...(quantization === undefined ? {} : { quantization }),
    ...(contextLength === undefined ? {} : { contextLength }),
    ...(layers === undefined ? {} : { layers }),
  };
}

/** 134 515 008 → `135M`, 1 543 714 304 → `1.5B`. */
export function parametersText(parameters: number): string {
  const units = [
    [1e12, 'T'],
    [1e9, 'B'],
    [1e6, 'M'],
    [1e3, 'K'],
  ] as const;
  for (const [unit, letter] of units) {
    const amount = parameters / unit;
    if (amount < 0.9995) continue;
    return `${amount < 9.95 && unit > 1e6 ? Number(amount.toFixed(1)) : Math.round(amount)}${letter}`;
  }
  return String(parameters);
}
