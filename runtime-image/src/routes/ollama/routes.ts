/**
 * Ollama's API: generating. Owns the order of checks; what they check lies beside.
 */
import type { FastifyInstance } from 'fastify';
import { ApiError } from '../../api-error.ts';
import type { ChatMessage } from '../../chat-template.ts';
import type { EndPart, Token } from '../../engines/engine.ts';
import type { LoadedModel } from '../../lifecycle.ts';
import { checkBody } from '../../schemas/check.ts';
import { ChatRequest, GenerateRequest } from '../../schemas/ollama.ts';
import { chatPrompt, sendStream, startAnswer, textPrompt, wholeAnswer } from '../answer.ts';
import type { ApiOptions } from '../openai/routes.ts';
import { refuseUnsupported, settingsOf } from './options.ts';
import { chatBody, finalReply, generateBody, loadedReply, type ReplyHead, streamFormat } from './replies.ts';

export function registerOllama(app: FastifyInstance, options: ApiOptions): void {
  const { lifecycle, metrics, served, now } = options;

  app.post('/api/chat', async (request, reply) => {
    const body = checkBody(ChatRequest, request.body);
    served.require(body.model);
    refuseUnsupported(body, body.model);
    const model = lifecycle.model();
    const settings = settingsOf(body.options, model.engine.info);
    const head: ReplyHead = { model: body.model, now };
    if (!body.messages?.length) return loaded(head, chatBody(''), body.keep_alive);
    const messages = body.messages.map(
      (message): ChatMessage => ({ role: message.role as ChatMessage['role'], content: message.content ?? '' }),
    );
    const generation = startAnswer(model, metrics, reply, { ...settings, prompt: chatPrompt(model, messages) });
    if (body.stream !== false) return sendStream(request, reply, generation, streamFormat(head, chatBody));
    const { text, end } = await wholeAnswer(generation);
    return finalReply(head, chatBody(text), end);
  });

  app.post('/api/generate', async (request, reply) => {
    const body = checkBody(GenerateRequest, request.body);
    served.require(body.model);
    refuseUnsupported(body, body.model);
    const model = lifecycle.model();
    const settings = settingsOf(body.options, model.engine.info);
    const head: ReplyHead = { model: body.model, now };
    if (!body.prompt) return loaded(head, generateBody(''), body.keep_alive);
    const prompt = generatePrompt(model, body);
    // Without `raw`, the answer carries what a client sends back to go on from here.
    const context = body.raw === true ? undefined : (end: EndPart) => [...prompt, ...end.tokens];
    const generation = startAnswer(model, metrics, reply, { ...settings, prompt });
    if (body.stream !== false) return sendStream(request, reply, generation, streamFormat(head, generateBody, context));
    const { text, end } = await wholeAnswer(generation);
    return finalReply(head, generateBody(text), end, context?.(end));
  });
}

function generatePrompt(model: LoadedModel, body: GenerateRequest): Token[] {
  const text = body.prompt ?? '';
  if (body.raw === true) {
    if (body.system !== undefined || body.context !== undefined)
      throw new ApiError(400, 'raw takes the prompt as it is: leave system and context out, or raw');
    return textPrompt(model, text);
  }
  const { engine, template } = model;
  const before = body.context ?? [];
  if (before.some((token) => token >= engine.info.model.vocabularySize))
    throw new ApiError(400, 'context must be the list of tokens that this model gave', { param: 'context' });
  const messages: ChatMessage[] = [{ role: 'user', content: text }];
  if (body.system) messages.unshift({ role: 'system', content: body.system });
  let prompt: Token[];
  if (template) prompt = textPrompt(model, template.render(messages));
  else if (body.system)
    throw new ApiError(400, 'this model has no chat template: put the system text into the prompt', {
      param: 'system',
    });
  else prompt = textPrompt(model, text);
  return before.length === 0 ? prompt : [...before, ...prompt];
}

/** A request without a prompt asks for loading, or with keep_alive 0 for unloading. */
function loaded(head: ReplyHead, body: Record<string, unknown>, keepAlive: number | string | undefined): unknown {
  if (keepAlive !== undefined && /^0+[a-zµ]*$/.test(String(keepAlive)))
    throw new ApiError(403, 'the model stays loaded as long as this server runs: scale the SLMDeployment instead');
  return loadedReply(head, body);
}
