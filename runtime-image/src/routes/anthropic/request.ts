/**
 * Anthropic's request to our terms.
 */
import { ApiError } from '../../api-error.ts';
import type { ChatMessage } from '../../chat-template.ts';
import type { Block, CountRequest } from '../../schemas/anthropic.ts';
import type { ChatTask, ToolChoice } from '../chat.ts';

/** @throws ApiError (400) for blocks that only a model with eyes could take, and for tools that run elsewhere */
export function conversationOf(body: CountRequest): Omit<ChatTask, 'answer'> {
  const messages: ChatMessage[] = [];
  if (body.system !== undefined) {
    const content = textOf(body.system, 'system');
    if (content !== '') messages.push({ role: 'system', content });
  }
  body.messages.forEach((message, index) => {
    const param = `messages[${index}].content`;
    if (typeof message.content === 'string') messages.push({ role: message.role, content: message.content });
    else if (message.role === 'user') messages.push(...userMessages(message.content, param));
    else messages.push(assistantMessage(message.content, param));
  });
  const choice = body.tool_choice;
  return {
    messages,
    tools: (body.tools ?? []).map((tool, index) => {
      if (tool.type != null && tool.type !== 'custom')
        throw new ApiError(
          400,
          `tools[${index}].type is ${tool.type}, which does not run here: use tools of your own`,
          {
            param: `tools[${index}].type`,
          },
        );
      return {
        name: tool.name,
        ...(tool.description == null ? {} : { description: tool.description }),
        parameters: (tool.input_schema ?? { type: 'object', properties: {} }) as Record<string, unknown>,
      };
    }),
    toolChoice: toolChoiceOf(choice),
    single: choice?.disable_parallel_tool_use === true,
    think:
      body.thinking === undefined || body.thinking.type === 'adaptive' ? undefined : body.thinking.type === 'enabled',
  };
}

function toolChoiceOf(choice: CountRequest['tool_choice']): ToolChoice {
  switch (choice?.type) {
    case 'none':
      return 'none';
    case 'any':
      return 'required';
    case 'tool':
      if (choice.name === undefined)
        throw new ApiError(400, 'tool_choice.name is required', { param: 'tool_choice.name' });
      return { name: choice.name };
    default:
      return 'auto';
  }
}

/** Results of tools come as blocks of the user's; templates want a message for each. */
function userMessages(blocks: readonly Block[], param: string): ChatMessage[] {
  const results = blocks.flatMap((block): ChatMessage[] =>
    block.type === 'tool_result'
      ? [
          {
            role: 'tool',
            content: textOf(block.content ?? '', `${param}.content`),
            ...(block.tool_use_id === undefined ? {} : { tool_call_id: block.tool_use_id }),
          },
        ]
      : [],
  );
  const rest = blocks.filter((block) => block.type !== 'tool_result');
  if (rest.length === 0 && results.length > 0) return results;
  return [...results, { role: 'user', content: textOf(rest, param) }];
}

function assistantMessage(blocks: readonly Block[], param: string): ChatMessage {
  const calls = blocks.filter((block) => block.type === 'tool_use');
  const thinking = blocks.map((block) => (block.type === 'thinking' ? (block.thinking ?? '') : '')).join('');
  const rest = blocks.filter((block) => !['tool_use', 'thinking', 'redacted_thinking'].includes(block.type));
  return {
    role: 'assistant',
    content: textOf(rest, param),
    ...(thinking === '' ? {} : { reasoning_content: thinking }),
    ...(calls.length === 0
      ? {}
      : {
          tool_calls: calls.map((call) => ({
            ...(call.id === undefined ? {} : { id: call.id }),
            type: 'function' as const,
            function: { name: call.name ?? '', arguments: call.input ?? {} },
          })),
        }),
  };
}

function textOf(content: string | readonly { readonly type: string; readonly text?: string }[], param: string): string {
  if (typeof content === 'string') return content;
  return content
    .map((block, index) => {
      if (block.type === 'text' && block.text !== undefined) return block.text;
      throw new ApiError(400, `this model reads text only: ${param}[${index}] has the type "${block.type}"`, { param });
    })
    .join('');
}
