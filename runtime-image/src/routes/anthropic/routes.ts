/**
 * Anthropic's messages API.
 */
import type { FastifyInstance } from 'fastify';
import { CountRequest, MessagesRequest } from '../../schemas/anthropic.ts';
import { checkBody } from '../../schemas/check.ts';
import { type AnswerRequest, sendStream, startAnswer } from '../answer.ts';
import { prepareChat } from '../chat.ts';
import { samplingOf, stopsOf } from '../openai/request.ts';
import type { ApiOptions } from '../openai/routes.ts';
import { MessageWriter, streamFormat } from './replies.ts';
import { conversationOf } from './request.ts';

export function registerAnthropic(app: FastifyInstance, options: ApiOptions): void {
  const { metrics, served } = options;

  app.post(
    '/v1/messages',
    { config: { summary: "Answers to a conversation, in Anthropic's form", body: MessagesRequest } },
    async (request, reply) => {
      const body = checkBody(MessagesRequest, request.body);
      const entry = await served.require(body.model, request);
      const conversation = conversationOf(body);
      const model = await served.use(entry, reply);
      const { temperature, top_p, top_k } = body;
      const answer: Omit<AnswerRequest, 'prompt'> = {
        maxTokens: body.max_tokens,
        stop: body.stop_sequences ?? stopsOf(model.defaults.parameters),
        sampling: samplingOf(
          {
            model: body.model,
            ...(temperature === undefined ? {} : { temperature }),
            ...(top_p === undefined ? {} : { top_p }),
            ...(top_k === undefined ? {} : { top_k }),
          },
          model.defaults,
        ),
      };
      const chat = prepareChat(model, { ...conversation, answer });
      const parts = startAnswer(model, metrics, reply, chat.request, chat.reading);
      const writer = new MessageWriter(body.model, chat.request.prompt.length);
      if (body.stream === true) return sendStream(request, reply, parts, streamFormat(writer), writer.start());
      for await (const part of parts) writer.add(part);
      return writer.message;
    },
  );

  app.post(
    '/v1/messages/count_tokens',
    { config: { summary: 'The tokens of a conversation', body: CountRequest } },
    async (request, reply) => {
      const body = checkBody(CountRequest, request.body);
      const entry = await served.require(body.model, request);
      const conversation = conversationOf(body);
      const model = await served.use(entry, reply);
      const answer = { maxTokens: 1, stop: [], sampling: samplingOf({ model: body.model }, model.defaults) };
      const chat = prepareChat(model, { ...conversation, answer });
      return { input_tokens: chat.request.prompt.length };
    },
  );
}
