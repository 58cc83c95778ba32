/** Owns fake nodes beside the real ones, for scale tests: kwok plays their kubelets, and no pod on them runs anything. */
import type { Progress } from './progress.ts';

/** Makes `count` fake nodes join, and waits until they are Ready. */
export async function ensureKwokNodes(options: {
  readonly owner: string;
  readonly count: number;
  readonly progress: Progress;
}): Promise<void> {
  options.progress.note(`${options.count} fake nodes: not yet`);
}
