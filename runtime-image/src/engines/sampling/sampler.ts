/**
 * Sampling of one generation in TypeScript, for engines whose library gives logits and nothing more: biases, the ban on
 * ending too early, penalties, grammar, choice, scores. In llama.cpp's order, so that both engines read a request alike.
 */
import { NO_TOKEN, type Pick, type SamplerRequest, type Token } from '../../scheduling/decoder.ts';
import { chooseToken } from './choice.ts';
import type { AnswerGrammar } from './grammar.ts';
import { SeededRandom } from './random.ts';
import { scoresOf } from './scores.ts';

export interface SamplingModel {
  /** Tokens of context; the penalties look back no farther. */
  readonly contextLength: number;
  /** Tokens that end an answer. */
  readonly endTokens: readonly Token[];
}

export class GenerationSampler {
  readonly #request: SamplerRequest;
  readonly #model: SamplingModel;
  readonly #grammar: AnswerGrammar | undefined;
  readonly #random: SeededRandom;
  /** Prompt and answer, as far back as the penalties look. */
  readonly #recent: Token[];
  readonly #lookBack: number;
  #generated = 0;

  /** @param history the prompt */
  constructor(
    request: SamplerRequest,
    history: readonly Token[],
    model: SamplingModel,
    grammar: AnswerGrammar | undefined,
  ) {
    this.#request = request;
    this.#model = model;
    this.#grammar = grammar;
    this.#random = new SeededRandom(request.seed);
    const { repeatPenalty, presencePenalty, frequencyPenalty, repeatLastN } = request;
    const penalised = repeatPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;
    const window = repeatLastN < 0 ? model.contextLength : Math.min(repeatLastN, model.contextLength);
    this.#lookBack = penalised ? window : 0;
    this.#recent = this.#lookBack > 0 ? history.slice(-this.#lookBack) : [];
  }

  /**
   * @param logits as the model gave them; left as they are
   * @param work room for as many; its content is lost
   */
  next(logits: Float32Array, work: Float32Array): Pick {
    work.set(logits);
    this.#adjust(work);
    let token = chooseToken(work, this.#request, this.#random);
    if (token !== NO_TOKEN && this.#grammar && !this.#grammar.allows(token)) {
      // Most tokens that a model wants fit; only where one does not, all of them are looked at.
      this.#grammar.mask(work);
      token = chooseToken(work, this.#request, this.#random);
    }
    if (token === NO_TOKEN) return { token };
    this.#grammar?.accept(token);
    this.#generated++;
    if (this.#lookBack > 0) {
      this.#recent.push(token);
      if (this.#recent.length > this.#lookBack) this.#recent.shift();
    }
    return this.#request.logprobs === undefined
      ? { token }
      : { token, ...scoresOf(logits, token, this.#request.logprobs) };
  }

  #adjust(logits: Float32Array): void {
    const { logitBias, repeatPenalty, presencePenalty, frequencyPenalty, ignoreEos, minTokens } = this.#request;
    for (const [token, bias] of logitBias)
      if (token >= 0 && token < logits.length) logits[token] = (logits[token] as number) + bias;
    if (ignoreEos === true || this.#generated < (minTokens ?? 0))
      for (const token of this.#model.endTokens) if (token < logits.length) logits[token] = Number.NEGATIVE_INFINITY;
    if (this.#lookBack === 0) return;
    const counts = new Map<Token, number>();
    for (const token of this.#recent) counts.set(token, (counts.get(token) ?? 0) + 1);
    for (const [token, count] of counts) {
      if (token < 0 || token >= logits.length) continue;
      const logit = logits[token] as number;
      // A penalty must lower: negative logits move away from zero.
      const repeated = logit <= 0 ? logit * repeatPenalty : logit / repeatPenalty;
      logits[token] = repeated - count * frequencyPenalty - presencePenalty;
    }
  }
}
