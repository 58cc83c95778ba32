/**
 * Ollama's API: what there is, and what is loaded.
 */
import type { FastifyInstance } from 'fastify';
import { ApiError } from '../../api-error.ts';
import type { EngineInfo } from '../../engines/engine.ts';
import { parameterList, writeModelfile } from '../../modelfile/modelfile.ts';
import { factsOf, type ModelFacts, readFacts } from '../../models/facts.ts';
import type { ModelEntry } from '../../models/model-entry.ts';
import { checkBody } from '../../schemas/check.ts';
import { ShowRequest } from '../../schemas/ollama.ts';
import { VERSION } from '../../version.ts';
import type { ApiOptions } from '../openai/routes.ts';
import { capabilitiesOf } from './capabilities.ts';
import { detailsOf } from './replies.ts';

/** Ollama writes a time far away for a model that stays loaded. */
const NEVER = '2318-01-01T00:00:00Z';
/** Where Ollama writes a parameter's value. */
const PARAMETER_COLUMN = 30;

export function registerOllamaModels(app: FastifyInstance, options: ApiOptions): void {
  const { served, lifecycle } = options;
  const { registry } = served;

  /** While the server's one model loads there is nothing to say of it. */
  const factsFor = async (entry: ModelEntry): Promise<ModelFacts> => {
    const { loaded, spec } = entry;
    const modified = spec.modifiedAt;
    if (entry.spec.resident) {
      const { engine, loadedAt } = lifecycle.model();
      return factsOf(engine.info, modified ?? loadedAt);
    }
    const facts = await readFacts(spec.path).catch((error: unknown) => {
      // An engine that needs no file, such as that of the tests.
      if (loaded) return factsOf(loaded.engine.info, loaded.loadedAt);
      throw error;
    });
    return modified === undefined ? facts : { ...facts, modifiedAt: modified };
  };
  const described = (name: string, entry: ModelEntry, facts: ModelFacts) => {
    const full = name.includes(':') ? name : `${name}:latest`;
    const digest = (entry.spec.digest ?? '').replace(/^sha256:/, '');
    return { name: full, model: full, size: facts.size, digest, details: detailsOf(facts) };
  };

  app.get('/', { config: { summary: 'Heartbeat' } }, async () => 'Ollama is running');
  app.get('/api/version', { config: { summary: 'Version of the server' } }, async () => ({ version: VERSION }));

  app.get('/api/tags', { config: { summary: 'The names of the models' } }, async (request) => {
    await registry.refresh();
    const lists = await Promise.all(
      registry.entries.map(async (entry) => {
        const facts = await factsFor(entry).catch((error: unknown) => {
          if (error instanceof ApiError) throw error;
          request.log.warn({ model: entry.name, err: error }, 'a model is not listed: its files cannot be read');
        });
        if (!facts) return [];
        const modified = { modified_at: facts.modifiedAt.toISOString() };
        return entry.spec.names.map((name) => ({ ...described(name, entry, facts), ...modified }));
      }),
    );
    return { models: lists.flat() };
  });

  app.get('/api/ps', { config: { summary: 'What is loaded' } }, async () => ({
    models: registry.loaded.flatMap((entry) => {
      const { loaded } = entry;
      if (!loaded) return [];
      const { info } = loaded.engine;
      const running = {
        expires_at: entry.expiresAt?.toISOString() ?? NEVER,
        ...placement(info),
        context_length: info.contextLength,
      };
      return [{ ...described(entry.name, entry, factsOf(info, loaded.loadedAt)), ...running }];
    }),
  }));

  app.post('/api/show', { config: { summary: 'Facts about a model', body: ShowRequest } }, async (request) => {
    const body = checkBody(ShowRequest, request.body);
    const name = body.model || body.name;
    if (!name) throw new ApiError(400, 'model is required', { param: 'model' });
    const entry = await served.require(name, request);
    const facts = await factsFor(entry);
    const { defaults, path } = entry.spec;
    const { system, messages, license } = defaults;
    const template = defaults.template ?? facts.chatTemplate ?? '{{ .Prompt }}';
    const from = path === '' ? entry.name : path;
    const parameters = parameterList(defaults.parameters)
      .map(([key, value]) => `${key.padEnd(PARAMETER_COLUMN)} ${JSON.stringify(value)}`)
      .join('\n');
    return {
      ...(license.length === 0 ? {} : { license: license.join('\n') }),
      modelfile:
        `# Modelfile of ${entry.name}; to make another of it, write instead of FROM:\n# FROM ${name}\n\n` +
        writeModelfile(from, defaults),
      ...(parameters === '' ? {} : { parameters }),
      template,
      ...(system === undefined ? {} : { system }),
      ...(messages.length === 0 ? {} : { messages }),
      details: detailsOf(facts),
      model_info: modelInfo(facts, body.verbose === true),
      capabilities: capabilitiesOf(entry, facts),
      modified_at: facts.modifiedAt.toISOString(),
    };
  });
}

/**
 * Clients divide one by the other to say how much of a model is on the GPU: with every layer there it is all of it, though the table
 * of tokens stays in the computer's memory.
 */
function placement({ memory, device }: EngineInfo): { readonly size?: number; readonly size_vram: number } {
  if (!memory) return { size_vram: 0 };
  const whole = device.layers !== undefined && device.layersOffloaded === device.layers;
  return { size: memory.total, size_vram: whole ? memory.total : memory.device };
}

/** Long lists are left out unless asked for, and the template stands elsewhere. */
function modelInfo({ header }: ModelFacts, verbose: boolean): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(header)
      .filter(([key]) => key !== 'tokenizer.chat_template')
      .map(([key, value]) => [key, Array.isArray(value) && !verbose ? null : value]),
  );
}
