/**
 * OpenAI's responses API, without its memory: nothing is stored.
 */
import type { FastifyInstance } from 'fastify';
import { maxTokensOf } from '../../modelfile/defaults.ts';
import { checkBody } from '../../schemas/check.ts';
import { ResponsesRequest } from '../../schemas/responses.ts';
import { sendStream, startAnswer } from '../answer.ts';
import { prepareChat } from '../chat.ts';
import { samplingOf, stopsOf } from '../openai/request.ts';
import type { ApiOptions } from '../openai/routes.ts';
import { ResponseWriter, streamFormat } from './replies.ts';
import { grammarOf, messagesOf, refuseUnsupported, toolsOf } from './request.ts';

export function registerResponses(app: FastifyInstance, options: ApiOptions): void {
  const { metrics, served, now } = options;
  app.post(
    '/v1/responses',
    { config: { summary: "Answers in the form of OpenAI's responses API", body: ResponsesRequest } },
    async (request, reply) => {
      const body = checkBody(ResponsesRequest, request.body);
      const entry = await served.require(body.model, request);
      refuseUnsupported(body);
      const model = await served.use(entry, reply);
      const grammar = grammarOf(body);
      const { temperature, top_p, tool_choice: choice, reasoning } = body;
      const chat = prepareChat(model, {
        messages: messagesOf(body),
        tools: toolsOf(body),
        toolChoice: typeof choice === 'object' ? { name: choice.name } : (choice ?? 'auto'),
        single: body.parallel_tool_calls === false || typeof choice === 'object',
        think: reasoning?.effort === 'none' ? false : (reasoning?.effort ?? undefined),
        answer: {
          maxTokens: body.max_output_tokens ?? maxTokensOf(model.defaults),
          stop: stopsOf(model.defaults.parameters),
          sampling: samplingOf(
            {
              model: body.model,
              ...(temperature === undefined ? {} : { temperature }),
              ...(top_p === undefined ? {} : { top_p }),
            },
            model.defaults,
          ),
          ...(grammar ? { grammar } : {}),
        },
        ...(body.truncation === 'auto'
          ? { overflow: { limit: model.engine.info.contextLength, truncate: true, shift: false, keep: undefined } }
          : {}),
      });
      const parts = startAnswer(model, metrics, reply, chat.request, chat.reading);
      const writer = new ResponseWriter(body, Math.floor(now() / 1000));
      if (body.stream === true) return sendStream(request, reply, parts, streamFormat(writer), writer.start());
      for await (const part of parts) writer.add(part);
      return writer.response;
    },
  );
}
