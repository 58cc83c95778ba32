/**
 * Ollama's API: changing what there is. Refused unless the server was told that its models are its own.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ApiError } from '../../api-error.ts';
import { NO_DEFAULTS } from '../../modelfile/defaults.ts';
import { inherited, readDefaults, readModelfile } from '../../modelfile/modelfile.ts';
import { ModelfileError } from '../../modelfile/parser.ts';
import type { ModelEntry } from '../../models/model-entry.ts';
import { type Base, create } from '../../models/store/create.ts';
import { parseDigest, parseName, type StoreName, showName } from '../../models/store/names.ts';
import type { ModelStore } from '../../models/store/store.ts';
import { type Progress, pull, push } from '../../models/store/transfer.ts';
import { ollamaError, toApiError } from '../../plugins/errors.ts';
import { checkBody } from '../../schemas/check.ts';
import { CopyRequest, CreateRequest, DeleteRequest, TransferRequest } from '../../schemas/management.ts';
import { hangUp, sendStream } from '../answer.ts';
import type { ServedModels } from '../served-model.ts';

export interface ManagementOptions {
  readonly store: ModelStore;
  /** Hosts of registries that may be asked. */
  readonly registries: readonly string[];
}

const ROUTES = [
  ['POST', '/api/pull'],
  ['POST', '/api/push'],
  ['POST', '/api/create'],
  ['POST', '/api/copy'],
  ['DELETE', '/api/delete'],
  ['POST', '/api/blobs/:digest'],
  ['HEAD', '/api/blobs/:digest'],
] as const;

/** For servers whose models are somebody else's. */
export function registerManagementRefusals(app: FastifyInstance): void {
  for (const [method, url] of ROUTES)
    app.route({
      method,
      url,
      handler: async () => {
        throw new ApiError(
          403,
          'models are managed by the cluster, not through this API: change the SLMModel or SLMDeployment instead',
          { code: 'management_disabled' },
        );
      },
    });
}

export function registerManagement(app: FastifyInstance, served: ServedModels, options: ManagementOptions): void {
  const { store, registries } = options;

  /** What the server serves of a model of the store. */
  const entryOf = (name: StoreName) => served.registry.find(showName(name));

  /** The steps, and then a look whether what is there now can be served. */
  async function* andServe(name: StoreName, steps: AsyncIterable<Progress>): AsyncGenerator<Progress> {
    let last: Progress | undefined;
    for await (const step of steps) {
      if (last) yield last;
      last = step;
    }
    const problem = await store.problemOf(name);
    if (problem !== undefined) throw new ApiError(400, `${showName(name)} is stored and cannot be served: ${problem}`);
    await served.registry.refresh();
    if (last) yield last;
  }

  app.post(
    '/api/pull',
    { config: { summary: 'Brings a model from a registry', body: TransferRequest } },
    async (request, reply) => {
      const body = checkBody(TransferRequest, request.body);
      const name = named(body.model ?? body.name, request);
      const access = { hosts: registries, insecure: body.insecure === true, signal: hangUp(reply) };
      return answer(request, reply, andServe(name, pull(store, name, access)), body.stream);
    },
  );

  app.post(
    '/api/push',
    { config: { summary: 'Sends a model to its registry', body: TransferRequest } },
    async (request, reply) => {
      const body = checkBody(TransferRequest, request.body);
      const access = { hosts: registries, insecure: body.insecure === true, signal: hangUp(reply) };
      return answer(request, reply, push(store, named(body.model ?? body.name, request), access), body.stream);
    },
  );

  app.post(
    '/api/create',
    { config: { summary: 'Makes a model of another', body: CreateRequest } },
    async (request, reply) => {
      const body = checkBody(CreateRequest, request.body);
      const name = named(body.model ?? body.name, request);
      if (body.quantize || body.quantization)
        throw new ApiError(400, 'this server does not quantize: send a file that is', { param: 'quantize' });
      if (body.path)
        throw new ApiError(400, 'paths of the server are not read: send the files to /api/blobs', { param: 'path' });
      const { from, own } = settingsOf(body);
      const base = await baseOf(body.files, from);
      const adapters = Object.values(body.adapters ?? {}).map(digestOf);
      return answer(request, reply, andServe(name, create(store, name, base, own, adapters)), body.stream);
    },
  );

  const baseOf = async (
    files: Readonly<Record<string, string>> | undefined,
    from: string | undefined,
  ): Promise<Base> => {
    const sent = Object.entries(files ?? {});
    if (sent.length > 1)
      throw new ApiError(400, 'a model is one GGUF file here: send one, merged and converted', { param: 'files' });
    const [[, digest] = []] = sent;
    if (digest !== undefined) return { digest: digestOf(digest) };
    if (from === undefined) throw new ApiError(400, 'from or files is required', { param: 'from' });
    // Older clients send the file before and name its digest.
    if (from.startsWith('@')) return { digest: digestOf(from.slice(1)) };
    return { spec: (await found(from)).spec };
  };

  const found = async (text: string): Promise<ModelEntry> => {
    if (!served.registry.find(text)) await served.registry.refresh();
    const name = parseName(text);
    const entry = served.registry.find(text) ?? (name && entryOf(name));
    if (entry) return entry;
    throw new ApiError(404, `model '${text}' not found`, { code: 'model_not_found' });
  };

  app.post(
    '/api/copy',
    { config: { summary: 'Gives a model another name', body: CopyRequest } },
    async (request, reply) => {
      const { source, destination } = checkBody(CopyRequest, request.body);
      const { spec } = await found(source);
      const from = parseName(source);
      const to = named(destination, request);
      const manifest = from && (await store.readManifest(from));
      if (manifest) await store.writeManifest(to, manifest);
      else for await (const step of create(store, to, { spec }, NO_DEFAULTS, [])) request.log.debug(step, 'copy');
      await served.registry.refresh();
      return reply.code(200).send();
    },
  );

  app.delete('/api/delete', { config: { summary: 'Removes a model', body: DeleteRequest } }, async (request, reply) => {
    const body = checkBody(DeleteRequest, request.body);
    const text = body.model ?? body.name ?? '';
    const name = named(text, request);
    if (!(await store.remove(name))) {
      await found(text);
      throw new ApiError(400, `model '${text}' is a file that somebody put into the folder of models: remove it there`);
    }
    await served.registry.refresh();
    return reply.code(200).send();
  });

  app.head<{ Params: { digest: string } }>('/api/blobs/:digest', async (request, reply) => {
    const size = await store.blobSize(digestOf(request.params.digest));
    return reply.code(size === undefined ? 404 : 200).send();
  });

  // Files are no JSON, and far larger than what else a client sends.
  void app.register((scope, _options, done) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', (_request, payload, next) => next(null, payload));
    scope.post<{ Params: { digest: string } }>(
      '/api/blobs/:digest',
      { bodyLimit: Number.MAX_SAFE_INTEGER, config: { summary: 'Takes a file' } },
      async (request, reply) => {
        const digest = digestOf(request.params.digest);
        await store.writeBlob(digest, request.body as NodeJS.ReadableStream, hangUp(reply)).catch((error: unknown) => {
          throw asRefusal(error);
        });
        return reply.code(201).send();
      },
    );
    done();
  });
}

/** The name of a model that is to be changed, noted for the audit log. @throws ApiError (400) */
function named(text: string | undefined, request: FastifyRequest): StoreName {
  const name = nameOf(text);
  request.facts.model = showName(name);
  return name;
}

/** @throws ApiError (400) */
function nameOf(text: string | undefined): StoreName {
  if (text === undefined) throw new ApiError(400, 'model is required', { param: 'model' });
  const name = parseName(text);
  if (name) return name;
  throw new ApiError(400, `'${text}' is no name of a model: write [host/][namespace/]model[:tag]`, { param: 'model' });
}

/** @throws ApiError (400) */
function digestOf(text: string): string {
  const digest = parseDigest(text);
  if (digest !== undefined) return digest;
  throw new ApiError(400, `'${text}' is no digest: write sha256: and 64 hexadecimal digits`, { param: 'digest' });
}

/** A Modelfile's text and the fields beside it; the fields win. */
function settingsOf(body: Record<string, unknown> & { readonly from?: string; readonly modelfile?: string }) {
  const { parameters, system, template, messages, license } = body;
  const given = Object.entries({ parameters, system, template, messages, license });
  const fields = readDefaults(Object.fromEntries(given.filter(([, value]) => value !== undefined)));
  if (!body.modelfile) return { from: body.from, own: fields };
  try {
    const { from, defaults } = readModelfile(body.modelfile);
    if (defaults.adapters.length > 0)
      throw new ApiError(400, 'adapters of a Modelfile are paths of the client: send them to /api/blobs', {
        param: 'modelfile',
      });
    return { from: body.from ?? from, own: inherited(fields, defaults) };
  } catch (error) {
    if (error instanceof ModelfileError) throw new ApiError(400, error.message, { param: 'modelfile' });
    throw error;
  }
}

/** What the file system says, as a sentence. */
const DISK: Readonly<Record<string, string>> = {
  ENOSPC: 'the folder of models is full: remove models, or give it more room',
  EDQUOT: 'the folder of models is full: remove models, or give it more room',
  EROFS: 'the folder of models cannot be written: mount it so that it can, or unset SLM_MANAGEMENT',
  EACCES: 'the folder of models cannot be written: give it to the user of the server',
  EPERM: 'the folder of models cannot be written: give it to the user of the server',
};

function asRefusal(thrown: unknown): unknown {
  const sentence = DISK[(thrown as NodeJS.ErrnoException | undefined)?.code ?? ''];
  return sentence === undefined ? thrown : new ApiError(507, sentence, { code: 'storage' });
}

async function* inWords(steps: AsyncIterable<Progress>): AsyncGenerator<Progress> {
  try {
    yield* steps;
  } catch (error) {
    throw asRefusal(error);
  }
}

/** Line by line, or the last alone. */
async function answer(
  request: FastifyRequest,
  reply: FastifyReply,
  steps: AsyncIterable<Progress>,
  stream: boolean | undefined,
): Promise<unknown> {
  const told = inWords(steps);
  if (stream !== false)
    return sendStream(request, reply, told, {
      contentType: 'application/x-ndjson',
      part: (step) => `${JSON.stringify(step)}\n`,
      error: (thrown) => `${JSON.stringify(ollamaError(toApiError(thrown)))}\n`,
    });
  let last: Progress = { status: 'success' };
  for await (const step of told) last = step;
  return last;
}
