/**
 * Messages to prompt text, by the Jinja template that the model brings along. Owns no template of its own.
 */
import { Template } from '@huggingface/jinja';
import { ApiError } from './api-error.ts';

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

export interface TemplateTokens {
  readonly bosToken: string;
  readonly eosToken: string;
}

export class ChatTemplate {
  readonly #template: Template;
  readonly #tokens: TemplateTokens;

  /** @throws Error when the template cannot be parsed */
  constructor(source: string, tokens: TemplateTokens) {
    this.#template = new Template(source);
    this.#tokens = tokens;
  }

  /**
   * @returns the prompt, ended so that the assistant speaks next
   * @throws ApiError (400) when the template refuses the messages, such as two of the user in a row
   */
  render(messages: readonly ChatMessage[]): string {
    try {
      return this.#template.render({
        messages,
        add_generation_prompt: true,
        bos_token: this.#tokens.bosToken,
        eos_token: this.#tokens.eosToken,
      });
    } catch (error) {
      const said = error instanceof Error ? error.message : String(error);
      throw new ApiError(400, `the model's chat template refuses these messages: ${said}`, { param: 'messages' });
    }
  }
}
