/**
 * What one answer cost: counts its tokens and times as they come, for Prometheus and for the request's facts, whether it ends
 * or its client leaves. Never sees what was asked; keeps the answer's text only where the audit log is told to have it.
 */
import type { EndPart, TextPart } from '../engines/engine.ts';
import type { RequestFacts } from './facts.ts';
import type { AnswerLabels, Metrics } from './metrics.ts';

export class AnswerMeter {
  readonly #metrics: Metrics;
  readonly #facts: RequestFacts;
  readonly #labels: AnswerLabels;
  readonly #promptTokens: number;
  #tokens = 0;
  #lastPart: number | undefined;
  #done = false;

  constructor(metrics: Metrics, facts: RequestFacts, labels: AnswerLabels, promptTokens: number) {
    this.#metrics = metrics;
    this.#facts = facts;
    this.#labels = labels;
    this.#promptTokens = promptTokens;
  }

  text(part: TextPart): void {
    const now = performance.now();
    const { started } = this.#facts;
    this.#facts.firstPartMs ??= now - started;
    if (this.#lastPart === undefined) this.#metrics.firstToken(this.#labels, (now - started) / 1000);
    else this.#metrics.tokenGap(this.#labels, (now - this.#lastPart) / 1000);
    this.#lastPart = now;
    this.#tokens += part.tokens ?? 1;
    if (this.#facts.answer !== undefined) this.#facts.answer += part.text;
  }

  ended(end: EndPart): void {
    this.#count(end.promptTokens, end.completionTokens);
    this.#metrics.generationEnded(this.#labels, end, (performance.now() - this.#facts.started) / 1000);
  }

  /** Nobody reads any further; does nothing after the end. */
  left(): void {
    if (!this.#done) this.#count(this.#promptTokens, this.#tokens);
  }

  #count(promptTokens: number, completionTokens: number): void {
    this.#done = true;
    this.#metrics.tokens(this.#labels, promptTokens, completionTokens);
    // Several answers to one prompt read it once.
    this.#facts.promptTokens = Math.max(this.#facts.promptTokens, promptTokens);
    this.#facts.completionTokens += completionTokens;
  }
}
