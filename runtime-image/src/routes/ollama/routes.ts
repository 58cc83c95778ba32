/**
 * Ollama's API: generating. Owns the order of checks; what they check lies beside.
 */
import type { FastifyInstance } from 'fastify';
import { ApiError } from '../../api-error.ts';
import type { ChatMessage } from '../../chat-template.ts';
import type { EndPart, Token } from '../../engines/engine.ts';
import type { LoadedModel } from '../../lifecycle.ts';
import { GoChatTemplate } from '../../modelfile/go-chat-template.ts';
import { checkBody } from '../../schemas/check.ts';
import { ChatRequest, GenerateRequest } from '../../schemas/ollama.ts';
import { type AnswerRequest, sendStream, startAnswer, textPrompt, wholeAnswer } from '../answer.ts';
import { type PreparedChat, parsedArguments, prepareChat } from '../chat.ts';
import { fitTokens, type Overflow } from '../fitting.ts';
import { infillPrompt } from '../infill.ts';
import { toolsOf } from '../openai/request.ts';
import type { ApiOptions } from '../openai/routes.ts';
import { answerOf, keepAliveOf, overflowOf, refuseUnsupported } from './options.ts';
import { chatBody, generateBody, loadedReply, type ReplyHead, streamFormat, wholeReply } from './replies.ts';

export function registerOllama(app: FastifyInstance, options: ApiOptions): void {
  const { metrics, served, now } = options;

  app.post(
    '/api/chat',
    { config: { summary: 'Answers to a conversation', body: ChatRequest } },
    async (request, reply) => {
      const body = checkBody(ChatRequest, request.body);
      const entry = await served.require(body.model, request);
      refuseUnsupported(body, body.model);
      const keepAlive = keepAliveOf(body.keep_alive);
      const head: ReplyHead = { model: body.model, now, facts: request.facts };
      if (!body.messages?.length && keepAlive === 0) {
        await served.expire(entry);
        return loadedReply(head, chatBody({}), 'unload');
      }
      const model = await served.use(entry, reply, keepAlive);
      const answer = answerOf(body, model);
      if (!body.messages?.length) return loadedReply(head, chatBody({}), 'load');
      const chat = prepareChat(model, {
        messages: messagesOf(body.messages),
        tools: toolsOf(body.tools),
        toolChoice: 'auto',
        single: false,
        think: body.think,
        answer,
        overflow: overflowOf(body, model),
      });
      const parts = startAnswer(model, metrics, reply, chat.request, chat.reading);
      if (body.stream !== false) return sendStream(request, reply, parts, streamFormat(head, chatBody));
      return wholeReply(head, chatBody, await wholeAnswer(parts));
    },
  );

  app.post(
    '/api/generate',
    { config: { summary: 'An answer to a text', body: GenerateRequest } },
    async (request, reply) => {
      const body = checkBody(GenerateRequest, request.body);
      const entry = await served.require(body.model, request);
      refuseUnsupported(body, body.model);
      const keepAlive = keepAliveOf(body.keep_alive);
      const head: ReplyHead = { model: body.model, now, facts: request.facts };
      if (!body.prompt && !body.suffix && keepAlive === 0) {
        await served.expire(entry);
        return loadedReply(head, generateBody({}), 'unload');
      }
      const model = await served.use(entry, reply, keepAlive);
      const answer = answerOf(body, model);
      if (!body.prompt && !body.suffix) return loadedReply(head, generateBody({}), 'load');
      const prepared = prepareGenerate(withTemplate(model, body.template), body, answer, overflowOf(body, model));
      const { prompt } = prepared.request;
      // Without `raw`, the answer carries what a client sends back to go on from here.
      const context = body.raw === true ? undefined : (end: EndPart) => [...prompt, ...end.tokens];
      const parts = startAnswer(model, metrics, reply, prepared.request, prepared.reading);
      if (body.stream !== false) return sendStream(request, reply, parts, streamFormat(head, generateBody, context));
      return wholeReply(head, generateBody, await wholeAnswer(parts), context);
    },
  );
}

function messagesOf(messages: NonNullable<ChatRequest['messages']>): ChatMessage[] {
  return messages.map((message): ChatMessage => {
    const calls = message.tool_calls ?? [];
    return {
      role: message.role,
      content: message.content ?? '',
      ...(message.thinking == null ? {} : { reasoning_content: message.thinking }),
      ...(message.tool_name == null ? {} : { name: message.tool_name }),
      ...(message.tool_call_id == null ? {} : { tool_call_id: message.tool_call_id }),
      ...(calls.length === 0
        ? {}
        : {
            tool_calls: calls.map((call) => ({
              ...(call.id == null ? {} : { id: call.id }),
              type: 'function' as const,
              function: { name: call.function.name, arguments: parsedArguments(call.function.arguments) },
            })),
          }),
    };
  });
}

/** The model with a request's own template. @throws ApiError (400) for one that cannot be parsed */
function withTemplate(model: LoadedModel, source: string | undefined): LoadedModel {
  if (!source) return model;
  try {
    return { ...model, template: new GoChatTemplate(source, { controlTokens: () => model.engine.controlTokens }) };
  } catch (error) {
    throw new ApiError(400, `template cannot be used: ${error instanceof Error ? error.message : String(error)}`, {
      param: 'template',
    });
  }
}

/** @throws ApiError (400) for settings that exclude each other, and for what the model cannot do */
function prepareGenerate(
  model: LoadedModel,
  body: GenerateRequest,
  answer: PreparedChatAnswer,
  overflow: Overflow,
): PreparedChat {
  const text = body.prompt ?? '';
  const alone = (name: string) => {
    if (body.system !== undefined || body.context !== undefined || body.template)
      throw new ApiError(400, `${name} takes the prompt as it is: leave system, template and context out, or ${name}`);
    if (body.think !== undefined && body.think !== false)
      throw new ApiError(400, `${name} takes the prompt as it is: leave think out, or ${name}`, { param: 'think' });
  };
  if (body.suffix) {
    alone('suffix');
    return { request: { ...answer, prompt: infillPrompt(model, text, body.suffix) }, reading: undefined };
  }
  if (body.raw === true) {
    alone('raw');
    return { request: fitted(answer, textPrompt(model, text), overflow), reading: undefined };
  }
  const before = body.context ?? [];
  if (before.some((token) => token >= model.engine.info.model.vocabularySize))
    throw new ApiError(400, 'context must be the list of tokens that this model gave', { param: 'context' });
  if (!model.template) {
    if (body.system)
      throw new ApiError(400, 'this model has no chat template: put the system text into the prompt', {
        param: 'system',
      });
    if (body.think !== undefined && body.think !== false)
      throw new ApiError(400, 'this model does not support thinking: leave think out', { param: 'think' });
    return { request: fitted(answer, [...before, ...textPrompt(model, text)], overflow), reading: undefined };
  }
  const messages: ChatMessage[] = [{ role: 'user', content: text }];
  if (body.system) messages.unshift({ role: 'system', content: body.system });
  const { request, reading } = prepareChat(model, {
    messages,
    tools: [],
    toolChoice: 'none',
    single: false,
    think: body.think,
    answer,
    ...(before.length === 0 ? { overflow } : {}),
    ...(body.context === undefined ? {} : { continued: true }),
  });
  if (before.length === 0) return { request, reading };
  return { request: fitted(request, [...before, ...request.prompt], overflow), reading };
}

function fitted(answer: Omit<AnswerRequest, 'prompt'>, tokens: Token[], overflow: Overflow): AnswerRequest {
  const { rendered, keep } = fitTokens(tokens, overflow, answer.maxTokens);
  return { ...answer, ...rendered, ...(keep ? { keep } : {}) };
}

type PreparedChatAnswer = ReturnType<typeof answerOf>;
